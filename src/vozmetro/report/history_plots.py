"""A trend as a plot. Needs the extra `plots`; matplotlib is imported inside the functions."""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from vozmetro.i18n import t
from vozmetro.judge.trend import Point, Trend
from vozmetro.report.plots import DARK, drawing, label_name, legend

_STYLES = (("#1a1a1a", "o", "-"), ("#1f5fa8", "s", "--"), ("#e08214", "^", ":"),
           ("#7b3294", "D", "-."))  # fmt: skip
_MOST = len(_STYLES)
"""Trends in one plot; more would hide each other."""
_SCALES = {"peak_ram": 1e-6, "wer": 100.0}


def trend_plot(found: Sequence[Trend], metric: str, lang: str, kind: str = "png") -> bytes | None:
    """Returns trends over time with their intervals, what is beyond noise ringed.

    Args:
        found: The first four with most points are drawn.
        metric: One of `judge.trend.METRICS`.
        lang: Of title and labels.
        kind: `png` or `svg`.

    Returns:
        None where there is nothing to draw.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    drawn = sorted(found, key=lambda one: -len(one.points))[:_MOST]
    drawn = [one for one in drawn if any(point.row.at is not None for point in one.points)]
    if not drawn:
        return None
    with drawing() as (figure, axis):
        for trend, style in zip(drawn, _STYLES, strict=False):
            _draw(axis, trend, _SCALES.get(metric, 1.0), style, lang)
        axis.set_title(t("history.plot_title", lang, metric=t(f"gate.metric_{metric}", lang)))
        axis.set_ylabel(t(f"history.axis_{metric}", lang))
        axis.set_xlabel(t("history.axis_time", lang))
        axis.tick_params(axis="x", labelrotation=20)
        legend(figure, axis)
        return _saved(figure, kind)


def _draw(axis: Any, trend: Trend, scale: float, style: tuple[str, str, str], lang: str) -> None:
    color, marker, dashes = style
    points = [point for point in trend.points if point.row.at is not None]
    times = [datetime.fromtimestamp(point.row.at or 0.0, UTC) for point in points]
    values = [scale * point.value.value for point in points]
    axis.errorbar(
        times, values, yerr=_bars(points, scale), color=color, marker=marker, ms=4, lw=1.0,
        ls=dashes, elinewidth=0.8, capsize=2,
        label=f"{label_name(trend.subject, 30)} · {label_name(trend.machine, 30)}",
    )  # fmt: skip
    beyond = [index for index, point in enumerate(points) if point.mark]
    if beyond:
        axis.plot(
            [times[index] for index in beyond], [values[index] for index in beyond], ls="",
            marker="o", ms=11, mfc="none", mec=DARK, mew=1.4, label=t("history.beyond", lang),
        )  # fmt: skip


def _bars(points: Sequence[Point], scale: float) -> list[list[float]]:
    """Distances to the ends of the intervals; none where an end is not known."""
    low = [scale * (p.value.value - p.value.low) if p.value.low is not None else 0 for p in points]
    high = [
        scale * (p.value.high - p.value.value) if p.value.high is not None else 0 for p in points
    ]
    return [low, high]


def _saved(figure: Any, kind: str) -> bytes:
    data = io.BytesIO()
    # No date or version inside: the same history gives the same bytes.
    about = {"Software": None} if kind == "png" else {"Date": None, "Creator": None}
    figure.savefig(data, format=kind, metadata=about)
    return data.getvalue()
