"""Floors on a terminal: a table that fits 80 columns, the sentence, and what it rests on."""

from __future__ import annotations

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleRenderable, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from vozmetro.i18n import t
from vozmetro.measure.roofline_records import Floor, Roofline
from vozmetro.report.formatting import clip, note_text, number
from vozmetro.units import GB, plain, size

_NAME = 17  # cells of the item's name
_INDENT = (0, 0, 0, 2)
COLUMNS = ("bytes", "ops", "floor", "p50", "ratio")
"""Keys `roofline.col_<key>` of the figures of `cells`."""


def print_roofline(console: Console, record: Roofline, lang: str) -> None:
    """Prints a subject's floors.

    Args:
        console: Where to; its width is kept, 80 columns are enough.
        record: What was computed and measured.
        lang: `es` or `en`.
    """
    title = t("roofline.title", lang, subject=_named(record.subject), precision=record.precision)
    parts: list[ConsoleRenderable] = [
        Text(title, style="bold"),
        _inset(ceilings_text(record, lang)),
    ]
    parts += [Text(""), Padding(_table(record, lang), _INDENT)]
    sentence = claim_text(record, lang)
    if sentence:
        parts += [Text(""), Text(sentence, style="bold"), _inset(conditions_text(record, lang))]
    if record.notes:
        parts += [Text(""), Text(t("terminal.notes", lang), style="bold")]
        parts += [_inset(f"⚠️  {note_text(note, lang)}") for note in record.notes]
    console.print(Group(*parts))


def ceilings_text(record: Roofline, lang: str) -> str:
    """Returns what the machine does at best, in one or two sentences."""
    machine = record.machine
    rates = ", ".join(
        f"{kind.upper()} {value / 1e9:.0f}" for kind, value in machine.operations.items()
    )
    return t(
        "roofline.ceilings",
        lang,
        cpu=plain(machine.cpu) or "–",
        threads=machine.threads,
        best=f"{machine.bandwidth / GB:.1f}",
        median=f"{machine.bandwidth_median / GB:.1f}",
        rates=rates or "–",
    )


def claim_text(record: Roofline, lang: str) -> str:
    """Returns the sentence that settles arguments; empty where there is no floor."""
    claim = record.claim
    if claim is None:
        return ""
    unit = "decode" if claim.unit == "decode" else "inference"
    return t(
        f"roofline.claim_{claim.bound}_{unit}",
        lang,
        subject=_named(claim.subject),
        precision=claim.precision,
        floor=_milliseconds(claim.floor_ms),
        item=plain(claim.item),
        bytes=size(claim.bytes),
        bandwidth=f"{claim.bandwidth / GB:.1f}",
        operations=_giga(2 * claim.macs),
        rate=f"{(claim.rate or 0.0) / 1e9:.0f}",
        threads=claim.threads,
    )


def conditions_text(record: Roofline, lang: str) -> str:
    """Returns what the sentence rests on."""
    machine = record.machine
    cached = size(machine.cache_bytes) if machine.cache_bytes else "–"
    text = t("roofline.conditions", lang, cache=cached, n=len(machine.bandwidths))
    if record.claim is not None and record.claim.unit == "decode":
        text += " " + t("roofline.conditions_decode", lang)
    return text


def _table(record: Roofline, lang: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False, show_edge=False)
    # Only the name may be cut, where a terminal is narrow.
    table.add_column(t("roofline.col_item", lang), no_wrap=True)
    for column in COLUMNS:
        width = cell_len(t(f"roofline.col_{column}", lang))
        shown = [cells(one)[column] for one in record.items]
        width = max([width, *map(len, shown)])
        heading = t(f"roofline.col_{column}", lang)
        table.add_column(heading, justify="right", no_wrap=True, min_width=width)
    bounds = [t(f"roofline.bound_{bound}", lang) for bound in ("memory", "compute")]
    widest = max(map(cell_len, bounds))
    table.add_column(t("roofline.col_bound", lang), no_wrap=True, min_width=widest)
    for one in record.items:
        figures = cells(one)
        bound = t(f"roofline.bound_{one.bound}", lang)
        table.add_row(clip(item_name(one, lang), _NAME), *figures.values(), bound)
    return table


def cells(one: Floor) -> dict[str, str]:
    """Returns the figures of a row by their columns."""
    return {
        "bytes": size(one.bytes),
        "ops": _giga(2 * sum(one.macs.values())),
        "floor": _milliseconds(one.floor_ms),
        "p50": "–" if one.measured_ms is None else _milliseconds(one.measured_ms),
        "ratio": "–" if one.ratio is None else f"{one.ratio:.2f}",
    }


def item_name(one: Floor, lang: str) -> str:
    """Returns what a floor is of."""
    if one.unit != "inference" and one.length:
        return t(f"roofline.item_{one.unit}", lang, tokens=f"{one.length:g}")
    return plain(one.item)


def _named(subject: str) -> str:
    """A subject's name; of a path the last part, without the ending."""
    last = plain(subject).rstrip("/").rsplit("/", 1)[-1]
    return last.removesuffix(".onnx")


def _milliseconds(value: float) -> str:
    return f"{value:.0f}" if value >= 1000 else number(value)


def _giga(operations: float) -> str:
    """Returns operations in thousand millions with three digits: `87.4`, `0.0012`."""
    value = operations / 1e9
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _inset(text: str) -> Padding:
    return Padding(Text(text), _INDENT)
