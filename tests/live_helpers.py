"""Stages with known answers, a server in a thread, and real speech to say to it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import uvicorn
from starlette.types import ASGIApp

from vozmetro.audio import Samples, Waveform, read, resample, synthetic_speech
from vozmetro.pipeline.gate import Gate
from vozmetro.pipeline.tiers import Stages, TierState
from vozmetro.speech.corpus import load_corpus

WAIT_S = 60
VOICE_RATE = 22_050


@cache
def speech(number: int = 2) -> Waveform:
    """Real speech, 16 kHz, with a second of silence after it."""
    said = read(load_corpus("audioeval")[number].path)
    return Waveform(np.concatenate([said.samples, np.zeros(16_000, np.float32)]), 16_000)


class Ears:
    """Hears the same words, whoever speaks, and remembers how much it heard."""

    def __init__(self, text: str = "turn on the light") -> None:
        self.text = text
        self.heard_s: list[float] = []
        self.failure: Exception | None = None

    def transcribe(self, audio: Waveform, language: str) -> str:
        self.heard_s.append(audio.seconds)
        if self.failure is not None:
            raise self.failure
        return self.text


class Follower(Ears):
    """Hears the same, a word more with each look."""

    def open_stream(self, language: str) -> _Followed:
        return _Followed(self)


class _Followed:
    def __init__(self, ears: Ears) -> None:
        self._ears, self._looks = ears, 0

    def feed(self, samples: Samples) -> None:
        pass

    def partial(self) -> str:
        self._looks += 1
        return " ".join(self._ears.text.split()[: self._looks])

    def finish(self) -> str:
        return self._ears.text


class Echo:
    """Answers what was said, in two pieces."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def stream(self, text, language, cancelled) -> Iterator[str]:
        self.asked.append(text)
        yield "You said: "
        yield text + "."


class Memory(Echo):
    """Answers with what was said before."""

    def answer(self, history, text, language, cancelled) -> Iterator[str]:
        yield " | ".join(f"{one.heard} > {one.said}" for one in history) or "nothing"


@dataclass
class Voice:
    """Half a second of a tone for each text; with `held`, the rest waits until it is set."""

    sample_rate: int = VOICE_RATE
    held: threading.Event | None = None
    pieces: int = 5

    def stream(self, text: str) -> Iterator[Samples]:
        tone = 0.3 * synthetic_speech(0.1, 1, self.sample_rate).samples
        for piece in range(self.pieces):
            if piece and self.held is not None:
                assert self.held.wait(WAIT_S), "nobody let the voice go on"
            yield tone


@dataclass
class Room:
    """Tiers with one tier."""

    ears: Ears = field(default_factory=Ears)
    reply: Echo = field(default_factory=Echo)
    voice: Voice = field(default_factory=Voice)
    names: Sequence[str] = ("fast",)
    failure: Exception | None = None

    def __post_init__(self) -> None:
        self.gate = Gate()
        self.told: list[dict[str, float]] = []
        self.asked: list[str] = []

    @contextmanager
    def lease(self, ask):
        self.asked.append(ask.tier)
        if self.failure is not None:
            raise self.failure
        yield Stages("fast", self.ears, self.reply, self.voice, "en")

    def finished(self, tier, parts_ms) -> None:
        self.told.append(dict(parts_ms))

    def states(self) -> list[TierState]:
        return [TierState("fast", "resident", False, None, len(self.told))]

    def close(self) -> None:
        pass


@contextmanager
def serving(app: ASGIApp) -> Iterator[str]:
    """Yields the address of a real server; it has ended, and its thread too, afterwards."""
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        app, log_config=None, lifespan="off", timeout_graceful_shutdown=2, ws_max_size=8 << 20
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield f"127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(WAIT_S)
        assert not thread.is_alive()


def pcm(samples: Samples, rate: int, target: int = 24_000) -> bytes:
    """Speech as a client of the realtime protocol sends it."""
    there = resample(Waveform(samples, rate), target).samples
    return np.rint(np.clip(there, -1, 1) * 32767).astype("<i2").tobytes()
