"""What a quantization prints: size, what was quantized, errors, and what it changed, measured."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from vozmetro import units
from vozmetro.i18n import catalogue, t

WORST = 3
"""Layers shown of each graph; the record has all."""
_NAME = 42
_EMBEDDING_SHARE = 0.2
"""Share of the new file from which tables left in FP32 are worth a hint."""


def quantization_lines(record: Mapping[str, Any], path: Path, lang: str) -> Iterator[str]:
    """Yields the lines for a terminal, at most 80 columns but for long names.

    Args:
        record: A `Conversion` of the kind `quantization` as plain data.
        path: The model.
        lang: `es` or `en`.
    """
    say = partial(t, lang=lang)
    graphs = record["report"]["graphs"]
    before, after = (sum(g[f"{side}_bytes"] for g in graphs) for side in ("source", "output"))
    yield say("quantize.written", path=units.plain(path), precision=record["scheme"]["precision"])
    yield say(
        "quantize.size",
        before=units.size(before),
        after=units.size(after),
        change=units.percent(after / before),
    )
    yield say(
        "quantize.cost", seconds=f"{record['seconds']:.1f}", ram=units.size(record["peak_rss"])
    )
    for graph in graphs:
        yield ""
        yield from _graph(graph, record["scheme"], lang)
    yield ""
    yield from _changes(record, lang)


def _graph(graph: Mapping[str, Any], scheme: Mapping[str, str], lang: str) -> Iterator[str]:
    say = partial(t, lang=lang)
    share = say(
        "quantize.share",
        name=units.plain(graph["output"]),
        bytes=f"{100 * graph['share']:.1f}",
        parameters=f"{100 * graph['share_parameters']:.1f}",
        layers=len(graph["layers"]),
    )
    yield from share.splitlines()
    worst = sorted(graph["layers"], key=lambda layer: -layer["error"])[:WORST]
    yield say("quantize.worst")
    for layer in worst:
        name = units.plain(layer["name"])
        name = f"…{name[1 - _NAME :]}" if len(name) > _NAME else name
        shape = f"{layer['op']} {layer['outputs']}x{layer['inputs']}"
        yield f"   {name:<{_NAME}}  {shape:<20} {100 * layer['error']:5.2f} %"
    if graph["left"]:
        yield say("quantize.left")
    for reason, some in _by_reason(graph["left"]).items():
        size = units.size(sum(one["bytes"] for one in some))
        why = say(f"quantize.left_{reason}", ops=", ".join(_ops(some)))
        yield from _wrapped(say("quantize.left_line", size=size, n=len(some), why=why))
    tables = sum(one["bytes"] for one in graph["left"] if one["reason"] == "embedding")
    if scheme["embeddings"] == "left" and tables > _EMBEDDING_SHARE * graph["output_bytes"]:
        yield from _wrapped(say("quantize.embeddings_hint", size=units.size(tables)))
    if graph["dynamic_fallback"]:
        yield from _wrapped(say("quantize.fallback", n=len(graph["dynamic_fallback"])))


def _by_reason(left: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for one in left:
        found.setdefault(one["reason"], []).append(one)
    return found


def _ops(left: Sequence[Mapping[str, Any]]) -> list[str]:
    return [units.plain(op) for op in dict.fromkeys(one["op"] for one in left if one["op"])][:4]


def _changes(record: Mapping[str, Any], lang: str) -> Iterator[str]:
    """What was measured after writing, or why it was not."""
    say = partial(t, lang=lang)
    report, parity = record["report"], record["parity"]
    if parity is not None:
        yield say(
            "quantize.output_error",
            error=f"{100 * parity['relative_error']:.2f}",
            input=units.plain(parity["input"]),
        )
        if parity["utterances"]:
            yield say("quantize.same_tokens", same=parity["identical"], tokens=parity["utterances"])
    if "output_skipped" in report:
        why = _error(report["output_skipped"], lang)
        yield from _wrapped(say("quantize.output_skipped", why=why), "")
    if "gain" in report:
        yield from _gain(report["gain"], lang)
    elif "gain_skipped" in report:
        why = _error(report["gain_skipped"], lang)
        yield from _wrapped(say("quantize.gain_skipped", why=why), "")
    else:
        yield say("quantize.not_measured")


def _gain(gain: Mapping[str, Any], lang: str) -> Iterator[str]:
    say = partial(t, lang=lang)
    ends = [gain["low"], gain["high"]]
    interval = ", ".join("–" if end is None else f"{100 * end:+.1f}" for end in ends)
    yield say(
        "quantize.speed", change=f"{100 * gain['change']:+.1f}", interval=interval, n=gain["pairs"]
    )
    least, most = (f"{-100 * end:.0f}" for end in reversed(gain["expected"]))
    yield say(f"quantize.guide_{gain['holds']}", least=least, most=most)
    before, after = gain["before"], gain["after"]
    if before is not None and after is not None:
        yield say(
            "quantize.wer",
            before=f"{100 * before['rate']:.1f}",
            after=f"{100 * after['rate']:.1f}",
            words=after["words"],
            utterances=after["utterances"],
        )
    if gain["same_text"] is not None and after is not None:
        yield say("quantize.same_text", same=gain["same_text"], n=after["utterances"])


def _wrapped(text: str, indent: str = "   ") -> list[str]:
    """Returns a sentence in lines of a terminal; words longer than one stay whole."""
    return textwrap.wrap(
        text,
        80,
        initial_indent=indent,
        subsequent_indent=indent + "   ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _error(said: Mapping[str, Any], lang: str) -> str:
    """Returns the sentence of an error that was noted."""
    fields = {name: units.plain(value) for name, value in said["fields"].items()}
    # Not through t(): a field may be called `key` or `lang`.
    return catalogue(lang)[f"errors.{said['code']}"].format(**fields)
