"""A conversation: sound in, events out, one turn after the other.

While the user speaks, what has been said is transcribed now and then. When they pause, the
transcript is finished ahead of time, and an answer that costs nothing but time is begun; should
they go on, both are thrown away. So the wait for the end of speech, which no pipeline can do
without, is when the work is done.
"""

from __future__ import annotations

import logging
from collections import deque
from contextlib import ExitStack
from threading import Condition, Lock, Thread
from time import perf_counter_ns
from uuid import uuid4

import numpy as np

from vozmetro.audio import SPEECH_RATE, Samples
from vozmetro.engines.base import HOP_S
from vozmetro.engines.voice_activity import FRAME, Silero, VoiceActivity
from vozmetro.errors import BusyError
from vozmetro.pipeline.answer import GATE_S
from vozmetro.pipeline.answering import Answering, code_of
from vozmetro.pipeline.endpoint import Endpointer, Endpointing, Mark
from vozmetro.pipeline.hearing import open_stream
from vozmetro.pipeline.protocols import (
    Event,
    Listener,
    Partial,
    SpeechStarted,
    SpeechStopped,
    Transcript,
    TurnEnded,
)
from vozmetro.pipeline.reply.dialogue import Dialogue
from vozmetro.pipeline.tiers import Ask, Tiers
from vozmetro.units import NS_PER_MS, NS_PER_S

log = logging.getLogger(__name__)

MOST_BEHIND_S = 30.0
"""Seconds of audio that may wait to be heard."""
MOST_S = 120.0
"""Seconds of an utterance; a longer one is taken as it is."""
BEFORE_S = 0.3
"""Seconds heard before speech was noticed that belong to it: a soft first sound."""


