"""Answers begun in the pause: held back, released, dropped without a trace, counted once."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import pytest
from conversation_helpers import WAIT_S, Counting, Room, Speaking, room, sound

from vozmetro.audio import Samples
from vozmetro.errors import BusyError, MeasurementError
from vozmetro.pipeline.answering import Answering
from vozmetro.pipeline.fixed import FixedTiers
from vozmetro.pipeline.protocols import (
    Audio,
    Cancelled,
    Event,
    ReplyText,
    SpeechStarted,
    SpeechStopped,
    Transcript,
    TurnEnded,
)
from vozmetro.pipeline.reply.dialogue import Dialogue, Exchange
from vozmetro.pipeline.reply.echo import Echo
from vozmetro.pipeline.tiers import Ask, Stages


class Eager:
    """Says what it heard, at once; keeps what it was asked and what it was told of before."""

    eager = True

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.histories: list[Sequence[Exchange]] = []
        self.failures: list[Exception] = []
        self.begun = threading.Semaphore(0)
        self.ended = 0
        self.cancels: list[Cancelled] = []

    def stream(self, text: str, language: str, cancelled: Cancelled) -> Iterator[str]:
        return self.answer((), text, language, cancelled)

    def answer(
        self, history: Sequence[Exchange], text: str, language: str, cancelled: Cancelled
    ) -> Iterator[str]:
        self.asked.append(text)
        self.histories.append(history)
        self.cancels.append(cancelled)
        self.begun.release()
        try:
            if self.failures:
                raise self.failures.pop()
            yield text
        finally:
            self.ended += 1


class Patient(Eager):
    """The same, once it is certain."""

    eager = False


def begun(reply: Eager) -> None:
    assert reply.begun.acquire(timeout=WAIT_S)


def hears(here: Room, *finished: str | Exception) -> None:
    """Lets speech to text give these transcripts, one for each time that it is finished."""
    left = list(finished)

    class Stream:
        def feed(self, samples: Samples) -> None:
            pass

        def partial(self) -> str:
            return ""

        def finish(self) -> str:
            found = left.pop(0)
            if isinstance(found, Exception):
                raise found
            return found

    here.hears.open_stream = lambda language: Stream()  # type: ignore[assignment, return-value]


# In a conversation -------------------------------------------------------------------------------


def test_an_answer_is_begun_in_the_pause_and_told_once_the_user_has_finished() -> None:
    reply = Eager()
    with room(reply) as here:
        spoken: list[bool] = []
        stream = here.speaks.stream

        def watched(text: str) -> Iterator[Samples]:
            for chunk in stream(text):
                spoken.append(bool(here.of(SpeechStopped)))
                yield chunk

        here.speaks.stream = watched  # type: ignore[method-assign]
        here.talk.feed(sound(12, 4))
        begun(reply)
        assert not here.of(SpeechStopped)
        here.talk.feed(sound(0, 10))
        (ended,) = here.turns(1)
        told = [type(event) for event in here.events]
        assert told[-5:] == [Transcript, ReplyText, Audio, Audio, TurnEnded]
        assert [event.at_ns for event in here.events] == sorted(e.at_ns for e in here.events)
        assert reply.asked == ["12 frames"]
        assert here.speaks.texts == ["12 frames"]
        # It stopped at its first chunk: the second was made when it was certain.
        assert spoken[1] is True
        assert (ended.failure, ended.cancelled) == ("", False)
        assert here.tiers.states()[0].turns == 1


def test_a_reply_that_is_not_eager_is_asked_once_it_is_certain() -> None:
    reply = Patient()
    with room(reply) as here:
        certain: list[bool] = []
        answer = reply.answer

        def watched(*words: object) -> Iterator[str]:
            certain.append(bool(here.of(Transcript)))
            return answer(*words)  # type: ignore[arg-type]

        reply.answer = watched  # type: ignore[method-assign]
        here.talk.feed(sound(12, 4, 9, 14))
        here.turns(1)
    assert certain == [True]
    assert reply.asked == ["21 frames"]


def test_who_goes_on_gets_no_answer_to_the_half() -> None:
    reply = Eager()
    with room(reply) as here:
        here.talk.feed(sound(12, 4))
        begun(reply)
        here.talk.feed(sound(9, 14))
        here.turns(1)
        here.talk.feed(sound(7, 14))
        here.turns(2)
        assert reply.asked == ["12 frames", "21 frames", "7 frames"]
        assert [event.text for event in here.of(ReplyText)] == ["21 frames", "7 frames"]
        assert len(here.of(Audio)) == 4
        # What was dropped was never said, and is neither remembered nor counted.
        assert reply.histories[2] == (Exchange("21 frames", "21 frames"),)
        assert here.tiers.states()[0].turns == 2
        assert reply.cancels[0]()


def test_another_transcript_gets_another_answer() -> None:
    reply = Eager()
    with room(reply) as here:
        hears(here, "turn on", "turn off")
        here.talk.feed(sound(12, 4))
        begun(reply)
        here.talk.feed(sound(0, 10))
        (ended,) = here.turns(1)
        assert reply.asked == ["turn on", "turn off"]
        assert [event.text for event in here.of(ReplyText)] == ["turn off"]
        assert ended.failure == ""
        assert here.tiers.states()[0].turns == 1
    assert reply.ended == 2


@pytest.mark.parametrize(
    ("failure", "code"),
    [(MeasurementError("out_of_memory"), "out_of_memory"), (ValueError("of its own"), "internal")],
)
def test_a_failure_in_the_pause_is_told_once_the_user_has_finished(
    failure: Exception, code: str
) -> None:
    reply = Eager()
    reply.failures = [failure]
    with room(reply) as here:
        here.talk.feed(sound(12, 4))
        begun(reply)
        assert not here.of(TurnEnded)
        here.talk.feed(sound(0, 10))
        assert here.turns(1)[0].failure == code
        assert here.tiers.states()[0].turns == 0
        here.talk.feed(sound(7, 14))
        assert here.turns(2)[1].failure == ""
        # Nothing was said in the turn that failed.
        assert reply.histories[1] == ()


def test_a_failure_in_a_pause_that_was_none_is_not_told() -> None:
    reply = Eager()
    reply.failures = [MeasurementError("out_of_memory")]
    with room(reply) as here:
        here.talk.feed(sound(12, 4))
        begun(reply)
        here.talk.feed(sound(9, 14))
        assert here.turns(1)[0].failure == ""
        assert [event.text for event in here.of(ReplyText)] == ["21 frames"]


def test_an_answer_that_was_begun_ahead_can_be_cancelled() -> None:
    reply = Eager()
    with room(reply) as here:
        here.speaks.hold.clear()
        here.talk.feed(sound(12, 4))
        begun(reply)
        here.talk.feed(sound(0, 10))
        here.until(lambda: bool(here.of(Audio)))
        here.talk.cancel()
        here.speaks.hold.set()
        (ended,) = here.turns(1)
        assert ended.cancelled
        assert here.tiers.states()[0].turns == 0


def test_no_answer_outlives_a_transcript_that_failed() -> None:
    reply = Eager()
    with room(reply) as here:
        hears(here, "same words", MeasurementError("out_of_memory"), "same words")
        here.talk.feed(sound(12, 4))
        begun(reply)
        here.talk.feed(sound(0, 10))
        assert here.turns(1)[0].failure == "out_of_memory"
        here.talk.feed(sound(12))
        here.talk.commit()
        first, second = here.turns(2)
        assert second.failure == ""
        assert reply.asked == ["same words", "same words"]
        assert first.turn != second.turn
        assert {event.turn for event in here.of(ReplyText)} == {second.turn}
        assert second.turn == here.of(SpeechStarted)[1].turn


def test_nothing_is_told_or_left_running_where_the_user_leaves_in_the_pause() -> None:
    reply = Eager()
    with room(reply) as here:
        here.talk.feed(sound(12, 4))
        begun(reply)
    assert reply.ended == 1
    assert {type(event) for event in here.events} == {SpeechStarted}


# Alone -------------------------------------------------------------------------------------------


class Alone:
    """An answer with nobody around it."""

    def __init__(self, reply: Eager, tiers: FixedTiers | None = None, text: str = "a b c") -> None:
        self.events: list[Event] = []
        self.voice = Speaking()
        self.dialogue = Dialogue()
        self.tiers = tiers or FixedTiers(Stages("fast", Counting(), reply, self.voice, "es"))
        self.answer = Answering(
            self.tiers, self.dialogue, "7", text, ask=Ask(), language="", tell=self.events.append
        )


def test_what_was_ready_before_it_was_wanted_costs_no_wait() -> None:
    reply = Eager()
    alone = Alone(reply)
    begun(reply)
    assert alone.events == []
    alone.answer.release({"endpoint": 224.0, "stt": 3.0})
    alone.answer.join()
    ended = alone.events[-1]
    assert isinstance(ended, TurnEnded)
    assert list(ended.parts_ms) == ["endpoint", "stt", "reply", "tts_first_audio"]
    assert (ended.parts_ms["endpoint"], ended.parts_ms["stt"]) == (224.0, 3.0)
    assert min(ended.parts_ms.values()) >= 0
    assert [type(one) for one in alone.events] == [ReplyText, Audio, Audio, Audio, TurnEnded]
    told = [float(one.samples[0]) for one in alone.events if isinstance(one, Audio)]
    assert told == [0.0, 1.0, 2.0]
    assert alone.dialogue.history == (Exchange("a b c", "a b c"),)


def test_dropped_it_leaves_no_trace() -> None:
    reply = Eager()
    alone = Alone(reply)
    begun(reply)
    alone.answer.drop()
    alone.answer.join()
    assert alone.events == []
    assert alone.dialogue.history == ()
    assert alone.tiers.states()[0].turns == 0
    assert alone.tiers.gate.load == 0


def test_dropped_after_its_release_it_ends_as_cancelled() -> None:
    reply = Eager()
    alone = Alone(reply)
    alone.voice.hold.clear()
    alone.answer.release({})
    assert alone.voice.first.wait(WAIT_S)
    alone.answer.drop()
    alone.voice.hold.set()
    alone.answer.join()
    ended = alone.events[-1]
    assert isinstance(ended, TurnEnded)
    assert ended.cancelled
    # What was given of it was heard.
    assert alone.dialogue.history == (Exchange("a b c", "a b c"),)


def test_a_tier_that_is_not_to_be_had_is_the_turns_failure() -> None:
    class Full(FixedTiers):
        def lease(self, ask: Ask):  # type: ignore[no-untyped-def]
            raise BusyError("server_busy")

    alone = Alone(Eager(), Full(Stages("fast", Counting(), Echo(), Speaking())))
    alone.answer.release({})
    alone.answer.join()
    (ended,) = alone.events
    assert isinstance(ended, TurnEnded)
    assert (ended.turn, ended.failure, ended.cancelled) == ("7", "server_busy", False)


def test_an_answer_without_words_ends_without_audio() -> None:
    alone = Alone(Eager(), text="")
    alone.answer.release({"stt": 1.0})
    alone.answer.join()
    ended = alone.events[-1]
    assert isinstance(ended, TurnEnded)
    assert not [one for one in alone.events if isinstance(one, Audio)]
    assert ended.parts_ms == {"stt": 1.0}
