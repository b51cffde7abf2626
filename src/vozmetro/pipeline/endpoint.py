"""When the user has finished: voice activity, and how long a silence must last."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from vozmetro.audio import SPEECH_RATE, Samples
from vozmetro.engines.voice_activity import FRAME, VoiceActivity
from vozmetro.errors import InputError

SPEECH, SILENCE = 0.5, 0.35
"""Probabilities from which on speech begins, and below which it pauses: as Silero's own iterator
has them, apart so that it does not flicker."""
ONSET_FRAMES = 2
"""Frames of speech on end, 64 ms, before it counts: a click is shorter."""

Kind = Literal["started", "paused", "resumed", "stopped"]


@dataclass(frozen=True)
class Endpointing:
    """How the end of speech is found.

    Attributes:
        hangover_s: Seconds of silence after which the user has finished. Shorter is faster and
            cuts off those who pause; `benchmarks/endpoint.py` prints the frontier that the default
            was chosen on.
    """

    hangover_s: float = 0.32

    def __post_init__(self) -> None:
        if not 0.032 <= self.hangover_s <= 5.0:
            raise InputError("hangover_range", value=self.hangover_s)


@dataclass(frozen=True)
class Mark:
    """A change that the endpointer has noticed.

    Attributes:
        kind: Speech `started`; it `paused`, and may be over; it `resumed`; it `stopped`.
        sample: Samples heard when it was noticed.
        since: Samples heard when what was noticed began.
    """

    kind: Kind
    sample: int
    since: int


class Endpointer:
    """Finds utterances in sound that comes in.

    Args:
        voice: Judges frames.
        settings: How long a silence must last.
    """

    def __init__(self, voice: VoiceActivity, settings: Endpointing | None = None) -> None:
        self._voice = voice
        settings = settings or Endpointing()
        self._hangover = round(settings.hangover_s * SPEECH_RATE / FRAME)
        self._rest: Samples = np.zeros(0, np.float32)
        self._heard = 0
        self.reset()

    def reset(self) -> None:
        """Waits for the next utterance."""
        self._speaking = False
        self._onset = 0
        self._quiet = 0

    @property
    def speaking(self) -> bool:
        """Whether an utterance has started and not stopped."""
        return self._speaking

    def feed(self, samples: Samples) -> list[Mark]:
        """Takes audio, float32 mono [T] at 16 kHz; returns what has changed, in order."""
        self._rest = np.concatenate([self._rest, samples])
        marks = []
        while len(self._rest) >= FRAME:
            frame, self._rest = self._rest[:FRAME], self._rest[FRAME:]
            self._heard += FRAME
            mark = self._next(self._voice.probability(frame))
            if mark:
                marks.append(mark)
        return marks

    def _next(self, probability: float) -> Mark | None:
        if self._speaking:
            return self._spoken(probability)
        self._onset = self._onset + 1 if probability >= SPEECH else 0
        if self._onset < ONSET_FRAMES:
            return None
        self._speaking, self._quiet = True, 0
        return self._mark("started", ONSET_FRAMES)

    def _spoken(self, probability: float) -> Mark | None:
        """Within an utterance."""
        if not self._quiet:
            if probability >= SILENCE:
                return None
            self._quiet = 1
            return self._mark("paused", 1)
        if probability >= SPEECH:
            self._quiet = 0
            return self._mark("resumed", 1)
        self._quiet += 1
        if self._quiet < self._hangover:
            return None
        quiet = self._quiet
        self.reset()
        return self._mark("stopped", quiet)

    def _mark(self, kind: Kind, frames: int) -> Mark:
        return Mark(kind, self._heard, self._heard - frames * FRAME)