class Conversation:
    """Turns of one user.

    Args:
        tiers: Where turns get their engines.
        listener: Gets all events, one at a time and in order; must not block for long.
        language: ISO 639-1; empty for what the tier says.
        ask: What turns ask for.
        endpoint: Finds the end of speech; without it, only `commit` ends an utterance.
        endpointing: How.
        voice: Who judges frames; None for Silero.
    """

    def __init__(
        self,
        tiers: Tiers,
        listener: Listener,
        *,
        language: str = "",
        ask: Ask | None = None,
        endpoint: bool = True,
        endpointing: Endpointing | None = None,
        voice: VoiceActivity | None = None,
    ) -> None:
        self._tiers = tiers
        self._listener = listener
        self._language = language
        self._ask = ask or Ask()
        self._endpointer = (
            Endpointer(voice or Silero(), endpointing or Endpointing()) if endpoint else None
        )
        self._inbox: deque[Samples | int] = deque()
        self._behind = 0
        self._arrivals = _Arrivals()
        self._news = Condition()
        self._telling = Lock()
        self._closing = False
        self._before: deque[Samples] = deque()
        self._heard: _Hearing | None = None
        self._answer: Answering | None = None
        self._ahead: Answering | None = None
        self._dialogue = Dialogue()
        self._finishing = self._stop = False
        self._thread = Thread(target=self._run, name="conversation", daemon=True)
        self._thread.start()

    def feed(self, samples: Samples) -> None:
        """Appends audio, float32 mono [T] at 16 kHz. Never blocks.

        Raises:
            BusyError: `audio_behind`: too much audio waits to be heard.
        """
        with self._news:
            if self._behind + len(samples) > MOST_BEHIND_S * SPEECH_RATE:
                raise BusyError("audio_behind", seconds=f"{MOST_BEHIND_S:g}")
            self._behind += len(samples)
            self._inbox.append(samples)
            self._arrivals.note(len(samples))
            self._news.notify()

    def commit(self) -> None:
        """Says that the user has finished, once all audio so far has been heard."""
        with self._news:
            self._inbox.append(perf_counter_ns())
            self._news.notify()

    def cancel(self) -> None:
        """Stops the answer that is being made; its turn ends as cancelled."""
        # One that is about to be begun, too.
        self._stop = self._finishing
        current = self._answer
        if current is not None:
            current.cancel()

    def close(self) -> None:
        """Ends the conversation; what is being made is cancelled."""
        with self._news:
            self._closing = True
            self._news.notify()
        self.cancel()
        self._thread.join()

    # The conversation's thread -------------------------------------------------------------------

    def _run(self) -> None:
        while (item := self._next()) is not _END:
            try:
                if isinstance(item, int):
                    self._committed(item)
                else:
                    self._hear(item)
            except Exception as error:
                self._failed(error)
        ahead = self._ahead
        self._drop_ahead()
        if self._heard:
            self._heard.close()
        for one in (ahead, self._answer):
            if one:
                # One that was begun after the end was asked for is for nobody, too.
                one.cancel()
                one.join()

    def _next(self) -> Samples | int:
        """Returns all the audio that waits, or when a commit came; `_END` when closing."""
        with self._news:
            self._news.wait_for(lambda: self._inbox or self._closing)
            if self._closing:
                return _END
            first = self._inbox.popleft()
            if isinstance(first, int):
                return first
            parts = [first]
            while self._inbox and not isinstance(one := self._inbox[0], int):
                parts.append(one)
                self._inbox.popleft()
            found = np.concatenate(parts)
            self._behind -= len(found)
            return found

    def _hear(self, samples: Samples) -> None:
        if self._endpointer is None:
            hearing = self._heard or self._open(perf_counter_ns())
            hearing.feed(samples)
            hearing.look()
        else:
            for start in range(0, len(samples), _STEP):
                self._step(samples[start : start + _STEP], self._endpointer)
            if self._heard:
                self._heard.look()
        if self._heard and self._heard.seconds > MOST_S:
            self._committed(perf_counter_ns())

    def _step(self, samples: Samples, endpointer: Endpointer) -> None:
        """Hears a few milliseconds: at most one change happens in them."""
        marks = endpointer.feed(samples)
        if self._heard is None:
            self._remember(samples)
        else:
            self._heard.feed(samples)
        for mark in marks:
            # What happened then is told late by a pipeline that is behind, and is no later for it.
            self._marked(mark, self._arrived(mark.sample))

    def _arrived(self, sample: int) -> int:
        with self._news:
            return self._arrivals.of(sample)

    def _marked(self, mark: Mark, at_ns: int) -> None:
        if mark.kind == "started":
            self.cancel()
            hearing = self._open(at_ns)
            for part in self._before:
                hearing.feed(part)
            self._before.clear()
        elif self._heard is None:
            return
        elif mark.kind == "paused":
            self._begin(self._heard, self._heard.paused(mark, at_ns))
        elif mark.kind == "resumed":
            self._drop_ahead()
            self._heard.resumed()
        else:
            self._finish(self._heard, at_ns)

    def _remember(self, samples: Samples) -> None:
        self._before.append(samples)
        while sum(map(len, self._before)) > BEFORE_S * SPEECH_RATE + _STEP:
            self._before.popleft()

    def _open(self, at_ns: int) -> _Hearing:
        self._heard = _Hearing(self._tiers, self._ask, self._language, self._tell)
        self._tell(SpeechStarted(self._heard.turn, at_ns))
        return self._heard

    def _committed(self, at_ns: int) -> None:
        if self._endpointer:
            self._endpointer.reset()
        if self._heard:
            self._finish(self._heard, at_ns)

    def _finish(self, hearing: _Hearing, at_ns: int) -> None:
        """Ends an utterance.

        Args:
            hearing: The utterance.
            at_ns: When the user had finished, as far as can be known: when the last of the silence
                came in, or the commit.
        """
        self._stop, self._finishing = False, True
        try:
            self._answered(hearing, at_ns)
        finally:
            self._finishing = False
        if self._stop and self._answer:
            self._answer.cancel()

    def _answered(self, hearing: _Hearing, at_ns: int) -> None:
        self._heard = None
        self._tell(SpeechStopped(hearing.turn, at_ns))
        try:
            text = hearing.finish()
        except Exception as error:
            # Else the next turn with the same words would get this one's answer.
            self._drop_ahead()
            self._ended(hearing.turn, {}, failure=code_of(error))
            return
        finally:
            hearing.close()
        parts = {
            "endpoint": (at_ns - hearing.paused_ns) / NS_PER_MS if hearing.paused_ns else 0.0,
            "stt": (perf_counter_ns() - at_ns) / NS_PER_MS,
        }
        self._tell(Transcript(hearing.turn, perf_counter_ns(), text))
        if not text:
            self._drop_ahead()
            self._ended(hearing.turn, parts)
            return
        if self._answer:
            # Barge-in has cancelled it; a turn that was typed over has not.
            self._answer.drop()
            self._answer.join()
        ahead, self._ahead = self._ahead, None
        if ahead and ahead.text != text:
            ahead.drop()
            ahead = None
        self._answer = ahead or self._answering(hearing, text)
        self._answer.release(parts)

    def _answering(self, hearing: _Hearing, text: str) -> Answering:
        return Answering(
            self._tiers,
            self._dialogue,
            hearing.turn,
            text,
            ask=Ask(self._ask.tier, hearing.seconds),
            language=self._language,
            tell=self._tell,
        )

    def _begin(self, hearing: _Hearing, text: str) -> None:
        """Begins an answer before it is certain that the user has finished."""
        self._drop_ahead()
        if text and hearing.eager:
            self._ahead = self._answering(hearing, text)

    def _drop_ahead(self) -> None:
        ahead, self._ahead = self._ahead, None
        if ahead:
            ahead.drop()

    def _failed(self, error: Exception) -> None:
        hearing, self._heard = self._heard, None
        self._drop_ahead()
        if self._endpointer:
            self._endpointer.reset()
        if hearing:
            hearing.close()
        self._ended(hearing.turn if hearing else "", {}, failure=code_of(error))

    def _ended(self, turn: str, parts: dict[str, float], *, failure: str = "") -> None:
        self._tell(TurnEnded(turn, perf_counter_ns(), parts, failure=failure))

    def _tell(self, event: Event) -> None:
        with self._telling:
            try:
                self._listener(event)
            except Exception:
                log.exception("a listener failed", extra={"turn": event.turn})


