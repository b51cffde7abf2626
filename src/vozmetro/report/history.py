"""The history as a list at the terminal, and as JSON and CSV. Takes little time to import."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from datetime import UTC, datetime
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleRenderable, Group
from rich.text import Text

from vozmetro.i18n import t
from vozmetro.judge.rows import Row
from vozmetro.report.formatting import ICONS, clip, ends, finite
from vozmetro.report.formatting import number as plain_number
from vozmetro.report.tables import table, titled
from vozmetro.units import plain, size

_INDENT, _GAP = 2, 2
_NAME = 24
"""Cells that the name of a model has at least."""
_STATES = {"complete": "", "running": "…", "interrupted": "⏸", "failed": "💥"}


def short_id(identity: str) -> str:
    """Returns the end of an id, by which a run is found too: its random letters."""
    return identity.rsplit("-", 1)[-1][-8:]


def moments(rows: Sequence[Row]) -> list[str]:
    """Returns rows' moments (UTC) in 11 cells: `11-23 10:05` within one year, else the date."""
    known = [None if row.at is None else datetime.fromtimestamp(row.at, UTC) for row in rows]
    years = {one.year for one in known if one is not None}
    form = "%m-%d %H:%M" if len(years) < 2 else "%Y-%m-%d"
    return [
        one.strftime(form) if one is not None else clip(plain(row.created), 11) or "–"
        for one, row in zip(known, rows, strict=True)
    ]


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
        parts.append(titled(title, _rows(group, console.width, lang)))
    left = total - len(rows)
    if left > 0:
        parts += [Text(""), Text("  " + t("history.more", lang, n=left, total=total), style="dim")]
    if not rows:
        parts += [Text(""), Text("  " + t("history.none", lang))]
    if unreadable:
        words = t("history.unreadable", lang, n=unreadable)
        parts += [Text(""), Text("  " + words, style="yellow")]
    console.print(Group(*parts))


def _rows(rows: Sequence[Row], width: int, lang: str) -> ConsoleRenderable:
    """A table whose numbers are whole: where they have no room, the lesser columns are left out."""
    when, name = t("history.when", lang), t("history.subject", lang)
    columns = {
        when: moments(rows),
        name: [_name(row) for row in rows],
        "n": [str(row.n) for row in rows],
        "P50 ms [95 %]": [_median(row) for row in rows],
        "P90": [short(row.p90_ms) for row in rows],
        "RAM": [_ram(row.peak_ram) for row in rows],
        "WER": [f"{100 * row.wer:.1f}" if row.wer is not None else "–" for row in rows],
        "": [ICONS.get(row.verdict, "") + _STATES.get(row.state, "") for row in rows],
        "id": [short_id(row.id) for row in rows],
    }
    if all(row.wer is None for row in rows):
        del columns["WER"]

    def left() -> int:
        """Returns the cells that the others and the gaps between all leave to the name."""
        others = [[head, *told] for head, told in columns.items() if head != name]
        return width - _INDENT - sum(_GAP + max(map(cell_len, one)) for one in others)

    for lesser in ("P90", "n", "RAM"):
        if left() < _NAME:
            del columns[lesser]
    columns[name] = [clip(one, max(_NAME, left())) for one in columns[name]]
    heads = [(head, "fixed" if head in (when, name, "", "id") else "right") for head in columns]
    return table(heads, zip(*columns.values(), strict=True))


def _name(row: Row) -> str:
    return row.name if row.precision in ("", "none") else f"{row.name} {row.precision}"


def _median(row: Row) -> str:
    if row.p50_ms is None:
        return "–"
    return f"{plain_number(row.p50_ms)} {ends(row.p50_low, row.p50_high, short)}"


def short(number: float | None) -> str:
    """Returns a number in three digits or so, without a unit; `–` for none."""
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


def rows_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Returns rows for programs."""
    return [finite(asdict(row)) for row in rows]


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
