"""An answer on a thread of its own, which can be begun before it is wanted.

The conversation goes on listening meanwhile, for barge-in. What is begun ahead of time is held back
at its first audio until it is released, or dropped with no trace.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from threading import Event as Flag
from threading import Lock, Thread
from time import perf_counter_ns

from vozmetro.errors import VozmetroError
from vozmetro.pipeline.answer import Given, answer
from vozmetro.pipeline.protocols import Audio, Event, Listener, TurnEnded
from vozmetro.pipeline.reply.dialogue import Dialogue
from vozmetro.pipeline.tiers import Ask, Stages, Tiers
from vozmetro.units import NS_PER_MS

log = logging.getLogger(__name__)


class Answering:
    """The answer to one utterance; it begins at once.

    Args:
        tiers: Where it gets its engines.
        dialogue: What was said before, and where this exchange is kept.
        turn: Id of the turn.
        text: What the user said.
        ask: What the turn asks for.
        language: ISO 639-1; empty for what the tier says.
        tell: Gets its events.

    Attributes:
        text: What the user said.
    """

    def __init__(
        self,
        tiers: Tiers,
        dialogue: Dialogue,
        turn: str,
        text: str,
        *,
        ask: Ask,
        language: str,
        tell: Listener,
    ) -> None:
        self.text = text
        self._tiers = tiers
        self._dialogue = dialogue
        self._turn = turn
        self._ask = ask
        self._language = language
        self._listener = tell
        self._lock = Lock()
        self._held: list[Event] = []
        self._wanted = Flag()
        self._cancelled = Flag()
        self._dropped = False
        self._parts: dict[str, float] = {}
        self._told_ns = 0
        self._audio_ns = 0
        self._thread = Thread(target=self._run, name="answer", daemon=True)
        self._thread.start()

    def release(self, parts: dict[str, float]) -> None:
        """Lets its events out, now that the user has finished.

        Args:
            parts: Of the turn's latency so far, in ms.
        """
        with self._lock:
            self._parts = parts
            self._told_ns = perf_counter_ns()
            for event in self._held:
                self._out(replace(event, at_ns=perf_counter_ns()))
            self._held.clear()
            self._wanted.set()

    def drop(self) -> None:
        """Ends it; if it was not released, nothing is told of it."""
        with self._lock:
            self._dropped = not self._wanted.is_set()
            self._held.clear()
        self.cancel()
        self._wanted.set()

    def cancel(self) -> None:
        """Ends it early; the turn ends as cancelled."""
        self._cancelled.set()

    def join(self) -> None:
        """Waits until it has ended."""
        self._thread.join()

    def _run(self) -> None:
        given, failure, tier = Given(), "", ""
        try:
            with self._tiers.lease(self._ask) as stages:
                tier = stages.tier
                answer(
                    self._tiers,
                    _told(stages, self._language),
                    self._dialogue,
                    given,
                    turn=self._turn,
                    text=self.text,
                    cancelled=self._cancelled.is_set,
                    tell=self._tell,
                )
        except Exception as error:
            failure = code_of(error)
        self._wanted.wait()
        if self._dropped:
            return
        self._dialogue.keep(self.text, given.said)
        parts = self._waited(given)
        stopped = self._cancelled.is_set()
        if not failure and not stopped:
            self._tiers.finished(tier, parts)
        self._listener(TurnEnded(self._turn, perf_counter_ns(), parts, stopped, failure))

    def _waited(self, given: Given) -> dict[str, float]:
        """Parts of the latency as the user waited for them, and not as they were worked on."""
        parts = dict(self._parts)
        if given.clause_ns:
            known_ns = max(given.clause_ns, self._told_ns)
            parts["reply"] = (known_ns - self._told_ns) / NS_PER_MS
            if self._audio_ns:
                parts["tts_first_audio"] = (self._audio_ns - known_ns) / NS_PER_MS
        return parts

    def _tell(self, event: Event) -> None:
        with self._lock:
            if self._dropped:
                return
            if self._wanted.is_set():
                self._out(event)
                return
            self._held.append(event)
        if isinstance(event, Audio):
            self._wanted.wait()

    def _out(self, event: Event) -> None:
        if isinstance(event, Audio) and not self._audio_ns:
            self._audio_ns = event.at_ns
        self._listener(event)


def code_of(error: Exception) -> str:
    """Returns the code that ends a turn; what nobody expected is logged."""
    if isinstance(error, VozmetroError):
        return error.code
    log.exception("a turn failed", exc_info=error)
    return "internal"


def _told(stages: Stages, language: str) -> Stages:
    return replace(stages, language=language) if language else stages
