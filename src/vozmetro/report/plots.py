"""Plots as PNG, about 1200 pixels wide, that stay readable in grey. Needs the extra `plots`.

matplotlib is imported inside the functions: most commands draw nothing, and it takes half a second.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from vozmetro.errors import MissingExtraError
from vozmetro.i18n import t
from vozmetro.judge.comparison import Comparison, log_ratios
from vozmetro.judge.decision import Decision
from vozmetro.judge.statistics import Interval, RunSummary, Summary
from vozmetro.measure.records import Run
from vozmetro.report.formatting import (
    LATENCY,
    SUMMARY_PERCENT,
    clip,
    number,
    pair_names,
    subject_name,
)
from vozmetro.units import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH, _HEIGHT, _DPI = 8.0, 4.6, 150
# A spread wider than this hides the fast samples on a linear axis.
_LOG_SPREAD = 20.0
# Dark to light, so that grey prints keep them apart; each also has its own dashes or marker.
DARK, BLUE, ORANGE = "#1a1a1a", "#1f5fa8", "#e08214"
_BARS, _PALE = "#9dbbe0", "#c9d7e8"
_DASHES = {"p50": "-", "p90": "--", "p99": ":"}


@contextmanager
def drawing(rows: int = 1, columns: int = 1, **options: Any) -> Iterator[tuple[Figure, Any]]:
    """Yields a figure and its axes, with settings that outside text cannot upset.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("plots", "matplotlib") from error
    style: Any = {
        "text.parse_math": False,  # a "$" in a model's name is a "$"
        "font.size": 9,
        "axes.titlesize": 11,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": "#dddddd",
        "grid.linewidth": 0.6,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.framealpha": 0.9,
        "legend.fontsize": 8,
    }
    with mpl.rc_context(style), warnings.catch_warnings():
        # A name in a script that the font lacks shows as boxes; that is no reason to stop.
        warnings.filterwarnings("ignore", message="Glyph")
        figure = Figure(figsize=(_WIDTH, _HEIGHT), dpi=_DPI, layout="constrained")
        FigureCanvasAgg(figure)
        yield figure, figure.subplots(rows, columns, **options)


def png(figure: Figure) -> bytes:
    """Returns a figure as PNG."""
    data = io.BytesIO()
    # No date or version inside: the same run gives the same bytes.
    figure.savefig(data, format="png", metadata={"Software": None})
    return data.getvalue()


def label_name(text: str, width: int = 44) -> str:
    """Returns a name that fits a plot."""
    return clip(plain(text), width)


def scale(axis: Any, which: str, values: Sequence[float]) -> bool:
    """Makes an axis logarithmic where the values spread too far; returns whether it did."""
    low, high = min(values), max(values)
    if low <= 0 or high / low <= _LOG_SPREAD:
        return False
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    getattr(axis, f"set_{which}scale")("log")
    ticks = getattr(axis, f"{which}axis")
    ticks.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
    ticks.set_major_formatter(ScalarFormatter())
    ticks.set_minor_formatter(NullFormatter())
    return True


def _bins(values: Sequence[float], *, log: bool) -> Any:
    count = min(60, max(10, int(1.5 * len(values) ** 0.5)))
    low, high = min(values), max(values)
    if low == high:
        low, high = low * 0.99, high * 1.01
    return np.geomspace(low, high, count) if log else np.linspace(low, high, count)


def _histogram(axis: Axes, values: Sequence[float], *, log: bool) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.hist(values, bins=_bins(values, log=log), color=_BARS, edgecolor="white", lw=0.4)
    axis.yaxis.set_major_locator(MaxNLocator(integer=True))


def _band(axis: Axes, interval: Interval, color: str, label: str) -> None:
    if interval.low is not None and interval.high is not None:
        axis.axvspan(interval.low, interval.high, color=color, alpha=0.35, lw=0, label=label)


def _ecdf(axis: Axes, values: Sequence[float], **style: Any) -> None:
    ordered = sorted(values)
    heights = [(index + 1) / len(ordered) for index in range(len(ordered))]
    axis.step([ordered[0], *ordered], [0.0, *heights], where="post", **style)


def legend(figure: Figure, axis: Axes) -> None:
    """Puts the legend under the axes, where it hides no sample."""
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncol=3)


