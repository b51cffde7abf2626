"""Whole turns, timed: speech at the pace of speech into the pipeline that is served."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from threading import Condition
from time import perf_counter_ns
from typing import Any

import numpy as np

from vozmetro.audio import SPEECH_RATE, Samples
from vozmetro.engines.base import Synthesizer, Transcriber
from vozmetro.engines.voice_activity import Silero
from vozmetro.errors import MeasurementError
from vozmetro.measure.callers import CascadeCaller, Outcome
from vozmetro.measure.graph_inputs import Resolved
from vozmetro.measure.workload import WorkItem
from vozmetro.pipeline.conversation import Conversation
from vozmetro.pipeline.endpoint import Endpointing
from vozmetro.pipeline.fixed import FixedTiers
from vozmetro.pipeline.protocols import (
    Audio,
    Event,
    SpeechStarted,
    SpeechStopped,
    Transcript,
    TurnEnded,
)
from vozmetro.pipeline.reply.echo import Echo
from vozmetro.pipeline.tiers import Stages
from vozmetro.speech.ends import speech_end
from vozmetro.units import NS_PER_MS, NS_PER_S

FRAME_S = 0.02
"""Seconds of a microphone's frame."""
PATIENCE_S = 3.0
"""Seconds after the end of the speech in which an endpoint must come; a turn without one is
missed, and counts as that late."""
ONSET_S, ANSWER_S = 1.0, 60.0
"""Seconds more that are given to a pipeline that is behind: to notice speech, and to answer."""
_ROOM = 10 ** (-70 / 20)
"""Amplitude of the noise of a quiet room behind a recording."""


@dataclass(frozen=True)
class Spoken:
    """A turn, ready to be spoken.

    Attributes:
        samples: At 16 kHz, with silence behind.
        end_s: Where the speech ends.
        language: ISO 639-1 or empty.
    """

    samples: Samples
    end_s: float
    language: str


@dataclass
class Heard:
    """What a conversation told of a turn."""

    changed: Condition = field(default_factory=Condition)
    started: bool = False
    decided_ns: int = 0
    audio_ns: int = 0
    ended: bool = False
    text: str = ""
    audio: Samples | None = None
    parts: dict[str, float] = field(default_factory=dict)
    failure: str = ""

    def __call__(self, event: Event) -> None:
        """Takes an event."""
        with self.changed:
            if isinstance(event, SpeechStarted):
                self.started = True
            elif isinstance(event, SpeechStopped):
                self.decided_ns = self.decided_ns or event.at_ns
            elif isinstance(event, Transcript):
                self.text = self.text or event.text
            elif isinstance(event, Audio):
                if not self.audio_ns:
                    self.audio_ns, self.audio = event.at_ns, event.samples
            elif isinstance(event, TurnEnded):
                self.ended, self.failure = True, event.failure
                self.parts = dict(event.parts_ms)
            self.changed.notify_all()


class TurnCaller(CascadeCaller):
    """Calls a cascade as a user does: frame by frame, as fast as one speaks.

    Args:
        transcriber: Speech to text.
        synthesizer: Text to speech, which says what was heard.
        hangover_s: As in `Endpointing`.
    """

    def __init__(
        self, transcriber: Transcriber, synthesizer: Synthesizer, hangover_s: float
    ) -> None:
        super().__init__(transcriber, synthesizer)
        self._tiers = FixedTiers(Stages("bench", transcriber, Echo(), synthesizer))
        self._endpointing = Endpointing(hangover_s)
        self._voice = Silero()

    def prepare(self, item: WorkItem) -> tuple[Any, list[Resolved]]:
        """See `Caller.prepare`."""
        audio = item.audio()
        behind = np.random.default_rng(item.seed).standard_normal(round(PATIENCE_S * SPEECH_RATE))
        room = (behind * _ROOM).astype(np.float32)
        spoken = Spoken(np.concatenate([audio.samples, room]), speech_end(audio), item.language)
        return spoken, []

    def call(self, ready: Any, start_ns: int) -> Outcome:
        """See `Caller.call`. The clock starts when the last silence of the turn has come in.

        The parts hold all the rest: `endpoint`, from the end of the speech as the recording has it
        to that moment, and `voice_to_voice`, from that end to the first audio. A turn that was
        cut off, before the end of the speech, has neither. One in which no speech was heard counts
        from the end of the speech on.
        """
        heard = Heard()
        self._voice.reset()
        talk = Conversation(
            self._tiers,
            heard,
            language=ready.language,
            endpointing=self._endpointing,
            voice=self._voice,
        )
        try:
            end_ns = self._speak(talk, ready, heard)
            now_ns = self._await(heard)
            talk.cancel()
        finally:
            talk.close()
        if heard.failure:
            raise MeasurementError("turn_failed", detail=heard.failure)
        return self._outcome(heard, end_ns, now_ns)

    def _speak(self, talk: Conversation, ready: Spoken, heard: Heard) -> int:
        """Speaks until the turn is decided; returns when the speech ended, or will have."""
        size = round(FRAME_S * SPEECH_RATE)
        begin = perf_counter_ns()
        for start in range(0, len(ready.samples), size):
            frame = ready.samples[start : start + size]
            # A frame can be sent when its last sample has been spoken.
            due = begin + round((start + len(frame)) / SPEECH_RATE * NS_PER_S)
            time.sleep(max(0, due - perf_counter_ns()) / NS_PER_S)
            talk.feed(frame)
            if heard.decided_ns:
                break
        else:
            talk.commit()
        return begin + round(ready.end_s * NS_PER_S)

    def _await(self, heard: Heard) -> int:
        """Waits for the first audio or the end of the turn; returns when that was."""
        with heard.changed:
            if heard.changed.wait_for(lambda: heard.started, ONSET_S):
                heard.changed.wait_for(lambda: heard.audio_ns or heard.ended, ANSWER_S)
        return heard.audio_ns or perf_counter_ns()

    def _outcome(self, heard: Heard, end_ns: int, now_ns: int) -> Outcome:
        parts: dict[str, float] = {}
        cut = 0 < heard.decided_ns < end_ns
        if heard.decided_ns and not cut:
            parts["endpoint"] = (heard.decided_ns - end_ns) / NS_PER_MS
            parts["voice_to_voice"] = (now_ns - end_ns) / NS_PER_MS
        for name in ("stt", "reply", "tts_first_audio"):
            if name in heard.parts:
                parts[name] = heard.parts[name]
        return Outcome(
            now_ns, (heard.text, heard.audio), parts, start_ns=heard.decided_ns or end_ns
        )

    def silenced(self, ready: Any) -> Any:
        """See `Caller.silenced`."""
        return Spoken(np.zeros_like(ready.samples), ready.end_s, ready.language)
