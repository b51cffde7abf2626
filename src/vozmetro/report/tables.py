"""Tables of a terminal; nothing here takes long to import."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import ConsoleRenderable, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from vozmetro.report.formatting import Pair


def titled(title: str, *body: ConsoleRenderable) -> ConsoleRenderable:
    """A heading and what stands below it."""
    return Group(Text(""), Text(title, style="bold"), *body)


def pairs(rows: Iterable[Pair]) -> Table:
    """Labels and their values."""
    grid = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
    grid.add_column(no_wrap=True, style="dim")
    grid.add_column(overflow="fold")
    for label, value in rows:
        grid.add_row(Text(f"  {label}"), Text(value))
    return grid


def new_table(*columns: tuple[str, str]) -> Table:
    """A table of (heading, kind): `left` folds, `right` is a number and is never cut."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for heading, kind in columns:
        if kind == "right":
            table.add_column(Text(heading), justify="right", no_wrap=True)
        else:
            table.add_column(Text(heading), overflow="fold", no_wrap=kind == "fixed")
    return table


def table(columns: Iterable[tuple[str, str]], rows: Iterable[Sequence[str]]) -> ConsoleRenderable:
    """A table of (heading, kind), as in `new_table`, and its rows."""
    made = new_table(*columns)
    for row in rows:
        made.add_row(*map(Text, row))
    return indented(made)


def indented(part: ConsoleRenderable) -> ConsoleRenderable:
    """Two cells further to the right."""
    return Padding(part, (0, 0, 0, 2), expand=False)
