"""The two things that a server asks of a tier, each as a job: words of audio, audio of words."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Protocol, TypeVar

from vozmetro.audio import SPEECH_RATE, Samples, Waveform
from vozmetro.errors import InputError
from vozmetro.pipeline.tiers import Ask, Stages
from vozmetro.serve.jobs import GoneError, Job
from vozmetro.serve.logs import log
from vozmetro.serve.segments import LONG_S, Span, spans
from vozmetro.serve.state import Serving

T = TypeVar("T")
MadeT_co = TypeVar("MadeT_co", covariant=True)
LEAST_S = 0.1
"""Nothing is said in less."""
_LANGUAGE = re.compile(r"([A-Za-z]{2,3})(?:[-_][A-Za-z0-9_-]{1,20})?")


@dataclass(frozen=True)
class Order:
    """What is asked, and by whom.

    Attributes:
        turn: Id of the request.
        surface: Through which server it came: `http` or `wyoming`.
        tier: By name; empty for the default.
        language: ISO 639-1; empty for what the tier is set to.
    """

    turn: str
    surface: str
    tier: str = ""
    language: str = ""


@dataclass(frozen=True)
class Heard:
    """Words of a part of a recording, and where it is in seconds."""

    start: float
    end: float
    text: str


class Encoder(Protocol[MadeT_co]):
    """Makes what is sent from float32 mono samples [T]; may return None until there is enough."""

    def begin(self, rate: int) -> None:
        """Is told the rate (Hz) of what comes."""

    def add(self, samples: Samples) -> MadeT_co | None:
        """Takes a piece."""

    def end(self) -> MadeT_co | None:
        """Returns what is left."""


def primary(language: str | None) -> str:
    """Returns the ISO 639-1 code of a language tag (`es-MX`, `pt_BR`), empty for none.

    Raises:
        InputError: `serve_language`.
    """
    if not language:
        return ""
    found = _LANGUAGE.fullmatch(language)
    if found is None:
        raise InputError("serve_language", given=language[:40])
    return found[1].lower()


def transcribe(serving: Serving, audio: Waveform, order: Order, *, timed: bool) -> Job[Heard]:
    """Returns the job that hears a recording, and hands out what it understands, in order.

    Args:
        serving: See there.
        audio: At 16 kHz.
        order: See there.
        timed: It is cut at its pauses, so that each part has a place in time. Where it is not, only
            a long recording is cut, so that others get their turn in between.
    """

    def work(job: Job[Heard]) -> None:
        start = perf_counter()
        with serving.tiers.lease(Ask(order.tier, audio.seconds)) as stages:
            for heard in hear(serving, job, stages, audio, order, timed=timed):
                job.put(heard)
            stage_done(serving, order, stages.tier, "stt", start)

    return new_job(serving, work)


def hear(
    serving: Serving,
    job: Job[Any],
    stages: Stages,
    audio: Waveform,
    order: Order,
    *,
    timed: bool = False,
) -> Iterator[Heard]:
    """Yields what is understood, in the job's thread; see `transcribe`."""
    cut = timed or audio.seconds > LONG_S
    for count, part in enumerate(spans(audio, job.check) if cut else [Span(0, len(audio.samples))]):
        said = Waveform(audio.samples[part.start : part.end], SPEECH_RATE)
        if said.seconds < LEAST_S:
            continue
        with job.turn(serving.tiers.gate, serving.limits.wait_s, begun=count > 0):
            text = stages.stt.transcribe(said, order.language or stages.language)
        yield Heard(part.start / SPEECH_RATE, part.end / SPEECH_RATE, text.strip())


def speak(serving: Serving, text: str, order: Order, encoder: Encoder[T]) -> Job[T]:
    """Returns the job that speaks, and hands out what the encoder makes of it."""

    def work(job: Job[T]) -> None:
        with serving.tiers.lease(Ask(order.tier)) as stages:
            encoder.begin(stages.tts.sample_rate)
            say(serving, job, stages, text=text, order=order, encoder=encoder)
            last = encoder.end()
            if last is not None:
                job.put(last)

    return new_job(serving, work)


def say(
    serving: Serving,
    job: Job[T],
    stages: Stages,
    *,
    text: str,
    order: Order,
    encoder: Encoder[T],
    begun: bool = False,
) -> None:
    """Speaks a text, in the job's thread; hands out each piece as soon as it is made.

    The models are free for others between two pieces, and while the client takes its time.
    """
    start = perf_counter()
    gate, wait_s = serving.tiers.gate, serving.limits.wait_s
    with closing(_closable(stages.tts.stream(text))) as pieces:
        first = True
        while True:
            with job.turn(gate, wait_s, begun=begun or not first):
                samples = next(pieces, None)
            if samples is None:
                return
            made = encoder.add(samples)
            if first and not begun:
                stage_done(serving, order, stages.tier, "tts_first_audio", start)
            first = False
            if made is not None:
                job.put(made)


def stage_done(serving: Serving, order: Order, tier: str, stage: str, start: float) -> None:
    """Counts and logs a stage that began at `start` (`perf_counter`)."""
    seconds = perf_counter() - start
    serving.metrics.stage.labels(stage, tier, order.surface).observe(seconds)
    told = {"turn": order.turn, "surface": order.surface, "tier": tier, "stage": stage}
    log("stage", {**told, "ms": round(seconds * 1000, 2)})


def new_job(serving: Serving, work: Callable[[Job[T]], None]) -> Job[T]:
    """Returns a job in one of the server's threads, with its limits."""
    limits = serving.limits
    return Job(
        work, serving.threads, ahead=limits.ahead, patience_s=limits.write_s, limit_s=limits.work_s
    )


def _closable(pieces: Iterator[Samples]) -> Generator[Samples, None, None]:
    """Makes any iterator one that can be closed, as generators can."""
    yield from pieces


class Tally:
    """How a request ends: `done`, `failed`, or `gone`, which is what it is until it is said."""

    outcome = "gone"


@contextmanager
def counted(serving: Serving, order: Order, **fields: object) -> Iterator[Tally]:
    """Counts and logs how a request ends."""
    start = perf_counter()
    tally = Tally()
    try:
        yield tally
    except Exception as error:
        tally.outcome = "gone" if isinstance(error, GoneError) else "failed"
        raise
    finally:
        serving.metrics.requests.labels(order.surface, tally.outcome).inc()
        told = {"turn": order.turn, "surface": order.surface, "outcome": tally.outcome}
        log("request", {**told, "ms": round((perf_counter() - start) * 1000, 2), **fields})
