"""Trends and differences of runs, at the terminal and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING, Any

from rich.console import Console, ConsoleRenderable, Group
from rich.text import Text

from vozmetro.i18n import t
from vozmetro.report.formatting import clip, ends, finite
from vozmetro.report.history import moments, short, short_id
from vozmetro.report.tables import table, titled
from vozmetro.report.values import ratio, value
from vozmetro.units import plain

if TYPE_CHECKING:
    from vozmetro.judge.differences import Unlike
    from vozmetro.judge.interval import Interval
    from vozmetro.judge.trend import Point, Trend

_MARKS = {"slower": "▲", "faster": "▼"}


def print_trends(
    console: Console, found: Sequence[Trend], metric: str, limit: int, lang: str
) -> None:
    """Prints the trends of a metric.

    Args:
        console: Where to.
        found: One for each subject and machine.
        metric: One of `judge.trend.METRICS`.
        limit: Most rows of each, the last ones.
        lang: `es` or `en`.
    """
    parts: list[ConsoleRenderable] = []
    for trend in found:
        title = f"{plain(trend.subject)} · {t(f'history.axis_{metric}', lang)}"
        where = t("gate.where", lang, machine=plain(trend.machine), threads=trend.threads)
        columns = [
            (t("history.when", lang), "fixed"), (t("history.value", lang), "right"),
            (t("history.against_previous", lang), "right"),
            (t("history.against_first", lang), "right"), ("", "fixed"), ("id", "fixed"),
        ]  # fmt: skip
        shown = trend.points[-limit:]
        told = zip(moments([point.row for point in shown]), shown, strict=True)
        rows = [[moment, *_point(point, metric)] for moment, point in told]
        parts.append(titled(title, Text("  " + where), Text(""), table(columns, rows)))
        left = len(trend.points) - len(shown)
        if left:
            total = len(trend.points)
            parts.append(Text("  " + t("history.earlier", lang, n=left, total=total), style="dim"))
    if found:
        parts += [Text(""), Text("  " + t("history.marks", lang), style="dim")]
    else:
        parts += [Text(""), Text("  " + t("history.none", lang))]
    console.print(Group(*parts))


def _point(point: Point, metric: str) -> list[str]:
    previous, first = point.previous, point.first
    shown = value(metric, point.value.value)
    if point.value.low is not None or point.value.high is not None:
        shown = shown.removesuffix(" ms").removesuffix(" %") + " " + _interval(point.value, metric)
    return [
        shown,
        "" if previous is None else _change(previous.ratio),
        # Its interval is in the JSON: 80 columns have no room for a third.
        "" if first is None else ratio(first.ratio).partition(" [")[0],
        _MARKS.get(point.mark, ""),
        short_id(point.row.id),
    ]


def _change(change: Interval) -> str:
    text = ratio(change)
    return text.partition(" [")[0] if change.low is None and change.high is None else text


def _interval(value: Interval, metric: str) -> str:
    scale = 100 if metric == "wer" else 1
    return ends(value.low, value.high, lambda one: "–" if one is None else short(scale * one))


def print_differences(
    console: Console,
    names: tuple[str, str],
    found: Sequence[Unlike],
    metrics: Sequence[Sequence[str]],
    lang: str,
) -> None:
    """Prints what differs between two runs.

    Args:
        console: Where to.
        names: Ids of A and B.
        found: What differs, by section.
        metrics: Rows of name, A, B, and B / A with its interval.
        lang: `es` or `en`.
    """
    parts: list[ConsoleRenderable] = [Text("")]
    parts += [Text(f"  {letter} = {plain(name)}") for letter, name in zip("AB", names, strict=True)]
    if not found:
        parts += [Text(""), Text("  " + t("history.no_difference", lang))]
    for section, group in groupby(found, key=lambda one: one.section):
        columns = [("", "left"), ("A", "left"), ("B", "left")]
        rows = [[plain(one.name), _told(one.a), _told(one.b)] for one in group]
        parts.append(titled(t(f"history.section_{section}", lang), table(columns, rows)))
    columns = [
        (t("gate.metric", lang), "left"), ("A", "right"), ("B", "right"),
        ("B / A [95 %]", "right"),
    ]  # fmt: skip
    parts.append(titled(t("history.section_metrics", lang), table(columns, metrics)))
    parts += [Text(""), Text("  " + t("history.within", lang), style="dim")]
    console.print(Group(*parts))


def _told(text: str) -> str:
    return clip(plain(text), 60) or "–"


def trends_json(found: Sequence[Trend], metric: str) -> dict[str, Any]:
    """Returns trends for programs; of each point the id, the value, and the changes as ratios."""
    return {
        "type": "trend",
        "metric": metric,
        "trends": [
            {
                "subject": trend.subject,
                "machine": trend.machine,
                "threads": trend.threads,
                "clock": trend.clock,
                "points": [finite(_point_json(point)) for point in trend.points],
            }
            for trend in found
        ],
    }


def _point_json(point: Point) -> dict[str, Any]:
    return {
        "id": point.row.id,
        "part": point.row.part,
        "file": point.row.file,
        "created": point.row.created,
        "value": asdict(point.value),
        "first": None if point.first is None else asdict(point.first.ratio),
        "previous": None if point.previous is None else asdict(point.previous.ratio),
        "mark": point.mark,
    }
