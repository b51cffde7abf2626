"""What a swap costs, on a terminal."""

from __future__ import annotations

import statistics
from collections.abc import Callable

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from vozmetro.i18n import t
from vozmetro.judge.swap import swap_ms, worth
from vozmetro.measure.swap_records import Swap, SwapSide
from vozmetro.units import ms, plain, size

_ROWS: tuple[tuple[str, Callable[[SwapSide], str]], ...] = (
    ("load", lambda side: ms(side.load_ms)),
    ("first", lambda side: ms(side.first_ms)),
    ("steady", lambda side: ms(statistics.median(side.steady_ms))),
    ("loaded", lambda side: size(side.loaded_rss)),
    ("peak", lambda side: size(side.peak_rss)),
    ("drop", lambda side: ms(statistics.median(one.drop_ms for one in side.swaps))),
    ("swap_load", lambda side: ms(statistics.median(one.load_ms for one in side.swaps))),
    ("swap_first", lambda side: ms(statistics.median(one.first_ms for one in side.swaps))),
    ("cost", lambda side: ms(swap_ms(side))),
)


def print_swap(console: Console, record: Swap, lang: str) -> None:
    """Prints both subjects side by side, and when a swap pays.

    Args:
        console: Where to; its width is kept, 80 columns are enough.
        record: What was measured.
        lang: `es` or `en`.
    """
    names = {"a": plain(record.a.subject), "b": plain(record.b.subject)}
    title = t("swap.title", lang, **names, threads=record.threads, cpu=plain(record.cpu) or "–")
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("")
    for letter in "AB":
        table.add_column(letter, justify="right")
    for key, figure in _ROWS:
        table.add_row(t(f"swap.{key}", lang), figure(record.a), figure(record.b))
    console.print(Text(title, style="bold"))
    console.print()
    console.print(table)
    for line in swap_text(record, lang):
        console.print()
        console.print(Text(line))


def swap_text(record: Swap, lang: str) -> list[str]:
    """Returns what follows from it: memory, and when a swap pays."""
    swap = size(record.swap_peak_rss)
    if record.both_peak_rss is None:
        lines = [t("swap.apart", lang, swap=swap)]
    else:
        lines = [t("swap.both", lang, ram=size(record.both_peak_rss), swap=swap)]
    found = worth(record)
    # A less B: where A is the faster one, B less A is what is saved.
    value, low, high = found.saved_ms.value, found.saved_ms.low, found.saved_ms.high
    if found.faster == "a":
        value, low, high = -value, high and -high, low and -low
    fields = {"saved": ms(value), "low": ms(low), "high": ms(high)}
    if found.faster is None:
        lines.append(t("swap.no_worth", lang, **fields))
    else:
        told = {"faster": found.faster.upper(), "cost": ms(found.cost_ms)}
        lines.append(t("swap.worth", lang, **told, **fields, n=str(found.requests)))
    if "dummy" in (record.a.weights, record.b.weights):
        lines.append(t("swap.dummy", lang))
    return lines
