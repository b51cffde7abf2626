"""Where speech ends in a recording: from the sound itself, before any engine has heard it."""

from __future__ import annotations

import numpy as np

from vozmetro.audio import Waveform
from vozmetro.speech.level import active_level

FRAME_S = 0.01
MARGIN_DB = 25.0
"""Below the active speech level (ITU-T P.56) a frame is no speech any more: the weakest last
consonants lie about 20 dB under it, a recording's own noise usually 35 dB or more."""


def speech_end(waveform: Waveform) -> float:
    """Returns the second at which the last frame of 10 ms ends that is loud enough to be speech.

    Args:
        waveform: Any rate. In a recording without speech, its end is returned.
    """
    size = max(1, round(FRAME_S * waveform.rate))
    frames = waveform.samples[: len(waveform.samples) // size * size].reshape(-1, size)
    level = active_level(waveform).db
    if not len(frames) or not np.isfinite(level):
        return waveform.seconds
    power = np.square(frames, dtype=np.float64).mean(axis=1)
    loud = np.flatnonzero(10 * np.log10(power + 1e-20) > level - MARGIN_DB)
    return float((loud[-1] + 1) * size / waveform.rate) if len(loud) else waveform.seconds
