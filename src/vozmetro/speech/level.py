"""Active speech level: how loud the speech is, its pauses left out (ITU-T P.56, method B)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from vozmetro.audio import Waveform

TIME_CONSTANT = 0.03
"""Of each of the two exponential averages that make the envelope, in seconds."""
HANGOVER = 0.2
"""Seconds for which speech counts as active after its envelope fell below a threshold."""
MARGIN_DB = 15.9
"""How far below the active level the threshold of activity lies."""
_LOWEST_OCTAVE = -60
"""Envelopes below 2^-60 of full scale are silence: no 32-bit recording holds them."""


@dataclass(frozen=True)
class ActiveLevel:
    """Level of the active part of a recording.

    Attributes:
        db: dB relative to full scale (dBov: RMS re 1.0); -inf for digital silence.
        activity: Share of the time that is active, 0 to 1; 0 for silence.
    """

    db: float
    activity: float


def rms_db(samples: np.ndarray) -> float:
    """Returns the level of all samples, pauses included, in dB re full scale; -inf for silence.

    Args:
        samples: Shape [T]; may be empty.
    """
    if not len(samples):
        return -math.inf
    # No dot product: numpy would start threads for it that no option of vozmetro limits.
    power = float(np.square(samples, dtype=np.float64).mean())
    return 10 * math.log10(power) if power > 0 else -math.inf


def active_level(waveform: Waveform) -> ActiveLevel:
    """Measures the active speech level as ITU-T P.56 (12/2011), method B, defines it.

    The envelope is the rectified signal through two exponential averages of 30 ms. For thresholds
    an octave apart, the energy of the whole recording is divided by the time that the envelope
    spends above the threshold, 0.2 s of hangover included; the active level is where that quotient
    lies 15.9 dB above its threshold, interpolated linearly in dB. The thresholds are powers of two
    of full scale as in the standard, and go on below the 16 bits for which it lists them.

    A click too short for any threshold to reach the margin takes the quotient of the highest
    threshold that its envelope crosses.

    Args:
        waveform: Any length and rate; a constant offset counts as signal, as in the standard.
    """
    from scipy.ndimage import maximum_filter1d
    from scipy.signal import lfilter

    samples = waveform.samples.astype(np.float64)
    energy = float(np.square(samples).sum())
    if not 0 < energy < math.inf:
        return ActiveLevel(-math.inf, 0.0)
    decay = math.exp(-1 / (waveform.rate * TIME_CONSTANT))
    once = [1 - decay], [1, -decay]
    envelope = lfilter(*once, lfilter(*once, np.abs(samples)))
    # A sample is active where the envelope passed the threshold now or within the hangover before:
    # where its running maximum did. One pass then serves all thresholds.
    hangover = math.ceil(HANGOVER * waveform.rate)
    size = hangover + 1
    held = maximum_filter1d(envelope, size, mode="constant", cval=0.0, origin=size - 1 - size // 2)
    # frexp: held = f * 2^e with f in [0.5, 1), so held >= 2^k exactly where e > k.
    octaves = np.clip(np.frexp(held)[1] - 1, _LOWEST_OCTAVE - 1, None)
    octaves[held <= 0] = _LOWEST_OCTAVE - 1
    counts = np.bincount(octaves - (_LOWEST_OCTAVE - 1))[1:]
    active = np.cumsum(counts[::-1])[::-1].astype(np.float64)
    db = _crossing(10 * np.log10(energy / active)) if len(active) else -math.inf
    if db == -math.inf:
        return ActiveLevel(-math.inf, 0.0)
    return ActiveLevel(db, min(1.0, energy / len(samples) / 10 ** (db / 10)))


def _crossing(levels: np.ndarray) -> float:
    """Returns the level that lies the margin above its threshold.

    Args:
        levels: Shape [K], dB: energy over active time for thresholds 2^(_LOWEST_OCTAVE + k).
    """
    octave_db = 20 * math.log10(2)
    excess = levels - octave_db * (_LOWEST_OCTAVE + np.arange(len(levels))) - MARGIN_DB
    below = np.flatnonzero(excess <= 0)
    if not len(below):
        return float(levels[-1])
    at = int(below[0])
    if at == 0:
        return float(levels[0])
    part = excess[at - 1] / (excess[at - 1] - excess[at])
    return float(levels[at - 1] + part * (levels[at] - levels[at - 1]))
