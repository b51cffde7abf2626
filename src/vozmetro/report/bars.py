"""Plots in bars: RAM by phase, the parts of turns, floors against what was measured.

They hold the numbers of records and summaries as they are. Needs the extra `plots`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vozmetro.judge.decision import Decision
from vozmetro.judge.statistics import RunSummary
from vozmetro.measure.records import Run, Sample
from vozmetro.measure.roofline_records import Floor, Roofline
from vozmetro.report.canvas import (
    BARS,
    BLUE,
    DARK,
    GREEN,
    ORANGE,
    PALE,
    PALE_EDGE,
    Canvas,
    Where,
    canvas_of,
    label_name,
    scale,
)
from vozmetro.report.formatting import subject_name
from vozmetro.report.rows import PHASES, heaviest
from vozmetro.units import GB, MB, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WAIT, PARTS = "endpoint", ("stt", "reply", "tts_first_audio")
"""Parts of a turn: the wait before its clock starts, then what follows it, in order."""
_FILLS = {"endpoint": PALE, "stt": BLUE, "reply": GREEN, "tts_first_audio": ORANGE}
_HATCHES = {"endpoint": "..", "stt": "", "reply": "//", "tts_first_audio": "\\\\"}
_MOST_TURNS, _MOST_FLOORS = 10, 12
# Bars shorter than a limit's tenth say nothing beside it.
_NEAR = 2.5
_NAME = 18


def memory_by_phase(
    run: Run, summary: RunSummary, decision: Decision, where: Where
) -> bytes | None:
    """Returns the RAM of the heaviest session by phase, and the peak; None without any.

    Args:
        run: What was measured.
        summary: Its statistics, for the peak.
        decision: Its verdict, for the limit.
        where: Language of a PNG file, or what to draw on.
    """
    canvas = canvas_of(where)
    session = heaviest(run)
    if session is None or summary.peak_rss <= 0:
        return None
    phases = [phase for phase in PHASES if phase in session.memory]
    unit, name = (GB, "GB") if summary.peak_rss >= 2 * GB else (MB, "MB")
    values = [session.memory[phase].rss / unit for phase in phases] + [summary.peak_rss / unit]
    labels = [canvas.words(f"report.phase_{phase}") for phase in (*phases, "peak")]
    with canvas.drawing(tall=0.75) as (figure, axis):
        colors = [BARS] * len(phases) + [PALE]
        axis.barh(range(len(values)), values, color=colors, edgecolor=DARK, lw=0.7,
                  height=0.62, label=canvas.say("rss"))  # fmt: skip
        for kind, marker, color in (("uss", "D", DARK), ("pss", "^", ORANGE)):
            found = [getattr(session.memory[phase], kind) for phase in phases]
            points = [(value / unit, at) for at, value in enumerate(found) if value is not None]
            if points:
                axis.scatter(*zip(*points, strict=True), marker=marker, s=30, color=color,
                             edgecolor=DARK, lw=0.6, zorder=3, label=canvas.say(kind))  # fmt: skip
        limit = decision.check("ram").limit
        if limit <= _NEAR * summary.peak_rss:
            label = canvas.say("ram_limit", value=f"{limit / GB:g} GB")
            axis.axvline(limit / unit, color=DARK, lw=1.4, label=label)
        _rows(axis, labels)
        canvas.title(axis, canvas.say("memory_title", name=label_name(subject_name(run))))
        axis.set(xlabel=canvas.say("memory_axis", unit=name))
        axis.set_xlim(left=0)
        canvas.legend(figure, axis)
        return canvas.finish(figure)


def turns_of(run: Run) -> list[Sample]:
    """Returns the turns that are drawn: the last of each utterance that has its parts."""
    last = {one.item: one for one in run.samples if PARTS[0] in one.parts}
    return list(last.values())[:_MOST_TURNS]


def turn_waterfall(run: Run, summary: RunSummary, decision: Decision, where: Where) -> bytes | None:
    """Returns where the time of turns goes; None for what has no parts.

    The first bar holds the P50 of each part, the others one real turn for each utterance.

    Args:
        run: What was measured.
        summary: Its statistics, for the P50 of each part.
        decision: Its verdict, for the limit.
        where: Language of a PNG file, or what to draw on.
    """
    canvas = canvas_of(where)
    turns = turns_of(run)
    if not turns:
        return None
    rows = [dict(summary.parts_p50), *(dict(turn.parts) for turn in turns)]
    names = [canvas.say("turn_p50"), *(label_name(turn.item, _NAME) for turn in turns)]
    with canvas.drawing(tall=0.62 + 0.07 * len(rows)) as (figure, axis):
        for part in (WAIT, *PARTS):
            known = [(at, row) for at, row in enumerate(rows) if part in row]
            if not known:
                continue
            widths = [row[part] for _, row in known]
            # What comes before the clock lies left of zero.
            starts = [-row[part] if part == WAIT else _before(part, row) for _, row in known]
            axis.barh([at for at, _ in known], widths, left=starts, height=0.66,
                      color=_FILLS[part], hatch=_HATCHES[part], edgecolor=DARK, lw=0.6,
                      label=canvas.say(f"turn_{part}"))  # fmt: skip
        axis.axvline(0, color=DARK, lw=1.6)
        limit = decision.check("p50").limit
        label = canvas.say("limit_line", name="P50", value=f"{limit:g}")
        axis.axvline(limit, color=DARK, lw=1.4, ls="--", label=label)
        axis.axhline(0.5, color=PALE_EDGE, lw=0.8)
        _rows(axis, names)
        canvas.title(axis, canvas.say("turn_title", name=label_name(subject_name(run))))
        axis.set(xlabel=canvas.say("turn_axis"))
        canvas.legend(figure, axis)
        return canvas.finish(figure)


def _before(part: str, row: dict[str, float]) -> float:
    """Milliseconds of the parts that come before one."""
    return sum(row.get(name, 0.0) for name in PARTS[: PARTS.index(part)])


def roofline_bars(record: Roofline, where: Where) -> bytes | None:
    """Returns the least time of each item, and what was measured; None without any floor.

    Args:
        record: What was computed and measured.
        where: Language of a PNG file, or what to draw on.
    """
    canvas = canvas_of(where)
    floors = [one for one in record.items if one.floor_ms > 0][:_MOST_FLOORS]
    if not floors:
        return None
    measured = [(one.measured_ms, at) for at, one in enumerate(floors) if one.measured_ms]
    every = [*(one.floor_ms for one in floors), *(ms for ms, _ in measured)]
    with canvas.drawing(tall=0.6 + 0.06 * len(floors)) as (figure, axis):
        log = scale(axis, "x", every)
        for bound, color, hatch in (("memory", BARS, ""), ("compute", PALE, "//")):
            mine = [(at, one.floor_ms) for at, one in enumerate(floors) if one.bound == bound]
            if mine:
                axis.barh([at for at, _ in mine], [ms for _, ms in mine], color=color,
                          hatch=hatch, edgecolor=DARK, lw=0.7, height=0.62,
                          label=canvas.say(f"floor_{bound}"))  # fmt: skip
        if measured:
            axis.scatter(*zip(*measured, strict=True), marker="D", s=34, color=ORANGE,
                         edgecolor=DARK, lw=0.7, zorder=3,
                         label=canvas.say("measured"))  # fmt: skip
        _rows(axis, [_floor_name(one, canvas) for one in floors])
        title = canvas.say("roofline_title", name=label_name(record.subject))
        canvas.title(axis, title)
        axis.set(xlabel=canvas.say("roofline_axis_log" if log else "roofline_axis"))
        if not log:
            axis.set_xlim(left=0)
        canvas.legend(figure, axis)
        return canvas.finish(figure)


def _floor_name(one: Floor, canvas: Canvas) -> str:
    if one.unit != "inference" and one.length:
        return canvas.words(f"roofline.item_{one.unit}", tokens=f"{one.length:g}")
    return label_name(plain(one.item), _NAME)


def _rows(axis: Axes, names: Sequence[str]) -> None:
    """Names the bars, the first one on top."""
    axis.set_yticks(range(len(names)), names)
    axis.invert_yaxis()
    axis.grid(visible=False, axis="y")
