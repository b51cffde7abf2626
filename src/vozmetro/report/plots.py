"""Plots that stay readable in grey: PNG files, and figures of a page. Needs the extra `plots`.

matplotlib is imported inside the functions: most commands draw nothing, and it takes half a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vozmetro.judge.comparison import Comparison, log_ratios
from vozmetro.judge.decision import Decision
from vozmetro.judge.statistics import Interval, RunSummary, Summary
from vozmetro.measure.records import Run
from vozmetro.report.canvas import (
    BAND,
    BARS,
    BLUE,
    DARK,
    ORANGE,
    PALE,
    PALE_EDGE,
    RULE,
    Canvas,
    Where,
    canvas_of,
    drawing,
    label_name,
    legend,
    png,
    scale,
)
from vozmetro.report.formatting import LATENCY, SUMMARY_PERCENT, number, pair_names, subject_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "BLUE",
    "DARK",
    "ORANGE",
    "comparison_plot",
    "drawing",
    "label_name",
    "latency_by_length",
    "latency_distribution",
    "legend",
    "png",
    "samples_over_time",
    "scale",
]

_DASHES = {"p50": "-", "p90": "--", "p99": ":"}


def _bins(values: Sequence[float], *, log: bool) -> Any:
    count = min(60, max(10, int(1.5 * len(values) ** 0.5)))
    low, high = min(values), max(values)
    if low == high:
        low, high = low * 0.99, high * 1.01
    return np.geomspace(low, high, count) if log else np.linspace(low, high, count)


def _histogram(axis: Axes, values: Sequence[float], *, log: bool) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.hist(values, bins=_bins(values, log=log), color=BARS, edgecolor="white", lw=0.4)
    axis.yaxis.set_major_locator(MaxNLocator(integer=True))


def _band(axis: Axes, interval: Interval, color: str, label: str) -> None:
    if interval.low is not None and interval.high is not None:
        # Behind the bars, which it would tint.
        span = (interval.low, interval.high)
        axis.axvspan(*span, color=color, alpha=0.35, lw=0, label=label, zorder=0.9)


def _ecdf(axis: Axes, values: Sequence[float], **style: Any) -> None:
    ordered = sorted(values)
    heights = [(index + 1) / len(ordered) for index in range(len(ordered))]
    axis.step([ordered[0], *ordered], [0.0, *heights], where="post", **style)


def _latency_label(canvas: Canvas, *, log: bool) -> str:
    return canvas.say("latency_axis_log" if log else "latency_axis")


def latency_distribution(run: Run, summary: RunSummary, decision: Decision, where: Where) -> bytes:
    """Returns the latencies as a histogram over their cumulative curve, with the limits.

    Args:
        run: What was measured.
        summary: Its statistics, for the P50 and its interval.
        decision: Its verdict, for the limits.
        where: Language of a PNG file, or what to draw on.
    """
    canvas = canvas_of(where)
    values = run.latencies_ms()
    limits = {name: decision.check(name).limit for name in LATENCY}
    p50 = summary.overall.p50
    shape: Any = {"height_ratios": (1, 1), "tall": 1.15} if canvas.stacked else {}
    shape = {"sharex": True, "height_ratios": (3, 2), **shape}
    with canvas.drawing(2, 1, **shape) as (figure, (top, bottom)):
        log = scale(top, "x", [*values, *limits.values()])
        _histogram(top, values, log=log)
        _ecdf(bottom, values, color=BLUE, lw=1.8)
        for axis in (top, bottom):
            _band(axis, p50, ORANGE, canvas.say("p50_band", percent=SUMMARY_PERCENT))
            axis.axvline(
                p50.value,
                color=ORANGE,
                lw=1.6,
                label=canvas.say("p50_line", value=number(p50.value)),
            )
            for name, limit in limits.items():
                label = canvas.say("limit_line", name=name.upper(), value=f"{limit:g}")
                axis.axvline(limit, color=DARK, lw=1.4, ls=_DASHES[name], label=label)
        for height in (0.5, 0.9, 0.99):
            bottom.axhline(height, color=RULE, lw=0.6)
        bottom.set_yticks([0, 0.5, 0.9, 1])
        canvas.title(top, canvas.say("latency_title", name=label_name(subject_name(run))))
        top.set_ylabel(canvas.say("density"))
        bottom.set(
            xlabel=_latency_label(canvas, log=log), ylabel=canvas.say("ecdf"), ylim=(0, 1.02)
        )
        canvas.legend(figure, top)
        return canvas.finish(figure)


def latency_by_length(
    run: Run, summary: RunSummary, decision: Decision, where: Where
) -> bytes | None:
    """Returns latency against the length of audio or prompt; None where there is only one.

    Args:
        run: What was measured.
        summary: Its statistics by item.
        decision: Its verdict, for the P50 limit.
        where: Language of a PNG file, or what to draw on.
    """
    canvas = canvas_of(where)
    is_lm = run.subject.kind == "lm"
    lengths = {item.id: float(item.tokens) if is_lm else item.seconds for item in run.items}
    measured = {name: lengths[name] for name in summary.per_item if lengths.get(name, 0) > 0}
    if len(set(measured.values())) < 2:
        return None
    points = [(lengths[s.item], s.ms) for s in run.samples if s.item in measured]
    items = [(measured[name], summary.per_item[name]) for name in measured]
    limit = decision.check("p50").limit
    with canvas.drawing() as (figure, axis):
        log = scale(axis, "y", [limit, *(ms for _, ms in points)])
        axis.scatter(
            *zip(*points, strict=True),
            s=9,
            color=PALE,
            edgecolor=PALE_EDGE,
            lw=0.4,
            label=canvas.say("samples"),
            rasterized=0 < canvas.most_marks < len(points),
        )
        _length_points(axis, items, canvas)
        axis.axhline(
            limit,
            color=DARK,
            lw=1.4,
            label=canvas.say("limit_line", name="P50", value=f"{limit:g}"),
        )
        title = "prompt_title" if is_lm else "length_title"
        canvas.title(axis, canvas.say(title, name=label_name(subject_name(run))))
        label = canvas.say("prompt_axis" if is_lm else "length_axis")
        axis.set(xlabel=label, ylabel=_latency_label(canvas, log=log))
        axis.set_xlim(left=0)
        if not log:
            axis.set_ylim(bottom=0)
        canvas.legend(figure, axis)
        return canvas.finish(figure)


def _length_points(axis: Axes, items: Sequence[tuple[float, Summary]], canvas: Canvas) -> None:
    """Draws each item's P50 with its interval, and its P90, at its length."""
    xs = [x for x, _ in items]
    p50s = [item.p50 for _, item in items]
    bars = [
        [p.value - (p.value if p.low is None else p.low) for p in p50s],
        [(p.value if p.high is None else p.high) - p.value for p in p50s],
    ]
    label = canvas.say("p50_points", percent=SUMMARY_PERCENT)
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
        label=canvas.say("p90_points"),
    )


