"""A conversation with fake engines: what each was given, and every event that was told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from vozmetro.audio import Samples, Waveform
from vozmetro.engines.voice_activity import FRAME
from vozmetro.errors import MeasurementError
from vozmetro.pipeline.conversation import Conversation
from vozmetro.pipeline.fixed import FixedTiers
from vozmetro.pipeline.protocols import Event, Reply, TurnEnded
from vozmetro.pipeline.reply.echo import Echo
from vozmetro.pipeline.tiers import Stages

WAIT_S = 60.0


class Loud:
    """Voice activity: a frame is speech where it is loud."""

    def probability(self, frame: Samples) -> float:
        return float(np.abs(frame).max() > 0.1)

    def reset(self) -> None:
        pass


def sound(*frames: int) -> Samples:
    """Frames of speech and of silence by turns, speech first."""
    levels = [0.5 * (1 - index % 2) for index in range(len(frames))]
    parts = [
        np.full(count * FRAME, level, np.float32)
        for count, level in zip(frames, levels, strict=True)
    ]
    return np.concatenate(parts)


class Counting:
    """Speech to text that tells how much loud audio it was given; a stream of its own."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.fails = False

    def transcribe(self, audio: Waveform, language: str) -> str:
        if self.fails:
            raise MeasurementError("out_of_memory")
        loud = int((np.abs(audio.samples) > 0.1).sum()) // FRAME
        return f"{loud} frames" if loud else ""

    def open_stream(self, language: str) -> CountingStream:
        self.log.append(f"open {language}")
        return CountingStream(self)


class CountingStream:
    def __init__(self, engine: Counting) -> None:
        self.engine = engine
        self.parts: list[Samples] = []
        self.fed = 0

    def feed(self, samples: Samples) -> None:
        self.parts.append(samples)
        self.fed += 1

    def partial(self) -> str:
        self.engine.log.append("partial")
        return self.engine.transcribe(Waveform(np.concatenate(self.parts), 16_000), "")

    def finish(self) -> str:
        self.engine.log.append(f"finish {self.fed}")
        return self.engine.transcribe(Waveform(np.concatenate(self.parts), 16_000), "")


class Speaking:
    """A voice: a chunk a word; waits before the second where it is told to."""

    sample_rate = 22_050

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.hold = threading.Event()
        self.hold.set()
        self.first = threading.Event()

    def stream(self, text: str) -> Iterator[Samples]:
        self.texts.append(text)
        for number, _ in enumerate(text.split()):
            if number == 1:
                self.first.set()
                assert self.hold.wait(WAIT_S)
            yield np.full(100, number, np.float32)


class Room:
    """A conversation, its engines, and all its events."""

    def __init__(self, reply: Reply | None = None, **options: object) -> None:
        self.hears = Counting()
        self.speaks = Speaking()
        self.tiers = FixedTiers(Stages("fast", self.hears, reply or Echo(), self.speaks, "es"))
        self.events: list[Event] = []
        self._news = threading.Condition()
        self.talk = Conversation(self.tiers, self._heard, voice=Loud(), **options)  # type: ignore[arg-type]

    def _heard(self, event: Event) -> None:
        with self._news:
            self.events.append(event)
            self._news.notify_all()

    def until(self, there: Callable[[], bool]) -> None:
        with self._news:
            assert self._news.wait_for(there, WAIT_S), self.events

    def turns(self, count: int) -> list[TurnEnded]:
        self.until(lambda: len(self.of(TurnEnded)) == count)
        return self.of(TurnEnded)

    def of(self, kind: type) -> list:
        return [event for event in self.events if isinstance(event, kind)]


@contextmanager
def room(reply: Reply | None = None, **options: object) -> Iterator[Room]:
    made = Room(reply, **options)
    try:
        yield made
    finally:
        made.speaks.hold.set()
        made.talk.close()
    assert made.tiers.gate.load == 0
