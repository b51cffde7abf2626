"""The corpus check: what a corpus should not have, before anything is measured with it."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from vozmetro.errors import InputError
from vozmetro.speech.corpus import Utterance
from vozmetro.speech.normalize import normalize

Kind = Literal[
    "same_audio", "low_rate", "mixed_rates", "clipped", "quiet", "short",
    "empty_text", "odd_text", "pace",
]  # fmt: skip

LEAST_RATE = 16_000
"""Sample rate (Hz) of what models of speech hear; less was telephone sound."""
FULL_SCALE = 0.999
"""A sample at this level or above, of 1, is at full scale."""
MOST_CLIPPED = 0.001
"""Share of samples at full scale from which a recording counts as clipped."""
LEAST_PEAK = 0.01
"""Highest sample (-40 dBFS) under which a recording counts as near silent."""
LEAST_SECONDS = 0.3
"""Length in seconds under which a recording counts as very short."""
MOST_PACE = 30.0
"""Letters a second that nobody says: about twice the pace of fast speech."""
LEAST_PACE = 1.0
"""Letters a second under which most of the recording is something else."""
_MARKUP = frozenset("<>[]{}|\\_=~^*#�")
_BLOCK = 1 << 16


@dataclass(frozen=True)
class Finding:
    """One kind of trouble, and the ids of the utterances that have it."""

    kind: Kind
    ids: tuple[str, ...]


@dataclass(frozen=True)
class CorpusCheck:
    """What the check found.

    Attributes:
        findings: In the order of `Kind`; only those that there are.
        rates: Recordings by sample rate in Hz.
        repeated_texts: Utterances whose words another one has too, with other sound. No fault: a
            prompt is said in two ways, or by two people.
    """

    findings: tuple[Finding, ...]
    rates: dict[int, int]
    repeated_texts: int


@dataclass(frozen=True)
class _Sound:
    digest: str
    rate: int
    clipped: float
    peak: float


def check(utterances: Sequence[Utterance]) -> CorpusCheck:
    """Looks at every recording and every reference of a corpus.

    Args:
        utterances: All of it.

    Raises:
        InputError: `not_audio` for a recording that cannot be read.
    """
    sounds = [_sound(one.path) for one in utterances]
    rates = Counter(sound.rate for sound in sounds)
    usual = max(rates, key=lambda rate: (rates[rate], rate), default=0)
    by_sound: dict[str, list[str]] = defaultdict(list)
    by_text: dict[tuple[str, str], set[str]] = defaultdict(set)
    found: dict[Kind, list[str]] = defaultdict(list)
    words = [normalize(one.text, one.language) for one in utterances]
    for one, sound, said in zip(utterances, sounds, words, strict=True):
        by_sound[sound.digest].append(one.id)
        by_text[one.language, said].add(sound.digest)
        for kind, is_so in _faults(one, sound, said, usual).items():
            if is_so:
                found[kind].append(one.id)
    found["same_audio"] = [key for keys in by_sound.values() if len(keys) > 1 for key in keys]
    return CorpusCheck(
        tuple(Finding(kind, tuple(found[kind])) for kind in get_args(Kind) if found.get(kind)),
        dict(sorted(rates.items())),
        sum(
            len(by_text[one.language, said]) > 1
            for one, said in zip(utterances, words, strict=True)
            if said
        ),
    )


def _faults(one: Utterance, sound: _Sound, said: str, usual: int) -> dict[Kind, bool]:
    letters = sum(map(str.isalnum, said))
    pace = letters / one.seconds
    return {
        "low_rate": sound.rate < LEAST_RATE,
        "mixed_rates": sound.rate != usual,
        "clipped": sound.clipped > MOST_CLIPPED,
        "quiet": sound.peak < LEAST_PEAK,
        "short": one.seconds < LEAST_SECONDS,
        "empty_text": not letters,
        "odd_text": bool(_MARKUP & set(one.text)) or not one.text.isprintable(),
        "pace": letters > 0 and not LEAST_PACE <= pace <= MOST_PACE,
    }


def _sound(path: Path) -> _Sound:
    """Reads a recording in pieces. The digest is of its samples, whatever file holds them."""
    import soundfile

    digest = hashlib.sha256()
    total = clipped = 0
    peak = 0.0
    try:
        with soundfile.SoundFile(path) as file:
            rate = int(file.samplerate)
            digest.update(f"{rate} {file.channels}".encode())
            for block in file.blocks(_BLOCK, dtype="float32"):
                digest.update(np.ascontiguousarray(block).tobytes())
                level = np.abs(np.nan_to_num(block))
                total += level.size
                clipped += int(np.count_nonzero(level >= FULL_SCALE))
                peak = max(peak, float(level.max(initial=0.0)))
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise InputError("not_audio", path=path, detail=error) from error
    return _Sound(digest.hexdigest(), rate, clipped / max(1, total), peak)
