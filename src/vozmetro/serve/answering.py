"""Tiers as a session of the realtime protocol wants them: typed text, silence, answers on demand.

A turn that is typed, or that is not to be spoken, or not to be answered before the client asks for
it, goes through the very pipeline that speech goes through: only a stage of it is another one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from threading import Lock

from vozmetro.audio import Samples, Waveform
from vozmetro.engines.base import Synthesizer
from vozmetro.pipeline.protocols import Cancelled, Reply
from vozmetro.pipeline.reply.dialogue import Exchange, Remembering
from vozmetro.pipeline.tiers import Ask, Stages, Tiers, TierState


class Wishes:
    """What a session wants of its next answer. Written by one thread, read by another.

    Args:
        aloud: Speak it, or leave it at its text.
        always: Answer whatever is said, without being asked to.

    Attributes:
        past: What was said before, for replies that answer better for it.
    """

    def __init__(self, *, aloud: bool = True, always: bool = True) -> None:
        self.aloud = aloud
        self.past: Sequence[Exchange] = ()
        self._always = always
        self._asked = False
        self._lock = Lock()

    @property
    def answers_all(self) -> bool:
        """Whether what is said is answered without being asked to."""
        with self._lock:
            return self._always

    def always(self, always: bool) -> None:
        """Says whether what is said is answered without being asked to."""
        with self._lock:
            self._always = always

    def ask(self) -> None:
        """Asks for one answer."""
        with self._lock:
            self._asked = True

    def withdraw(self) -> bool:
        """Takes back what was asked for; returns False where it has been taken up already."""
        with self._lock:
            was, self._asked = self._asked, False
            return was

    def take(self) -> bool:
        """Returns whether to answer now, which uses up what was asked for."""
        with self._lock:
            asked, self._asked = self._asked, False
            return asked or self._always


class WishedTiers:
    """Tiers whose stages do as the session wishes.

    Args:
        tiers: Where the stages come from.
        wishes: Of the session.
        typed: What the user wrote, which takes the place of what was heard; None to listen.
    """

    def __init__(self, tiers: Tiers, wishes: Wishes, typed: str | None = None) -> None:
        self._tiers = tiers
        self._wishes = wishes
        self._typed = typed
        self.gate = tiers.gate
        self.names: Sequence[str] = tiers.names

    @contextmanager
    def lease(self, ask: Ask) -> Iterator[Stages]:
        """Yields the tier's stages, as in `Tiers.lease`, with those in place that differ."""
        with self._tiers.lease(ask) as stages:
            stt = stages.stt if self._typed is None else _Typed(self._typed)
            yield replace(
                stages, stt=stt, tts=_Aloud(stages.tts, self._wishes),
                reply=_OnDemand(stages.reply, self._wishes),
            )  # fmt: skip

    def finished(self, tier: str, parts_ms: Mapping[str, float]) -> None:
        """Passes on the latency of turns that were heard and spoken; others would flatter it."""
        if self._typed is None and "tts_first_audio" in parts_ms:
            self._tiers.finished(tier, parts_ms)

    def states(self) -> list[TierState]:
        """Returns how all tiers are doing."""
        return self._tiers.states()

    def close(self) -> None:
        """Leaves the tiers to whom they belong."""


class _Typed:
    def __init__(self, text: str) -> None:
        self._text = text

    def transcribe(self, audio: Waveform, language: str) -> str:
        return self._text


class _Aloud:
    def __init__(self, tts: Synthesizer, wishes: Wishes) -> None:
        self._tts = tts
        self._wishes = wishes
        self.sample_rate = tts.sample_rate

    def stream(self, text: str) -> Iterator[Samples]:
        return self._tts.stream(text) if self._wishes.aloud else iter(())


class _OnDemand:
    def __init__(self, reply: Reply, wishes: Wishes) -> None:
        self._reply = reply
        self._wishes = wishes
        # What waits to be asked for is not begun ahead.
        self.eager = wishes.answers_all and getattr(reply, "eager", False)

    def stream(self, text: str, language: str, cancelled: Cancelled) -> Iterator[str]:
        if not self._wishes.take():
            return
        if isinstance(self._reply, Remembering):
            yield from self._reply.answer(self._wishes.past, text, language, cancelled)
        else:
            yield from self._reply.stream(text, language, cancelled)
