"""How much prosodic activity one human reader of a language has: where 90 % of the clips lie.

A band is that reader's, and that style of reading's: outside of it is unlike that person, no more.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from vozmetro.errors import InputError
from vozmetro.quality.prosody import FEATURES, Prosody

FILE = Path(__file__).with_suffix(".toml")


@dataclass(frozen=True)
class Band:
    """The 5th and 95th percentile of each feature over one reader's utterances.

    Attributes:
        language: ISO 639-1.
        corpus: Where the utterances are from.
        speaker: Who reads them.
        utterances: How many were measured.
        command: What measured them.
        features: By name of `prosody.FEATURES`: low and high, in the feature's unit.
    """

    language: str
    corpus: str
    speaker: str
    utterances: int
    command: str
    features: Mapping[str, tuple[float, float]]


def band(language: str) -> Band | None:
    """Returns the band of a language (`es`, `es-MX`), or None where none was measured."""
    return read(FILE).get(language.partition("-")[0].casefold())


@cache
def read(path: Path) -> dict[str, Band]:
    """Returns the bands in a file, by language.

    Raises:
        InputError: `band_invalid`.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
        return {code: _band(code, table) for code, table in tables.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError("band_invalid", path=path, detail=error) from error


def inside(measured: Prosody, within: Band) -> dict[str, bool]:
    """Returns for each feature whether it lies within the band.

    The median pitch is left out, since it is the reader's voice and not how it moves, and so is
    what the utterance or the band does not have.
    """
    found = {}
    for name, (low, high) in within.features.items():
        value = getattr(measured, name)
        if value is not None and name != "f0_median_hz":
            found[name] = low <= value <= high
    return found


def _band(code: str, table: Mapping[str, object]) -> Band:
    limits = table["features"]
    if not isinstance(limits, dict) or not set(limits) <= set(FEATURES):
        raise ValueError("features not known")
    features = {name: (float(low), float(high)) for name, (low, high) in limits.items()}
    if any(not low <= high for low, high in features.values()):
        raise ValueError("low > high")
    return Band(
        code,
        str(table["corpus"]),
        str(table["speaker"]),
        int(str(table["utterances"])),
        str(table["command"]),
        features,
    )
