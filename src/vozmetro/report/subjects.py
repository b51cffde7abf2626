"""The list of what can be measured, for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from vozmetro.i18n import t
from vozmetro.models.catalogue import Entry

_MANY = 6  # languages that are listed before they are only counted


def print_subjects(
    console: Console, entries: Sequence[Entry], engines: Sequence[str], lang: str
) -> None:
    """Prints the catalogue and what else can be named.

    Args:
        console: Where to.
        entries: Models of the catalogue.
        engines: Names of the engines.
        lang: `es` or `en`.
    """
    table = Table(title=t("cli.subjects_title", lang), title_justify="left", box=None)
    for column in ("name", "task", "languages", "engine", "licence"):
        table.add_column(t(f"cli.subjects_{column}", lang))
    for entry in entries:
        spoken = entry.languages
        listed = ", ".join(spoken) if len(spoken) <= _MANY else f"{spoken[0]}, … ({len(spoken)})"
        table.add_row(entry.name, entry.task, listed, entry.engine, entry.licence)
    console.print(table)
    for extra in sorted({entry.extra for entry in entries if entry.extra}):
        console.print(t("cli.subjects_install", lang, extra=extra), markup=False)
    console.print(t("cli.subjects_more", lang, engines=", ".join(engines)), markup=False)
