"""Facts about inputs and outputs that a reader must know before believing a latency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vozmetro.measure.records import Item, Note, Sample
from vozmetro.measure.subject import Target

_LISTED = 5


def _names(ids: Sequence[str]) -> str:
    more = f" (+{len(ids) - _LISTED})" if len(ids) > _LISTED else ""
    return ", ".join(ids[:_LISTED]) + more


def output_notes(
    target: Target,
    items: Sequence[Item],
    digests: Mapping[str, str],
    bad: Sequence[str],
    silence_same: bool,
) -> list[Note]:
    """Returns notes on what came out.

    Args:
        target: The subject.
        items: Items as measured, with resolved inputs and outputs.
        digests: Digest of each item's last output by item id.
        bad: Ids of items that gave NaN, infinity or no audio.
        silence_same: Whether the first item and the same input without content gave one output.
    """
    notes = []
    if bad:
        code = "nan_output" if target.kind in ("graph", "lm") else "silent_output"
        notes.append(Note(code=code, fields={"items": _names(bad)}))
    if target.kind in ("stt", "cascade"):
        empty = [item.id for item in items if item.id in digests and not item.output]
        if empty:
            notes.append(Note(code="empty_output", fields={"items": _names(empty)}))
    distinct = set(digests.values())
    if silence_same or (len(digests) > 1 and len(distinct) == 1):
        notes.append(Note(code="constant_output", fields={"count": str(len(digests))}))
    return notes


def turn_notes(samples: Sequence[Sample]) -> list[Note]:
    """Returns notes on whole turns that did not end when the user had finished."""
    notes = []
    cut = sum("stt" in one.parts and "endpoint" not in one.parts for one in samples)
    missed = sum("stt" not in one.parts for one in samples)
    for code, count in (("turns_cut", cut), ("turns_missed", missed)):
        if count:
            share = f"{100 * count / len(samples):.1f}"
            fields = {"count": str(count), "turns": str(len(samples)), "share": share}
            notes.append(Note(code=code, fields=fields))
    return notes


def input_notes(target: Target, items: Sequence[Item]) -> list[Note]:
    """Returns notes on how the inputs were made."""
    notes = []
    shapes = {tuple(tuple(one.shape) for one in item.inputs) for item in items}
    lengths = {item.seconds for item in items}
    if target.kind == "graph" and len(lengths) > 1 and len(shapes) == 1:
        main = items[0].inputs[0]
        shape = "x".join(map(str, main.shape))
        notes.append(Note(code="length_fixed", fields={"input": main.name, "shape": shape}))
    for one in items[0].inputs:
        if one.rule == "guess":
            shape = "x".join(map(str, one.shape))
            notes.append(Note(code="guessed_input", fields={"input": one.name, "shape": shape}))
    if target.kind != "lm" and any(item.source == "synthetic" for item in items):
        notes.append(Note(code="synthetic_audio"))
    voice = target.models[-1]
    if target.kind == "cascade" and voice.languages:
        others = sorted({item.language for item in items} - {"", *voice.languages})
        if others:
            fields = {"voice": ", ".join(voice.languages), "spoken": ", ".join(others)}
            notes.append(Note(code="voice_language", fields=fields))
    return notes
