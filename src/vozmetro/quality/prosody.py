"""Prosodic activity: how much the pitch, the loudness and the pace of speech move.

It says how lively speech is made, not whether it suits what is said: empathy is for listeners.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from vozmetro.audio import SPEECH_RATE, Waveform
from vozmetro.errors import MissingExtraError
from vozmetro.quality.predicted import checked
from vozmetro.quality.syllables import syllables

Floats = NDArray[np.float64]

FRAME_MS = 10
"""Between two values of the pitch or of the energy."""
WINDOW_MS = 25
"""On which a level is taken."""
ACTIVE_DB = 25.0
"""Frames so far below the loudest are no speech (de Jong and Wempe, Behavior Research Methods 41,
2009: 25 dB below the 99th percentile)."""
PAUSE_SECONDS = 0.25
"""Shorter silences are the closures of stops (Goldman-Eisler, Psycholinguistics, 1968)."""
PITCH_FLOOR_HZ, PITCH_CEILING_HZ = 60.0, 600.0
LONGEST_SECONDS = 120.0
"""What lies behind it is left out, so that the cost has a bound."""
_LEAST_VOICED = 10


@dataclass(frozen=True)
class Prosody:
    """Prosodic activity of one utterance; None where it holds nothing to measure it on.

    Attributes:
        seconds: Length measured.
        f0_median_hz: Of the voiced frames.
        f0_sd_st: Standard deviation of the pitch, in semitones.
        f0_range_st: From the 5th to the 95th percentile of the pitch, in semitones.
        voiced_ratio: Voiced share of the active frames, 0 to 1.
        energy_sd_db: Standard deviation of the level of the active frames.
        speech_seconds: From the first to the last active frame, without pauses.
        rate_syllables_s: Syllables of the text per second of `speech_seconds`.
        pauses_per_minute: Silences inside the utterance, per minute from first to last sound.
        pause_mean_seconds: Their mean length.
        pause_share: Their share of the time from first to last sound, 0 to 1.
    """

    seconds: float
    f0_median_hz: float | None
    f0_sd_st: float | None
    f0_range_st: float | None
    voiced_ratio: float
    energy_sd_db: float
    speech_seconds: float
    rate_syllables_s: float | None
    pauses_per_minute: float
    pause_mean_seconds: float | None
    pause_share: float


FEATURES = tuple(
    field.name for field in fields(Prosody) if field.name not in ("seconds", "speech_seconds")
)
"""What bands and variation are about, in the order to show it."""


@dataclass(frozen=True)
class StyleShift:
    """What asking for other styles changes in one feature.

    Attributes:
        low_style: With the least mean.
        high_style: With the greatest.
        difference: Between the two means, in the feature's unit (F0: in semitones).
        repeat_sd: Standard deviation over repeats of one style, pooled; None without repeats.
    """

    low_style: str
    high_style: str
    difference: float
    repeat_sd: float | None


def prosody(waveform: Waveform, text: str = "", language: str = "") -> Prosody:
    """Measures the prosodic activity of clean speech; noise hides its pauses.

    Pitch by WORLD's DIO, refined by StoneMask (Morise et al., 2016), in two passes: the second one
    looks between 0.75 times the first quartile of the first one and 2.5 times the third (after De
    Looze and Hirst, Speech Prosody 2008), which leaves out slips of an octave.

    Args:
        waveform: At any rate; at least a quarter of a second.
        text: What is said, for the speaking rate.
        language: ISO 639-1; syllables are counted in `es` and `en`.

    Raises:
        InputError: `speech_not_finite`, `speech_too_short` or `speech_silent`.
        MissingExtraError: pyworld is not installed.
    """
    samples = checked(waveform)[: int(LONGEST_SECONDS * SPEECH_RATE)].astype(np.float64)
    levels = _levels_db(samples)
    active = levels >= np.percentile(levels, 99) - ACTIVE_DB
    first, last = np.flatnonzero(active)[[0, -1]]
    pauses = _pauses(active[first : last + 1])
    span = float(last + 1 - first) * FRAME_MS / 1000
    speech = span - sum(pauses)
    pitch = _pitch_hz(samples)
    length = min(len(pitch), len(active))
    voiced = (pitch[:length] > 0) & active[:length]
    spoken = syllables(text, language) if text else None
    return Prosody(
        seconds=len(samples) / SPEECH_RATE,
        **_moves(pitch[:length][voiced]),
        voiced_ratio=float(voiced.sum() / active.sum()),
        energy_sd_db=float(levels[active].std()),
        speech_seconds=speech,
        rate_syllables_s=spoken / speech if spoken else None,
        pauses_per_minute=len(pauses) / span * 60,
        pause_mean_seconds=float(np.mean(pauses)) if pauses else None,
        pause_share=sum(pauses) / span,
    )


def variation(repeats: Sequence[Prosody]) -> dict[str, float]:
    """Returns the standard deviation of each feature over repeats of the same sentence.

    0 where the voice says it the same way each time. The median pitch is compared in semitones.

    Args:
        repeats: At least two; a feature that fewer than two have is left out.
    """
    found = {name: _values(repeats, name) for name in FEATURES}
    return {name: float(np.std(of, ddof=1)) for name, of in found.items() if len(of) > 1}


def across_styles(by_style: Mapping[str, Sequence[Prosody]]) -> dict[str, StyleShift]:
    """Returns what the requested style changes, beside what changes between repeats anyway.

    Args:
        by_style: Repeats of the same sentences under each style, at least two styles.

    Returns:
        By feature; one that fewer than two styles have is left out.
    """
    shifts = {}
    for name in FEATURES:
        values = {style: _values(of, name) for style, of in by_style.items()}
        means = {style: float(np.mean(of)) for style, of in values.items() if len(of)}
        if len(means) < 2:
            continue
        low, high = min(means, key=lambda s: means[s]), max(means, key=lambda s: means[s])
        free = sum(len(of) - 1 for of in values.values() if len(of))
        squares = sum(float(((of - of.mean()) ** 2).sum()) for of in values.values() if len(of))
        sd = float(np.sqrt(squares / free)) if free else None
        shifts[name] = StyleShift(low, high, means[high] - means[low], sd)
    return shifts


def _values(of: Sequence[Prosody], name: str) -> Floats:
    found = [getattr(one, name) for one in of]
    values = np.array([value for value in found if value is not None], np.float64)
    return 12 * np.log2(values) if name == "f0_median_hz" else values


def _moves(pitch: Floats) -> dict[str, float | None]:
    if len(pitch) < _LEAST_VOICED:
        return dict.fromkeys(("f0_median_hz", "f0_sd_st", "f0_range_st"))
    median = float(np.median(pitch))
    semitones = 12 * np.log2(pitch / median)
    low, high = np.percentile(semitones, (5, 95))
    return {
        "f0_median_hz": median,
        "f0_sd_st": float(semitones.std()),
        "f0_range_st": float(high - low),
    }


def _levels_db(samples: Floats) -> Floats:
    """Levels of 25 ms around every 10 ms, in dB re full scale, shape [T // 160 + 1]."""
    window, hop = SPEECH_RATE * WINDOW_MS // 1000, SPEECH_RATE * FRAME_MS // 1000
    energy = np.concatenate([[0.0], np.cumsum(np.pad(samples, window // 2) ** 2)])
    sums = (energy[window:] - energy[:-window])[::hop]
    return np.asarray(10 * np.log10(np.maximum(sums / window, 1e-12)))


def _pauses(active: NDArray[np.bool_]) -> list[float]:
    """Seconds of each silence between two active frames that is long enough to be a pause."""
    edges = np.diff(active.astype(np.int8))
    lengths = np.flatnonzero(edges == 1) - np.flatnonzero(edges == -1)
    # Windows that reach into the sound on either side count as sound.
    seconds = (lengths * FRAME_MS + WINDOW_MS) / 1000
    return [float(one) for one in seconds if one >= PAUSE_SECONDS]


def _pitch_hz(samples: Floats) -> Floats:
    """Pitch every 10 ms, 0 where unvoiced."""
    if find_spec("pyworld") is None:
        raise MissingExtraError("quality", "pyworld")
    first = _world(samples, PITCH_FLOOR_HZ, PITCH_CEILING_HZ)
    heard = first[first > 0]
    if len(heard) < _LEAST_VOICED:
        return first
    low, high = np.percentile(heard, (25, 75))
    floor = max(PITCH_FLOOR_HZ, 0.75 * float(low))
    ceiling = min(PITCH_CEILING_HZ, 2.5 * float(high))
    return _world(samples, floor, ceiling)


def _world(samples: Floats, floor: float, ceiling: float) -> Floats:
    import pyworld

    found, times = pyworld.dio(
        samples, SPEECH_RATE, f0_floor=floor, f0_ceil=ceiling, frame_period=float(FRAME_MS)
    )
    refined = pyworld.stonemask(samples, found, times, SPEECH_RATE)
    # Refining may leave the band by a hair, or slip far where there is no pitch at all.
    return np.where((refined >= floor * 0.97) & (refined <= ceiling * 1.03), refined, 0.0)