def _latency_label(lang: str, *, log: bool) -> str:
    return t("plots.latency_axis_log" if log else "plots.latency_axis", lang)


def latency_distribution(run: Run, summary: RunSummary, decision: Decision, lang: str) -> bytes:
    """Returns the latencies as a histogram over their cumulative curve, with the limits.

    Args:
        run: What was measured.
        summary: Its statistics, for the P50 and its interval.
        decision: Its verdict, for the limits.
        lang: Of titles and labels.
    """
    values = run.latencies_ms()
    limits = {name: decision.check(name).limit for name in LATENCY}
    p50 = summary.overall.p50
    with drawing(2, 1, sharex=True, height_ratios=(3, 2)) as (figure, (top, bottom)):
        log = scale(top, "x", [*values, *limits.values()])
        _histogram(top, values, log=log)
        _ecdf(bottom, values, color=BLUE, lw=1.8)
        for axis in (top, bottom):
            _band(axis, p50, ORANGE, t("plots.p50_band", lang, percent=SUMMARY_PERCENT))
            axis.axvline(
                p50.value,
                color=ORANGE,
                lw=1.6,
                label=t("plots.p50_line", lang, value=number(p50.value)),
            )
            for name, limit in limits.items():
                label = t("plots.limit_line", lang, name=name.upper(), value=f"{limit:g}")
                axis.axvline(limit, color=DARK, lw=1.4, ls=_DASHES[name], label=label)
        for height in (0.5, 0.9, 0.99):
            bottom.axhline(height, color="#999999", lw=0.6)
        bottom.set_yticks([0, 0.5, 0.9, 1])
        top.set(title=t("plots.latency_title", lang, name=label_name(subject_name(run))))
        top.set_ylabel(t("plots.density", lang))
        bottom.set(
            xlabel=_latency_label(lang, log=log), ylabel=t("plots.ecdf", lang), ylim=(0, 1.02)
        )
        legend(figure, top)
        return png(figure)


def latency_by_length(run: Run, summary: RunSummary, decision: Decision, lang: str) -> bytes | None:
    """Returns latency against the length of audio or prompt; None where there is only one.

    Args:
        run: What was measured.
        summary: Its statistics by item.
        decision: Its verdict, for the P50 limit.
        lang: Of titles and labels.
    """
    is_lm = run.subject.kind == "lm"
    lengths = {item.id: float(item.tokens) if is_lm else item.seconds for item in run.items}
    measured = {name: lengths[name] for name in summary.per_item if lengths.get(name, 0) > 0}
    if len(set(measured.values())) < 2:
        return None
    points = [(lengths[s.item], s.ms) for s in run.samples if s.item in measured]
    items = [(measured[name], summary.per_item[name]) for name in measured]
    limit = decision.check("p50").limit
    with drawing() as (figure, axis):
        log = scale(axis, "y", [limit, *(ms for _, ms in points)])
        axis.scatter(
            *zip(*points, strict=True),
            s=9,
            color=_PALE,
            edgecolor="#8fa5bf",
            lw=0.4,
            label=t("plots.samples", lang),
        )
        _length_points(axis, items, lang)
        axis.axhline(
            limit,
            color=DARK,
            lw=1.4,
            label=t("plots.limit_line", lang, name="P50", value=f"{limit:g}"),
        )
        title = "plots.prompt_title" if is_lm else "plots.length_title"
        axis.set_title(t(title, lang, name=label_name(subject_name(run))))
        label = t("plots.prompt_axis" if is_lm else "plots.length_axis", lang)
        axis.set(xlabel=label, ylabel=_latency_label(lang, log=log))
        axis.set_xlim(left=0)
        if not log:
            axis.set_ylim(bottom=0)
        legend(figure, axis)
        return png(figure)


def _length_points(axis: Axes, items: Sequence[tuple[float, Summary]], lang: str) -> None:
    """Draws each item's P50 with its interval, and its P90, at its length."""
    xs = [x for x, _ in items]
    p50s = [item.p50 for _, item in items]
    bars = [
        [p.value - (p.value if p.low is None else p.low) for p in p50s],
        [(p.value if p.high is None else p.high) - p.value for p in p50s],
    ]
    label = t("plots.p50_points", lang, percent=SUMMARY_PERCENT)
    values = [p.value for p in p50s]
    axis.errorbar(xs, values, yerr=bars, fmt="o", color=DARK, ms=5, capsize=3, lw=1.2, label=label)
    axis.scatter(
        xs,
        [item.p90.value for _, item in items],
        marker="^",
        s=32,
        color=ORANGE,
        edgecolor=DARK,
        lw=0.6,
        zorder=3,
        label=t("plots.p90_points", lang),
    )


