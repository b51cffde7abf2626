"""Plots of quality: word errors against latency, and against noise. Needs the extra `plots`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vozmetro.judge.statistics import percentile
from vozmetro.quality.noise_curve import NoiseCurve
from vozmetro.quality.summary import Row, SystemQuality
from vozmetro.report.canvas import (
    BLUE,
    DARK,
    GREEN,
    ORANGE,
    PURPLE,
    Where,
    canvas_of,
    label_name,
    scale,
)
from vozmetro.units import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARKERS = "osD^vP*X"
_COLORS = (BLUE, ORANGE, DARK, GREEN, PURPLE)
_LINES = ("-", "--", "-.", ":")


def words_against_latency(
    points: Sequence[tuple[str, Row]], limit_ms: float, where: Where
) -> bytes:
    """Returns WER against the median latency, one point for each subject.

    Args:
        points: Names, and the rows of the same utterances as recorded.
        limit_ms: The P50 limit, drawn as a line.
        where: Language of a PNG file, or what to draw on.
    """
    canvas = canvas_of(where)
    import numpy as np

    with canvas.drawing() as (drawn, axis):
        middles = [percentile(np.array(row.ms), 0.5) for _, row in points]
        for index, ((name, row), middle) in enumerate(zip(points, middles, strict=True)):
            axis.errorbar(
                middle.value,
                100 * row.wer.value,
                xerr=[
                    [middle.value - (middle.low or middle.value)],
                    [(middle.high or middle.value) - middle.value],
                ],
                yerr=_bars([(row.wer.value, row.wer.low, row.wer.high)]),
                fmt=_MARKERS[index % len(_MARKERS)],
                color=_COLORS[index % len(_COLORS)],
                ms=7,
                capsize=3,
                lw=1.2,
                label=label_name(name),
            )
        scale(axis, "x", [limit_ms, *(middle.value for middle in middles)])
        axis.axvline(
            limit_ms, color=DARK, lw=1.2, ls=":",
            label=canvas.say("limit_line", name="P50", value=f"{limit_ms:g}"),
        )  # fmt: skip
        canvas.title(axis, canvas.say("words_latency_title"))
        axis.set(xlabel=canvas.say("latency_axis"), ylabel=canvas.say("wer_axis"))
        axis.set_ylim(bottom=0)
        canvas.legend(drawn, axis)
        return canvas.finish(drawn)


def words_against_noise(systems: Sequence[SystemQuality], where: Where) -> bytes | None:
    """Returns WER against SNR, a line for each subject and kind of noise; None where none has one.

    Args:
        systems: With their curves.
        where: Language of a PNG file, or what to draw on.
    """
    canvas = canvas_of(where)
    curves = [(one.name, kind, curve) for one in systems for kind, curve in one.curves.items()]
    if not curves:
        return None
    grid = sorted(
        {point.snr_db for _, _, one in curves for point in one.points if point.snr_db is not None}
    )
    grid = grid or [0.0]
    # Clean speech has no SNR: it stands a step beyond the quietest noise.
    clean = grid[-1] + max(5.0, (grid[-1] - grid[0]) / 4)
    with canvas.drawing() as (drawn, axis):
        for index, (name, kind, curve) in enumerate(curves):
            # Beside each other, or their intervals would hide one another.
            shift = 0.012 * (clean - grid[0]) * (index - (len(curves) - 1) / 2)
            label = f"{label_name(name, 30)} · {plain(kind)}"
            _curve(axis, curve, label, index=index, clean=clean, shift=shift)
        canvas.title(axis, canvas.say("words_noise_title"))
        axis.set(xlabel=canvas.say("snr_axis"), ylabel=canvas.say("wer_axis"))
        ticks = sorted({*grid, 0.0} if grid[0] <= 0 else grid)
        names = [*(f"{snr:g}" for snr in ticks), canvas.say("clean")]
        axis.set_xticks([*ticks, clean], names)
        axis.set_ylim(bottom=0)
        # From quiet to loud, as the noise grows.
        axis.set_xlim(clean + 2, grid[0] - 2)
        canvas.legend(drawn, axis)
        return canvas.finish(drawn)


def _bars(estimates: Sequence[tuple[float, float, float]]) -> list[list[float]]:
    """Lengths of error bars in percent, below and above, of values with their ends."""
    ends = [(value - low, high - value) for value, low, high in estimates]
    # An end that is not known is not drawn.
    known = [[100 * width if math.isfinite(width) else 0.0 for width in pair] for pair in ends]
    return [[pair[side] for pair in known] for side in (0, 1)]


def _curve(
    axis: Axes, found: NoiseCurve, label: str, *, index: int, clean: float, shift: float
) -> None:
    """One line with its intervals, from clean speech to the loudest noise."""
    points = found.points
    axis.errorbar(
        [(clean if point.snr_db is None else point.snr_db) + shift for point in points],
        [100 * point.rate for point in points],
        yerr=_bars([(point.rate, point.low, point.high) for point in points]),
        fmt=_MARKERS[index % len(_MARKERS)] + _LINES[index % len(_LINES)],
        color=_COLORS[index % len(_COLORS)],
        ms=6,
        capsize=3,
        lw=1.4,
        label=label,
    )