class _Hearing:
    """An utterance that is being heard, with the engines that it has been lent."""

    def __init__(self, tiers: Tiers, ask: Ask, language: str, tell: Listener) -> None:
        self.turn = uuid4().hex[:12]
        self.paused_ns = 0
        self._tiers = tiers
        self._tell = tell
        self._leases = ExitStack()
        stages = self._leases.enter_context(tiers.lease(ask))
        self.eager = getattr(stages.reply, "eager", False)
        self._stream = open_stream(stages.stt, language or stages.language)
        self._held: list[Samples] = []
        self._samples = 0
        self._looked = 0
        self._text = ""

    @property
    def seconds(self) -> float:
        return self._samples / SPEECH_RATE

    def feed(self, samples: Samples) -> None:
        """Appends audio; what comes in a pause is held back, since it is silence, probably."""
        self._samples += len(samples)
        if self.paused_ns:
            self._held.append(samples)
        else:
            self._stream.feed(samples)

    def look(self) -> None:
        """Transcribes what there is, where enough is new and nobody waits."""
        if self.paused_ns or self._samples - self._looked < HOP_S * SPEECH_RATE:
            return
        with self._tiers.gate.spare() as free:
            if not free:
                return
            self._looked = self._samples
            text = self._stream.partial()
        if text and text != self._text:
            self._text = text
            self._tell(Partial(self.turn, perf_counter_ns(), text))

    def paused(self, mark: Mark, at_ns: int) -> str:
        """The user may have finished: returns the transcript, ahead of time.

        It is empty where there are no words, or others work.

        Args:
            mark: Says how long it has been silent,
            at_ns: when that came in.
        """
        silent_s = (mark.sample - mark.since) / SPEECH_RATE
        self.paused_ns = at_ns - round(silent_s * NS_PER_S)
        with self._tiers.gate.spare() as free:
            return self._stream.finish() if free else ""

    def resumed(self) -> None:
        """The user goes on."""
        self.paused_ns = 0
        for part in self._held:
            self._stream.feed(part)
        self._held.clear()

    def finish(self) -> str:
        """Returns the words; at once where they were finished ahead of time."""
        with self._tiers.gate.turn(GATE_S):
            return self._stream.finish()

    def close(self) -> None:
        """Lets go of the engines."""
        del self._stream
        self._leases.close()


class _Arrivals:
    """When audio came in."""

    def __init__(self) -> None:
        self._pieces: deque[tuple[int, int]] = deque(maxlen=_PIECES)
        self._samples = 0

    def note(self, samples: int) -> None:
        """So much has come in now."""
        self._samples += samples
        self._pieces.append((self._samples, perf_counter_ns()))

    def of(self, sample: int) -> int:
        """Returns when that sample came in, counted from the first one ever, which is 1."""
        while len(self._pieces) > 1 and self._pieces[0][0] < sample:
            self._pieces.popleft()
        return self._pieces[0][1]


_PIECES = 4096
"""Pieces of audio whose arrival is known: over 80 s of a microphone's frames."""
_END: Samples = np.zeros(0, np.float32)
"""Stands for the end of a conversation."""
_STEP = FRAME
"""Samples between two looks for a change."""
