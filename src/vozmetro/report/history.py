"""The history at the terminal, and as JSON and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from itertools import groupby
from typing import Any

from rich.console import Console, ConsoleRenderable, Group
from rich.text import Text

from vozmetro.i18n import t
from vozmetro.judge.differences import Unlike
from vozmetro.judge.statistics import Interval
from vozmetro.judge.trend import Point, Row, Trend
from vozmetro.report.formatting import ICONS, clip, ends, finite
from vozmetro.report.formatting import number as plain_number
from vozmetro.report.gate import ratio, value
from vozmetro.report.terminal import table, titled
from vozmetro.units import plain, size

_MARKS = {"slower": "▲", "faster": "▼"}
_STATES = {"complete": "", "running": "…", "interrupted": "⏸", "failed": "💥"}


def short_id(identity: str) -> str:
    """Returns the end of an id, by which a run is found too: its random letters."""
    return identity.rsplit("-", 1)[-1][-8:]


def when(row: Row) -> str:
    """Returns a row's moment as `2026-11-23 10:05`; as it was written where it is none."""
    return clip(row.created[:16].replace("T", " "), 16)


def print_rows(
    console: Console, rows: Sequence[Row], total: int, unreadable: int, lang: str
) -> None:
    """Prints rows, a table for each machine.

    Args:
        console: Where to; 80 columns are enough.
        rows: Those that are shown, the newest first.
        total: How many there are in all.
        unreadable: Files that could not be read.
        lang: `es` or `en`.
    """
    parts: list[ConsoleRenderable] = []
    groups: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.machine, row.threads), []).append(row)
    for (machine, threads), group in groups.items():
        title = t("gate.where", lang, machine=plain(machine), threads=threads)
        parts.append(titled(title, _rows(group, lang)))
    left = total - len(rows)
    if left > 0:
        parts += [Text(""), Text("  " + t("history.more", lang, n=left, total=total), style="dim")]
    if not rows:
        parts += [Text(""), Text("  " + t("history.none", lang))]
    if unreadable:
        words = t("history.unreadable", lang, n=unreadable)
        parts += [Text(""), Text("  " + words, style="yellow")]
    console.print(Group(*parts))


def _rows(rows: Sequence[Row], lang: str) -> ConsoleRenderable:
    words = any(row.wer is not None for row in rows)
    columns = [
        (t("history.when", lang), "fixed"), (t("history.subject", lang), "fixed"),
        ("n", "right"), ("P50 ms [95 %]", "right"), ("P90", "right"), ("RAM", "right"),
        *([("WER", "right")] if words else []), ("", "fixed"), ("id", "fixed"),
    ]  # fmt: skip
    return table(columns, [_cells(row, words=words) for row in rows])


def _cells(row: Row, *, words: bool) -> list[str]:
    p50 = plain_number(row.p50_ms)
    if row.p50_ms is not None:
        p50 += " " + ends(row.p50_low, row.p50_high, _short)
    name = row.name if row.precision in ("", "none") else f"{row.name} {row.precision}"
    state = ICONS.get(row.verdict, "") + _STATES.get(row.state, "")
    wer = [f"{100 * row.wer:.1f}" if row.wer is not None else "–"] if words else []
    return [
        when(row)[5:] if not words else when(row)[5:10],
        clip(name, 20 if not words else 18),
        str(row.n),
        p50,
        _short(row.p90_ms),
        _ram(row.peak_ram),
        *wer,
        state,
        short_id(row.id),
    ]


def _short(number: float | None) -> str:
    if number is None:
        return "–"
    return f"{number:.0f}" if abs(number) >= 100 else f"{number:.3g}"


def _ram(number: float | None) -> str:
    return size(number).replace(" ", "").replace(".0", "") if number else "–"


def print_unreadable(console: Console, rows: Iterable[Row], lang: str) -> None:
    """Prints the files that could not be read, each with why."""
    for row in rows:
        console.print(
            Text("  " + t("history.cannot", lang, path=plain(row.file), detail=plain(row.detail))),
            soft_wrap=True,
        )


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
        title = f"{plain(trend.subject)} · {t(f'gate.metric_{metric}', lang)}"
        where = t("gate.where", lang, machine=plain(trend.machine), threads=trend.threads)
        columns = [
            (t("history.when", lang), "fixed"), (t("history.value", lang), "right"),
            (t("history.against_previous", lang), "right"),
            (t("history.against_first", lang), "right"), ("", "fixed"), ("id", "fixed"),
        ]  # fmt: skip
        shown = trend.points[-limit:]
        rows = [_point(point, metric) for point in shown]
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
    changes = ["" if one is None else _change(one.ratio) for one in (point.previous, point.first)]
    shown = value(metric, point.value.value)
    if point.value.low is not None or point.value.high is not None:
        shown += " " + _interval(point.value, metric)
    return [when(point.row), shown, *changes, _MARKS.get(point.mark, ""), short_id(point.row.id)]


def _change(change: Interval) -> str:
    text = ratio(change)
    return text.partition(" [")[0] if change.low is None and change.high is None else text


def _interval(value: Interval, metric: str) -> str:
    scale = 100 if metric == "wer" else 1
    return ends(value.low, value.high, lambda one: "–" if one is None else _short(scale * one))


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


def rows_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Returns rows for programs."""
    return [finite(asdict(row)) for row in rows]


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


def rows_csv(rows: Sequence[Row]) -> str:
    """Returns rows as CSV (RFC 4180), with a header; unknown numbers are empty.

    Text that a spreadsheet would take for a formula gets an apostrophe before it.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    names = [one.name for one in fields(Row)]
    writer.writerow(names)
    for row in rows:
        writer.writerow([_cell(getattr(row, name)) for name in names])
    return text.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@"):
        return f"'{value}"
    return "" if value is None else value
