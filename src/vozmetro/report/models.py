"""Models on a terminal: the catalogue, what verifying found, and what a model is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from vozmetro import units
from vozmetro.i18n import catalogue, t
from vozmetro.models.catalogue import Entry
from vozmetro.models.checks import Remark
from vozmetro.models.fetched import Fetched
from vozmetro.models.inspection import Port
from vozmetro.models.overview import Overview, Part
from vozmetro.models.verify import Verification

State = Literal["here", "absent", "broken"]
_STYLES = {"pass": "green", "fail": "bold red", "skip": "dim"}
_STATES = {"here": "green", "absent": "dim", "broken": "red"}
# A language model has two ports for each layer's keys and values.
_MOST_PORTS = 8


@dataclass(frozen=True)
class Listed:
    """A model of the catalogue, and whether its files are on this machine."""

    entry: Entry
    state: State


def reason_text(reason: Remark | None, lang: str) -> str:
    """Returns a reason as a sentence; empty for none."""
    if reason is None:
        return ""
    code = reason.code if "." in reason.code else f"models.{reason.code}"
    fields = {name: units.plain(value) for name, value in reason.fields.items()}
    return catalogue(lang)[code].format(**fields)


def print_list(console: Console, listed: Sequence[Listed], lang: str) -> None:
    """Prints the catalogue with where each model comes from."""
    table = table_of(
        (t("models.col_name", lang), "fixed"),
        (t("models.col_from", lang), "left"),
        (t("models.col_size", lang), "right"),
        (t("models.col_state", lang), "fixed"),
    )
    for one in listed:
        entry = one.entry
        if entry.hub is None:
            whence = f"{t('models.from_package', lang)}: vozmetro[{entry.extra}]"
        else:
            whence = f"{t('models.from_hub', lang)}: {entry.hub.repo}"
        size = units.size(entry.bytes) if entry.bytes else t("models.size_unknown", lang)
        state = Text(t(f"models.state_{one.state}", lang), style=_STATES[one.state])
        table.add_row(Text(entry.name, style="bold"), Text(whence), Text(size), state)
    console.print(Text(t("models.title", lang), style="bold"))
    console.print(inset(table))
    console.print(Text(t("models.list_more", lang)))


def print_fetched(console: Console, fetched: Fetched, target: bool, lang: str) -> None:
    """Prints what a fetch brought, and what to do next.

    Args:
        console: Where to.
        fetched: What it brought.
        target: Whether the user named a folder for it.
        lang: `es` or `en`.
    """
    files = fetched.source.files
    total = units.size(sum(file.bytes for file in files))
    lines = [t("models.fetched", lang, n=len(files), size=total, path=units.plain(fetched.path))]
    if fetched.received:
        lines.append(t("models.fetched_new", lang, size=units.size(fetched.received)))
    elif fetched.source.source.startswith("file:") and not target:
        lines.append(t("models.fetched_in_place", lang))
    else:
        lines.append(t("models.fetched_none", lang))
    if fetched.source.commit:
        lines.append(t("models.fetched_commit", lang, commit=fetched.source.commit))
    lines.append(t("models.fetched_next", lang, path=units.plain(fetched.path)))
    for line in lines:
        # Paths are copied from the screen: they are not wrapped.
        console.print(Text(line), soft_wrap=True)


def print_verification(console: Console, found: Verification, lang: str) -> None:
    """Prints every check with its reason, and whether to use the model."""
    console.print(Text(t("models.verify_title", lang, name=units.plain(found.name)), style="bold"))
    parts = list(dict.fromkeys(check.part for check in found.checks))
    for part in parts:
        if len(parts) > 1 and part:
            console.print(Text(f"  {units.plain(part)}", style="bold"))
        table = table_of(
            (t("models.col_check", lang), "fixed"),
            (t("models.col_status", lang), "fixed"),
            (t("models.col_reason", lang), "left"),
        )
        for check in found.checks:
            if check.part != part:
                continue
            table.add_row(
                Text(t(f"models.check_{check.name}", lang)),
                Text(t(f"models.status_{check.status}", lang), style=_STYLES[check.status]),
                Text(reason_text(check.reason, lang)),
            )
        console.print(inset(table))
    code = "models.verify_ok" if found.ok else "models.verify_bad"
    style = "green" if found.ok else "bold red"
    console.print(Text(t(code, lang, name=units.plain(found.name)), style=style))


def print_overview(console: Console, found: Overview, lang: str) -> None:
    """Prints what a model is."""
    console.print(Text(units.plain(found.name), style="bold"))
    for remark in found.remarks:
        console.print(inset(Text(f"⚠️  {reason_text(remark, lang)}", style="yellow")))
    console.print(inset(pairs(_modality_rows(found, lang))))
    if found.weights is not None:
        console.print(inset(pairs(_weight_rows(found.weights, lang))))
        console.print(inset(Text(t("models.to_convert", lang))))
    for part in found.parts:
        if len(found.parts) > 1:
            console.print(Text(f"\n  {units.plain(part.name)}", style="bold"))
        console.print(inset(pairs(_part_rows(part, lang))))
        for heading, ports in (
            ("inspect_inputs", part.inspection.inputs),
            ("inspect_outputs", part.inspection.outputs),
        ):
            if ports:
                console.print(inset(Text(f"\n{t(f'models.{heading}', lang)}", style="bold")))
                console.print(inset(_ports(ports, lang)))
                if len(ports) > _MOST_PORTS:
                    more = t("models.ports_more", lang, n=len(ports) - _MOST_PORTS)
                    console.print(inset(Text(more, style="dim")))


def _modality_rows(found: Overview, lang: str) -> Iterable[tuple[str, str]]:
    it = found.modality
    if it.name:
        evidence = t(f"models.evidence_{it.evidence[-1]}", lang)
        fields = {"name": units.plain(it.name), "evidence": evidence}
        yield t("models.inspect_model", lang), t("models.model_value", lang, **fields)
    for heading, own, whole in (
        ("inspect_takes", it.inputs, it.model_inputs),
        ("inspect_gives", it.outputs, it.model_outputs),
    ):
        said = []
        if whole is not None and (not own or set(whole) != set(own)):
            said.append(t("models.inspect_whole", lang, kinds=_kinds(whole, lang)))
        # Of a folder, what its graphs pass to each other is nobody's input.
        if len(found.parts) == 1 or (found.parts and not said):
            said.append(t("models.inspect_this", lang, kinds=_kinds(own, lang)))
        yield t(f"models.{heading}", lang), " · ".join(said) or _kinds(own, lang)
    hears = {True: "hears_yes", False: "hears_no", None: "hears_unknown"}[it.hears]
    yield t("models.inspect_hears", lang), t(f"models.{hears}", lang)


def _kinds(kinds: Sequence[str], lang: str) -> str:
    return ", ".join(t(f"models.kind_{kind}", lang) for kind in kinds or ("unknown",))


def _weight_rows(weights: Mapping[str, int], lang: str) -> Iterable[tuple[str, str]]:
    stored = {label: size for label, size in weights.items() if label != "parameters"}
    yield t("models.inspect_parameters", lang), units.count(weights["parameters"])
    yield t("models.inspect_bytes", lang), _by_dtype(stored)


def _by_dtype(stored: Mapping[str, int]) -> str:
    shares = sorted(stored.items(), key=lambda one: -one[1])
    listed = ", ".join(f"{label} {units.size(size)}" for label, size in shares)
    return f"{units.size(sum(stored.values()))} ({listed})" if listed else units.size(0)


def _part_rows(part: Part, lang: str) -> Iterable[tuple[str, str]]:
    it = part.inspection
    written = str(it.format)
    if it.opset is not None:
        written = t("models.format_value", lang, format=it.format, opset=it.opset, ir=it.ir_version)
    yield t("models.inspect_format", lang), written
    yield t("models.inspect_parameters", lang), units.count(it.parameters)
    yield t("models.inspect_precision", lang), it.precision
    yield t("models.inspect_bytes", lang), _by_dtype(it.bytes_by_dtype)
    yield t("models.inspect_weights", lang), t(f"models.weights_{it.weights}", lang)
    ram = t("models.ram_value", lang, size=units.size(it.expected_ram))
    yield t("models.inspect_ram", lang), ram
    if part.operations is not None:
        done = part.operations
        fields = {"macs": units.count(done.macs), "bytes": units.size(done.bytes)}
        dims = _sizes(done.dims)
        code = "models.macs_value" if dims else "models.macs_fixed"
        value = t(code, lang, **fields, **({"dims": dims} if dims else {}))
        if done.assumed:
            value += ". " + t("models.macs_assumed", lang)
        yield t("models.inspect_macs", lang), value
    elif part.uncounted is not None:
        code = f"errors.{part.uncounted.code}"
        reason = reason_text(Remark(code, part.uncounted.fields), lang)
        yield t("models.inspect_macs", lang), t("models.macs_none", lang, reason=reason)


def _sizes(dims: Mapping[str, int]) -> str:
    return units.plain(", ".join(f"{name}={size}" for name, size in dims.items()))


def _ports(ports: Sequence[Port], lang: str) -> Table:
    table = table_of(
        (t("models.col_port", lang), "left"),
        (t("models.col_dtype", lang), "fixed"),
        (t("models.col_shape", lang), "left"),
    )
    for port in ports[:_MOST_PORTS]:
        shape = "[" + ", ".join(map(str, port.shape)) + "]"
        table.add_row(*(Text(units.plain(cell)) for cell in (port.name, port.dtype, shape)))
    return table


def table_of(*columns: tuple[str, str]) -> Table:
    """Returns a table of (heading, kind): `left` folds, `fixed` and `right` are never cut."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for heading, kind in columns:
        table.add_column(
            Text(heading),
            justify="right" if kind == "right" else "left",
            overflow="fold",
            no_wrap=kind != "left",
        )
    return table


def pairs(rows: Iterable[tuple[str, str]]) -> Table:
    """Returns labels and values side by side."""
    grid = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
    grid.add_column(no_wrap=True, style="dim")
    grid.add_column(overflow="fold")
    for label, value in rows:
        grid.add_row(Text(label), Text(value))
    return grid


def inset(part: Table | Text) -> Padding:
    """Returns a part moved in by two columns."""
    return Padding(part, (0, 0, 0, 2), expand=False)
