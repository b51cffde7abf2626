"""What the pipeline is made of beside the engines: who answers, and what a turn tells."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from vozmetro.audio import Samples

Cancelled = Callable[[], bool]
"""Asked between pieces of work: True once nobody waits for the answer any more."""


class Reply(Protocol):
    """Answers what was said.

    A reply with the attribute `eager` set is asked before it is certain that the user has finished,
    and perhaps for nothing: it answers at once and leaves no trace.
    """

    def stream(self, text: str, language: str, cancelled: Cancelled) -> Iterator[str]:
        """Yields the answer in pieces, as soon as they are known.

        Pieces may break anywhere, within words too; together they are the answer.

        Args:
            text: What the user said.
            language: ISO 639-1, or empty where it is not known.
            cancelled: Ends the answer early (barge-in).
        """


@dataclass(frozen=True)
class Event:
    """Something that happened in a turn.

    Attributes:
        turn: Opaque id of the turn, the same for all its events.
        at_ns: `perf_counter_ns` when it happened.
    """

    turn: str
    at_ns: int


@dataclass(frozen=True)
class SpeechStarted(Event):
    """The user began to speak. While an answer is spoken this is a barge-in: it is cancelled."""


@dataclass(frozen=True)
class SpeechStopped(Event):
    """The endpointer holds that the user has finished."""


@dataclass(frozen=True)
class Partial(Event):
    """What the user has said so far; may still change."""

    text: str


@dataclass(frozen=True)
class Transcript(Event):
    """What the user said; empty where no word was heard, which ends the turn."""

    text: str


@dataclass(frozen=True)
class ReplyText(Event):
    """A piece of the answer."""

    text: str


@dataclass(frozen=True)
class Audio(Event):
    """A piece of the spoken answer: float32 mono [T] in [-1, 1] at `rate` Hz."""

    samples: Samples
    rate: int


@dataclass(frozen=True)
class TurnEnded(Event):
    """The turn is over; nothing of it comes after.

    Attributes:
        parts_ms: Its latency by part, in ms: `endpoint` (from the end of the speech, as the
            endpointer sees it, until the silence that decides it has come in), `stt` (from then to
            the transcript; what a pipeline that is behind does first is in it), `reply` (to the
            first clause of the answer), `tts_first_audio` (from that clause to the first audio).
        cancelled: Nobody waited for the rest.
        failure: Code of the error that ended it, empty for none.
    """

    parts_ms: dict[str, float] = field(default_factory=dict)
    cancelled: bool = False
    failure: str = ""


Listener = Callable[[Event], None]
"""Gets the events of a conversation, one at a time, in order, on the conversation's thread."""