def samples_over_time(run: Run, where: Where, summary: RunSummary | None = None) -> bytes:
    """Returns every inference in the order taken, blocks shaded by turns.

    Args:
        run: What was measured.
        summary: Its statistics, to mark an early part that drifts and does not count.
        where: Language of a PNG file, or what to draw on.
    """
    canvas = canvas_of(where)
    xs = [sample.at_s for sample in run.samples]
    ys = [sample.ms for sample in run.samples]
    with canvas.drawing() as (figure, axis):
        log = scale(axis, "y", ys)
        spans: dict[int, tuple[float, float]] = {}
        for sample in run.samples:
            low, high = spans.get(sample.block, (sample.at_s, sample.at_s))
            end = sample.at_s + sample.ms / 1000
            spans[sample.block] = (min(low, sample.at_s), max(high, end))
        shaded = [span for index, span in enumerate(spans.values()) if index % 2]
        for index, (low, high) in enumerate(shaded):
            label = canvas.say("blocks") if index == 0 else None
            axis.axvspan(low, high, color=BAND, lw=0, label=label)
        starts: dict[int, float] = {}
        for sample in run.samples:
            starts.setdefault(sample.session, sample.at_s)
        for index, start in enumerate([*starts.values()][1:]):
            label = canvas.say("session") if index == 0 else None
            axis.axvline(start, color=DARK, lw=1.2, ls="--", label=label)
        left_out = summary.overall.left_out if summary else 0
        if 0 < left_out < len(run.samples):
            label = canvas.say("left_out", n=left_out)
            axis.axvline(run.samples[left_out].at_s, color=ORANGE, lw=1.6, ls="-.", label=label)
        pixels = 0 < canvas.most_marks < len(xs)
        axis.scatter(xs, ys, s=10, color=BLUE, lw=0, label=canvas.say("samples"), rasterized=pixels)
        canvas.title(axis, canvas.say("time_title", name=label_name(subject_name(run))))
        axis.set(xlabel=canvas.say("time_axis"), ylabel=_latency_label(canvas, log=log))
        if not log:
            axis.set_ylim(bottom=0)
        canvas.legend(figure, axis)
        return canvas.finish(figure)


def comparison_plot(comparison: Comparison, where: Where) -> bytes | None:
    """Returns A against B: the ratio of each pair, and the distribution of each.

    None where no pair is complete.

    Args:
        comparison: What was measured, judged.
        where: Language of a PNG file, or what to draw on.
    """
    canvas = canvas_of(where)
    record = comparison.record
    ratios = [float(ratio) for ratio in np.exp(log_ratios(record.a, record.b))]
    if not ratios:
        return None
    a, b = record.a.latencies_ms(), record.b.latencies_ms()
    names = [label_name(name, 34) for name in pair_names(record)]
    shape = (2, 1) if canvas.stacked else (1, 2)
    tall = 1.3 if canvas.stacked else 1.0
    with canvas.drawing(*shape, tall=tall) as (figure, (left, right)):
        log = scale(left, "x", [*ratios, 1.0])
        _histogram(left, ratios, log=log)
        _band(left, comparison.ratio, ORANGE, canvas.say("ratio_band", percent=SUMMARY_PERCENT))
        value = f"{comparison.ratio.value:.3f}"
        left.axvline(
            comparison.ratio.value,
            color=ORANGE,
            lw=1.6,
            label=canvas.say("ratio_line", value=value),
        )
        left.axvline(1.0, color=DARK, lw=1.4, ls="--", label=canvas.say("equal"))
        left.set_title(canvas.say("ratio_title"))
        axis_name = "ratio_axis_log" if log else "ratio_axis"
        left.set(xlabel=canvas.say(axis_name), ylabel=canvas.say("pairs"))
        log = scale(right, "x", [*a, *b])
        _ecdf(right, a, color=BLUE, lw=2.0, label="A")
        _ecdf(right, b, color=ORANGE, lw=2.0, ls="--", label="B")
        limit = comparison.decision_a.check("p50").limit
        right.axvline(
            limit,
            color=DARK,
            lw=1.2,
            ls=":",
            label=canvas.say("limit_line", name="P50", value=f"{limit:g}"),
        )
        right.set_title(canvas.say("both_title"))
        right.set(xlabel=_latency_label(canvas, log=log), ylabel=canvas.say("ecdf"), ylim=(0, 1.02))
        for axis in (left, right):
            canvas.own_legend(axis)
        canvas.suptitle(figure, canvas.say("comparison_title", a=names[0], b=names[1]))
        return canvas.finish(figure)
