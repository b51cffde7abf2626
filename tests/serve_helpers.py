"""Servers on real sockets in front of engines that are fast, known, and can be held up.

Run as a program, it is such a server in a process of its own: it prints its ports, and what it
speaks takes until a file appears.
"""

from __future__ import annotations

import asyncio
import io
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from starlette.routing import BaseRoute

from vozmetro.audio import Samples, Waveform, synthetic_speech
from vozmetro.engines.base import Synthesizer, Transcriber
from vozmetro.pipeline.fixed import FixedTiers
from vozmetro.pipeline.gate import Gate
from vozmetro.pipeline.reply.echo import Echo
from vozmetro.pipeline.tiers import Stages
from vozmetro.quality.listen.guard import Access
from vozmetro.quality.listen.serving import bind
from vozmetro.serve.about import About, Model
from vozmetro.serve.app import Limits, Serving, build
from vozmetro.serve.running import serve

RATE = 22_050
TIER = "whisper+piper"
ABOUT = About(
    TIER,
    Model("whisper", "whisper-onnx", ("es", "en"), "MIT", "https://hub.example/who/whisper"),
    Model("piper", "piper", ("es",), "CC0-1.0", "https://hub.example/who/piper"),
)


class Ears:
    """Hears how long a recording is, and in what language it was told to listen."""

    def __init__(self) -> None:
        self.free = threading.Event()
        self.free.set()
        self.asked = threading.Event()
        self.heard: list[Waveform] = []
        self.failing = False

    def transcribe(self, audio: Waveform, language: str) -> str:
        self.asked.set()
        assert self.free.wait(20)
        if self.failing:
            raise RuntimeError("a secret of the server")
        self.heard.append(audio)
        assert audio.rate == 16_000
        return f" {audio.seconds:.1f} s in {language or 'any'} "


class StreamingEars(Ears):
    """The same, while one speaks."""

    def __init__(self) -> None:
        super().__init__()
        self.partials = 0

    def open_stream(self, language: str) -> Any:
        ears, pieces = self, []

        class Stream:
            def feed(self, samples: Samples) -> None:
                pieces.append(samples)

            def partial(self) -> str:
                ears.partials += 1
                return ""

            def finish(self) -> str:
                return ears.transcribe(Waveform(np.concatenate(pieces), 16_000), language)

        return Stream()


class Voice:
    """Speaks each word as a tone of a tenth of a second; `*` never ends."""

    sample_rate = RATE

    def __init__(self) -> None:
        self.spoken: list[str] = []
        self.free = threading.Event()
        self.free.set()
        self.begun, self.closed = threading.Event(), threading.Event()

    def stream(self, text: str) -> Iterator[Samples]:
        self.spoken.append(text)
        try:
            while True:
                for index, _ in enumerate(text.split()):
                    yield tone(index)
                    self.begun.set()
                    assert self.free.wait(20)
                if text != "*":
                    return
        finally:
            self.closed.set()


def tone(index: int) -> Samples:
    time_s = np.arange(RATE // 10) / RATE
    return (0.5 * np.sin(2 * np.pi * 220 * (index + 1) * time_s)).astype(np.float32)


def wav(seconds: float = 1.0, rate: int = 16_000, channels: int = 1, **kind: Any) -> bytes:
    samples = synthetic_speech(seconds, rate=rate).samples
    with io.BytesIO() as file:
        many = np.repeat(samples[:, None], channels, axis=1)
        soundfile.write(file, many, rate, **{"format": "WAV", **kind})
        return file.getvalue()


class Running:
    """A server that runs in a thread; `http` and `wyoming` are its ports."""

    def __init__(
        self,
        stt: Transcriber | None = None,
        tts: Synthesizer | None = None,
        *,
        limits: Limits | None = None,
        token: str = "",
        routes: Sequence[BaseRoute] = (),
        waiting: int = 8,
    ) -> None:
        self.stt: Any = stt or Ears()
        self.tts: Any = tts or Voice()
        stages = Stages(TIER, self.stt, Echo(), self.tts, "")
        self.tiers = FixedTiers(stages, Gate(waiting))
        self._limits, self._token, self._routes = limits or Limits(), token, routes
        self._sockets = [bind("127.0.0.1", 0), bind("127.0.0.1", 0)]
        self.http, self.wyoming = (one.getsockname()[1] for one in self._sockets)
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    async def _serve(self) -> None:
        access = Access("127.0.0.1", self._token)
        self.serving = Serving(self.tiers, access, self._limits, [ABOUT])
        app = build(self.serving, self._routes)
        self.loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        http, wyoming = self._sockets
        try:
            await serve(self.serving, app, http, wyoming=wyoming, ready=self._ready.set)
        except asyncio.CancelledError:
            pass
        finally:
            self.serving.threads.shutdown(wait=False)

    def __enter__(self) -> Running:
        self._thread.start()
        assert self._ready.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        for one in (self.stt, self.tts):
            one.free.set()
        self.loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(20)
        for one in self._sockets:
            one.close()
        assert not self._thread.is_alive()

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.http}"

    def idle(self) -> None:
        """Waits until nothing is in hand."""
        until(lambda: self.serving.active == 0)

    def metric(self, name: str, **labels: str) -> float:
        return self.serving.metrics.registry.get_sample_value(name, labels) or 0.0


def until(true: Callable[[], bool], limit_s: float = 15.0) -> None:
    """Waits for what another thread or process does."""
    end = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < end, "it did not come"
        threading.Event().wait(0.01)


@contextmanager
def holding(event: threading.Event) -> Iterator[None]:
    event.clear()
    try:
        yield
    finally:
        event.set()


def main(go: Path, ports: list[int]) -> None:
    class Slow(Voice):
        def stream(self, text: str) -> Iterator[Samples]:
            yield tone(0)
            until(go.exists, 60)
            yield tone(1)

    sockets = [bind("127.0.0.1", port) for port in ports]

    async def run() -> bool:
        serving = Serving(FixedTiers(Stages(TIER, Ears(), Echo(), Slow())), about=[ABOUT])
        told = [one.getsockname()[1] for one in sockets]
        return await serve(
            serving, build(serving), sockets[0], wyoming=sockets[1],
            ready=lambda: print(*told, flush=True),
        )  # fmt: skip

    sys.exit(0 if asyncio.run(run()) else 1)


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(one) for one in sys.argv[2:4]])