def samples_over_time(run: Run, lang: str) -> bytes:
    """Returns every inference in the order taken, blocks shaded by turns.

    Args:
        run: What was measured.
        lang: Of titles and labels.
    """
    xs = [sample.at_s for sample in run.samples]
    ys = [sample.ms for sample in run.samples]
    with drawing() as (figure, axis):
        log = scale(axis, "y", ys)
        spans: dict[int, tuple[float, float]] = {}
        for sample in run.samples:
            low, high = spans.get(sample.block, (sample.at_s, sample.at_s))
            end = sample.at_s + sample.ms / 1000
            spans[sample.block] = (min(low, sample.at_s), max(high, end))
        shaded = [span for index, span in enumerate(spans.values()) if index % 2]
        for index, (low, high) in enumerate(shaded):
            label = t("plots.blocks", lang) if index == 0 else None
            axis.axvspan(low, high, color="#e9e9e9", lw=0, label=label)
        starts: dict[int, float] = {}
        for sample in run.samples:
            starts.setdefault(sample.session, sample.at_s)
        for index, start in enumerate([*starts.values()][1:]):
            label = t("plots.session", lang) if index == 0 else None
            axis.axvline(start, color=DARK, lw=1.2, ls="--", label=label)
        axis.scatter(xs, ys, s=10, color=BLUE, lw=0, label=t("plots.samples", lang))
        axis.set_title(t("plots.time_title", lang, name=label_name(subject_name(run))))
        axis.set(xlabel=t("plots.time_axis", lang), ylabel=_latency_label(lang, log=log))
        if not log:
            axis.set_ylim(bottom=0)
        legend(figure, axis)
        return png(figure)


def comparison_plot(comparison: Comparison, lang: str) -> bytes | None:
    """Returns A against B: the ratio of each pair, and the distribution of each.

    None where no pair is complete.

    Args:
        comparison: What was measured, judged.
        lang: Of titles and labels.
    """
    record = comparison.record
    ratios = [float(ratio) for ratio in np.exp(log_ratios(record.a, record.b))]
    if not ratios:
        return None
    a, b = record.a.latencies_ms(), record.b.latencies_ms()
    names = [label_name(name, 34) for name in pair_names(record)]
    with drawing(1, 2) as (figure, (left, right)):
        log = scale(left, "x", [*ratios, 1.0])
        _histogram(left, ratios, log=log)
        _band(left, comparison.ratio, ORANGE, t("plots.ratio_band", lang, percent=SUMMARY_PERCENT))
        value = f"{comparison.ratio.value:.3f}"
        left.axvline(
            comparison.ratio.value,
            color=ORANGE,
            lw=1.6,
            label=t("plots.ratio_line", lang, value=value),
        )
        left.axvline(1.0, color=DARK, lw=1.4, ls="--", label=t("plots.equal", lang))
        left.set_title(t("plots.ratio_title", lang))
        axis_name = "plots.ratio_axis_log" if log else "plots.ratio_axis"
        left.set(xlabel=t(axis_name, lang), ylabel=t("plots.pairs", lang))
        log = scale(right, "x", [*a, *b])
        _ecdf(right, a, color=BLUE, lw=2.0, label="A")
        _ecdf(right, b, color=ORANGE, lw=2.0, ls="--", label="B")
        limit = comparison.decision_a.check("p50").limit
        right.axvline(
            limit,
            color=DARK,
            lw=1.2,
            ls=":",
            label=t("plots.limit_line", lang, name="P50", value=f"{limit:g}"),
        )
        right.set_title(t("plots.both_title", lang))
        right.set(
            xlabel=_latency_label(lang, log=log), ylabel=t("plots.ecdf", lang), ylim=(0, 1.02)
        )
        for axis in (left, right):
            axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncol=1)
        figure.suptitle(t("plots.comparison_title", lang, a=names[0], b=names[1]), fontsize=11)
        return png(figure)
