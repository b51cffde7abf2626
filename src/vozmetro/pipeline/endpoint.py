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

TICK = 128
"""Samples of which the level is taken, 8 ms: a quarter of the network's frame."""
PAUSE = 512
"""Samples of low level, 32 ms, after which speech may have paused: a stop consonant has as much."""
LAG = 1024
"""Samples, 64 ms, that the network is behind where it decides alone."""
_MARGIN = 10 ** (-35 / 10)
"""Of power: 35 dB below the loudest there is no speech; with 20 to 30, weak last sounds of words
count as pauses, and as many utterances are cut off at any wait."""
_SILENT = 10 ** (-60 / 10)
"""Of power: -60 dB of full scale. What is below is no speech, and the network is not asked: it
takes 2.4 ms for a frame of 32 ms, in which no other thread of Python can work, and would take them
all day long where nobody speaks."""
_FORGETTING = 10 ** (-0.02 / 10)
"""Of the loudest power, in 8 ms: 2.5 dB a second."""
HANGOVER_S = 0.208
"""Seconds of silence that end an utterance, unless told otherwise."""
LEAST_S, MOST_S = 0.032, 5.0
"""Seconds that it may be."""

Kind = Literal["started", "paused", "resumed", "stopped"]


@dataclass(frozen=True)
class Endpointing:
    """How the end of speech is found.

    Attributes:
        hangover_s: Seconds of silence after which the user has finished. Shorter is faster and
            cuts off those who pause; `benchmarks/endpoint.py` prints the frontier that the default
            was chosen on.
    """

    hangover_s: float = HANGOVER_S

    def __post_init__(self) -> None:
        if not LEAST_S <= self.hangover_s <= MOST_S:
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

    Two judges: the network knows speech from noise, but its probability falls two frames after the
    speech has and rises a frame after it; the level of 10 ms follows at once, but noise has one
    too. Silence lasts from where the level fell, and ends an utterance once the network agrees.
    Where noise keeps the level up, the network decides alone, and a little later.

    Args:
        voice: Judges frames.
        settings: How long a silence must last.
    """

    def __init__(self, voice: VoiceActivity, settings: Endpointing | None = None) -> None:
        self._voice = voice
        settings = settings or Endpointing()
        self._hangover = round(settings.hangover_s * SPEECH_RATE)
        self._rest: Samples = np.zeros(0, np.float32)
        self._frame: list[Samples] = []
        self._heard = 0
        self._probability = 0.0
        self.reset()

    def reset(self) -> None:
        """Waits for the next utterance."""
        self._speaking = False
        self._paused = False
        self._onset = 0
        self._level = 0.0
        self._loud = self._heard
        self._quiet = self._judged = self._heard

    @property
    def speaking(self) -> bool:
        """Whether an utterance has started and not stopped."""
        return self._speaking

    def feed(self, samples: Samples) -> list[Mark]:
        """Takes audio, float32 mono [T] at 16 kHz; returns what has changed, in order."""
        self._rest = np.concatenate([self._rest, samples])
        marks = []
        while len(self._rest) >= TICK:
            tick, self._rest = self._rest[:TICK], self._rest[TICK:]
            self._heard += TICK
            self._hear(tick)
            mark = self._spoken() if self._speaking else self._silent()
            if mark:
                marks.append(mark)
        return marks

    def _hear(self, tick: Samples) -> None:
        """Updates both judges."""
        power = float(np.square(tick).mean())
        self._level = max(power, self._level * _FORGETTING)
        if power > self._level * _MARGIN:
            self._loud = self._heard
        self._frame.append(tick)
        if len(self._frame) * TICK == FRAME:
            frame, self._frame = np.concatenate(self._frame), []
            silent = float(np.square(frame).mean()) < _SILENT
            self._probability = 0.0 if silent else self._voice.probability(frame)
            self._judged = self._heard
            self._onset = self._onset + 1 if self._probability >= SPEECH else 0
            # In between, a frame counts as what the last clear one was.
            if self._probability >= SPEECH or (self._probability >= SILENCE and not self._paused):
                self._quiet = self._heard

    def _silent(self) -> Mark | None:
        """Before an utterance."""
        if self._onset < ONSET_FRAMES:
            return None
        self._speaking, self._paused = True, False
        self._loud = self._quiet = self._judged = self._heard
        return Mark("started", self._heard, self._heard - ONSET_FRAMES * FRAME)

    def _spoken(self) -> Mark | None:
        """Within an utterance."""
        low = self._heard - self._loud
        still = self._judged - self._quiet
        if not self._paused:
            if low < PAUSE and still == 0:
                return None
            self._paused = True
            return Mark("paused", self._heard, min(self._loud, self._quiet))
        if low < PAUSE and still == 0:
            self._paused = False
            return Mark("resumed", self._heard, self._heard - FRAME)
        agreed = low >= self._hangover and self._probability < SPEECH
        if not agreed and still < self._hangover + LAG:
            return None
        since = min(self._loud, self._quiet)
        self.reset()
        return Mark("stopped", self._heard, since)
