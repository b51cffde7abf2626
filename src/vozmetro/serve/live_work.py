"""Work on what comes piece by piece: audio that is heard while it comes, text that is spoken so."""

from __future__ import annotations

from queue import SimpleQueue
from time import perf_counter
from typing import Any, Generic, TypeVar

import numpy as np

from vozmetro.audio import SPEECH_RATE, Samples, Waveform
from vozmetro.engines.base import TranscriptStream
from vozmetro.pipeline.tiers import Ask, Stages
from vozmetro.serve.jobs import Job
from vozmetro.serve.sentences import Sentences
from vozmetro.serve.state import Serving
from vozmetro.serve.work import LEAST_S, Encoder, Order, hear, new_job, say, stage_done

T = TypeVar("T")
STEP = SPEECH_RATE // 2
"""New samples before the words so far are asked for again, where nobody else needs the models."""


class Hearing:
    """An utterance: fed while it comes, and transcribed when it ends.

    An engine that can listen while one speaks does so, whenever the models are free.

    Attributes:
        job: Hands out one piece, the transcript.
    """

    def __init__(self, serving: Serving, order: Order) -> None:
        self._serving, self._order = serving, order
        self._inbox: SimpleQueue[Samples | None] = SimpleQueue()
        self._ended = 0.0
        self.job: Job[str] = new_job(serving, self._work)

    def feed(self, samples: Samples) -> None:
        """Appends audio, float32 mono [T] at 16 kHz."""
        self._inbox.put(samples)

    def end(self) -> None:
        """Nothing follows."""
        self._ended = perf_counter()
        # Speech takes as long as it takes.
        self.job.prolong()
        self._inbox.put(None)

    def cancel(self) -> None:
        """Nobody waits any more."""
        self.job.cancel()
        self._inbox.put(None)

    def _work(self, job: Job[str]) -> None:
        with self._serving.tiers.lease(Ask(self._order.tier)) as stages:
            language = self._order.language or stages.language
            opening = getattr(stages.stt, "open_stream", None)
            if opening is None:
                text = self._whole(job, stages)
            else:
                text = self._streamed(job, opening(language))
            stage_done(self._serving, self._order, stages.tier, "stt", self._ended)
            job.put(text.strip())

    def _whole(self, job: Job[str], stages: Stages) -> str:
        pieces = []
        while (piece := self._inbox.get()) is not None:
            pieces.append(piece)
        audio = Waveform(np.concatenate([np.zeros(0, np.float32), *pieces]), SPEECH_RATE)
        if audio.seconds < LEAST_S:
            return ""
        heard = hear(self._serving, job, stages, audio, self._order)
        return " ".join(part.text for part in heard if part.text)

    def _streamed(self, job: Job[str], stream: TranscriptStream) -> str:
        gate, total, new = self._serving.tiers.gate, 0, 0
        while (piece := self._inbox.get()) is not None:
            stream.feed(piece)
            total, new = total + len(piece), new + len(piece)
            if new >= STEP and self._inbox.empty():
                with gate.spare() as free:
                    if free:
                        stream.partial()
                        new = 0
        if total < LEAST_S * SPEECH_RATE:
            return ""
        with job.turn(gate, self._serving.limits.wait_s):
            return stream.finish()


class Reading(Generic[T]):
    """A text that is spoken sentence by sentence while it comes.

    Attributes:
        job: Hands out what the encoder makes.
    """

    def __init__(self, serving: Serving, order: Order, encoder: Encoder[T]) -> None:
        self._serving, self._order, self._encoder = serving, order, encoder
        self._inbox: SimpleQueue[str | None] = SimpleQueue()
        self.job: Job[T] = new_job(serving, self._work)

    def feed(self, text: str) -> None:
        """Appends text."""
        self._inbox.put(text)

    def end(self) -> None:
        """Nothing follows."""
        self._inbox.put(None)

    def cancel(self) -> None:
        """Nobody waits any more."""
        self.job.cancel()
        self._inbox.put(None)

    def _work(self, job: Job[T]) -> None:
        sentences, begun = Sentences(), False
        with self._serving.tiers.lease(Ask(self._order.tier)) as stages:
            self._encoder.begin(stages.tts.sample_rate)
            more = True
            while more:
                piece = self._inbox.get()
                more = piece is not None
                for text in sentences.end() if piece is None else sentences.add(piece):
                    what: dict[str, Any] = {"text": text, "begun": begun}
                    say(
                        self._serving, job, stages, order=self._order, encoder=self._encoder, **what
                    )
                    begun = True
        last = self._encoder.end()
        if last is not None:
            job.put(last)
