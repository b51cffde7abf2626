"""What a conversion prints: where the model is, how long it took, how far it is from its source."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from vozmetro import units
from vozmetro.i18n import t

SAME = 1e-3
"""Relative error from which a conversion at FP32 is another model. Rounding stays far below."""


def differs(record: Mapping[str, Any]) -> bool:
    """Says whether a comparison shows that the conversion went wrong.

    Only at FP32: what a quantization may change, nobody can say beforehand.

    Args:
        record: A `Conversion` as plain data.
    """
    parity = record["parity"]
    if parity is None or record["scheme"]["precision"] != "fp32":
        return False
    # Written so that NaN, too, is an error.
    close = parity["relative_error"] < SAME and math.isfinite(parity["max_error"])
    return not close or bool(parity["differing"])


def conversion_lines(record: Mapping[str, Any], path: Path, lang: str) -> Iterator[str]:
    """Yields the paragraphs for a terminal of 80 columns.

    Args:
        record: A `Conversion` as plain data.
        path: The model.
        lang: `es` or `en`.
    """
    for line in _lines(record, path, lang):
        yield textwrap.fill(line, 80, subsequent_indent="   ", break_on_hyphens=False)


def _lines(record: Mapping[str, Any], path: Path, lang: str) -> Iterator[str]:
    say = partial(t, lang=lang)
    total = sum(file["bytes"] for file in record["output"])
    yield say("convert.written", path=units.plain(path), size=units.size(total))
    yield say(
        "convert.cost", seconds=f"{record['seconds']:.1f}", ram=units.size(record["peak_rss"])
    )
    parity = record["parity"]
    skipped = record["report"].get("parity_skipped")
    if skipped:
        why = t(f"errors.{skipped['code']}", lang, **skipped["fields"])
        yield say("convert.not_compared", why=why)
    elif parity is None:
        yield say("convert.not_checked")
    else:
        yield from _parity(parity, record["scheme"], lang)
        if differs(record):
            yield say("convert.differs", most=f"{SAME:.0e}")
    for name, gain in record["optimization"].items():
        yield _gain(name, gain, lang)


def _parity(parity: Mapping[str, Any], scheme: Mapping[str, str], lang: str) -> Iterator[str]:
    say = partial(t, lang=lang)
    yield say(
        "convert.parity",
        reference=parity["reference"],
        input=parity["input"],
        error=f"{parity['max_error']:.1e}",
        relative=f"{parity['relative_error']:.1e}",
    )
    if parity["layers"]:
        yield say("convert.parity_layers", layers=parity["layers"])
    if parity["utterances"]:
        yield say("convert.tokens", identical=parity["identical"], utterances=parity["utterances"])
        if parity["differing"]:
            yield say("convert.differing", names=", ".join(parity["differing"][:5]))
    if scheme["precision"] != "fp32":
        yield say("convert.parity_quantized", precision=scheme["precision"].upper())


def _gain(name: str, gain: Mapping[str, Any], lang: str) -> str:
    """One graph's line: what offline optimization changed."""
    low, high = gain["low"], gain["high"]
    interval = "–" if low is None or high is None else f"{low:.3f}–{high:.3f}"
    code = "convert.optimized_kept" if gain["kept"] else "convert.optimized_not"
    return t(
        code,
        lang,
        name=units.plain(name),
        ratio=f"{gain['ratio']:.3f}",
        interval=interval,
        load=f"{gain['load_ratio']:.2f}",
    )
