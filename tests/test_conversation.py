"""Turns: the end of speech, work ahead of time, answers, barge-in, errors; with fake engines."""

from __future__ import annotations

import threading
from time import perf_counter_ns

import numpy as np
import pytest
from conversation_helpers import WAIT_S, Counting, CountingStream, Loud, Speaking, room, sound
from hypothesis import given, settings
from hypothesis import strategies as st

from vozmetro.audio import Samples
from vozmetro.engines.voice_activity import FRAME, Silero
from vozmetro.errors import BusyError, InputError
from vozmetro.pipeline.conversation import Conversation
from vozmetro.pipeline.endpoint import Endpointer, Endpointing, Mark
from vozmetro.pipeline.fixed import FixedTiers
from vozmetro.pipeline.gate import Gate
from vozmetro.pipeline.protocols import (
    Audio,
    Event,
    Partial,
    ReplyText,
    SpeechStarted,
    SpeechStopped,
    Transcript,
    TurnEnded,
)
from vozmetro.pipeline.reply.echo import Echo
from vozmetro.pipeline.tiers import Ask, Stages

# The end of speech -------------------------------------------------------------------------------


def marks(samples: Samples, hangover_s: float, size: int = 320) -> list[Mark]:
    endpointer = Endpointer(Loud(), Endpointing(hangover_s))
    found = []
    for start in range(0, len(samples), size):
        found += endpointer.feed(samples[start : start + size])
    return found


def test_an_utterance_with_a_pause() -> None:
    found = marks(sound(10, 4, 10, 12), 0.32)
    assert [one.kind for one in found] == ["started", "paused", "resumed", "paused", "stopped"]
    assert [one.since // FRAME for one in found] == [0, 10, 14, 24, 24]
    assert [one.sample // FRAME for one in found] == [2, 11, 15, 25, 34]


def test_a_click_is_no_speech() -> None:
    assert marks(sound(1, 30, 1, 30), 0.32) == []


def test_a_shorter_hangover_cuts_at_the_pause() -> None:
    kinds = [one.kind for one in marks(sound(10, 4, 10, 12), 0.096)]
    assert kinds == ["started", "paused", "stopped"] * 2


@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.integers(20, 2000))
@settings(deadline=None, max_examples=30)
def test_the_marks_do_not_hang_on_the_sizes_of_the_pieces(frames: list[int], size: int) -> None:
    samples = sound(*frames, 20 + len(frames) % 2)
    assert marks(samples, 0.32, size) == marks(samples, 0.32)


@pytest.mark.parametrize("value", [0.0, 6.0, float("nan")])
def test_a_hangover_out_of_range(value: float) -> None:
    with pytest.raises(InputError) as caught:
        Endpointing(value)
    assert caught.value.code == "hangover_range"


def test_silero_hears_no_speech_in_noise_and_silence() -> None:
    voice = Silero()
    noise = 0.05 * np.random.default_rng(0).standard_normal(FRAME * 20).astype(np.float32)
    for samples in (np.zeros(FRAME * 20, np.float32), noise):
        voice.reset()
        assert max(voice.probability(one) for one in samples.reshape(-1, FRAME)) < 0.5


# Turns -------------------------------------------------------------------------------------------


def test_a_turn_from_sound_to_sound() -> None:
    with room() as here:
        here.talk.feed(np.concatenate([np.zeros(FRAME * 20, np.float32), sound(12, 14)]))
        (ended,) = here.turns(1)
    kinds = [type(event) for event in here.events if not isinstance(event, Partial)]
    assert kinds == [
        SpeechStarted, SpeechStopped, Transcript, ReplyText, Audio, Audio, TurnEnded,
    ]  # fmt: skip
    assert len({event.turn for event in here.events}) == 1
    # Words on the way are told when they are there; the end, when its silence came in.
    times = [event.at_ns for event in here.events if not isinstance(event, Partial)]
    assert times == sorted(times)
    assert here.of(Transcript)[0].text == here.of(ReplyText)[0].text == "12 frames"
    assert list(ended.parts_ms) == ["endpoint", "stt", "reply", "tts_first_audio"]
    assert (ended.cancelled, ended.failure) == (False, "")
    assert here.hears.log[0] == "open es"


def test_the_transcript_is_finished_in_the_pause_without_the_silence_behind() -> None:
    with room() as here:
        here.talk.feed(sound(12, 14))
        here.turns(1)
        finishes = [one for one in here.hears.log if one.startswith("finish")]
        assert len(finishes) == 2
        # Nothing was fed between the work ahead of time and the end.
        assert finishes[0] == finishes[1]


@pytest.mark.parametrize("how", ["close", "cancel"])
def test_who_leaves_while_the_words_are_made_gets_no_answer_made(
    monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    began, go = threading.Event(), threading.Event()
    plain = CountingStream.finish

    def slow(self: CountingStream) -> str:
        began.set()
        assert go.wait(WAIT_S)
        return plain(self)

    monkeypatch.setattr(CountingStream, "finish", slow)
    with room(endpoint=False) as it:
        it.speaks.hold.clear()
        it.talk.feed(sound(10, 2))
        it.talk.commit()
        assert began.wait(WAIT_S)
        leaving = threading.Thread(target=getattr(it.talk, how))
        leaving.start()
        while not (it.talk._closing or it.talk._stop):
            pass
        go.set()
        (end,) = it.turns(1)
        it.speaks.hold.set()
        leaving.join(WAIT_S)
    assert end.cancelled


def test_a_pipeline_that_is_behind_is_late_and_the_user_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    began, go = threading.Event(), threading.Event()
    plain = CountingStream.finish

    def slow(self: CountingStream) -> str:
        began.set()
        assert go.wait(WAIT_S)
        return plain(self)

    monkeypatch.setattr(CountingStream, "finish", slow)
    with room(endpointing=Endpointing(0.32)) as it:
        it.talk.feed(sound(10, 2))
        assert began.wait(WAIT_S)
        # All the silence comes while the transcript is still being made.
        it.talk.feed(np.zeros(20 * FRAME, np.float32))
        finished_ns = perf_counter_ns()
        assert it.of(SpeechStopped) == []
        released_ns = perf_counter_ns()
        go.set()
        (end,) = it.turns(1)
        (stopped,) = it.of(SpeechStopped)
    assert stopped.at_ns <= finished_ns
    assert end.parts_ms["stt"] >= (released_ns - stopped.at_ns) / 1e6


def test_a_pause_is_heard_where_speech_resumes() -> None:
    with room() as here:
        here.talk.feed(sound(12, 4, 9, 14))
        here.turns(1)
        assert here.of(Transcript)[0].text == "21 frames"
        finishes = [one for one in here.hears.log if one.startswith("finish")]
        assert len(set(finishes)) == 2


def test_what_was_said_so_far_is_told_while_one_speaks() -> None:
    with room() as here:
        here.talk.feed(sound(20))
        here.until(lambda: bool(here.of(Partial)))
        here.talk.feed(sound(5, 14))
        here.turns(1)
        assert here.of(Partial)[0].text == "20 frames"
        assert here.of(Transcript)[0].text == "25 frames"


def test_the_next_turn_is_another_one() -> None:
    with room() as here:
        here.talk.feed(np.concatenate([sound(5, 14), sound(7, 14)]))
        here.turns(2)
        assert [one.text for one in here.of(Transcript)] == ["5 frames", "7 frames"]
        assert len({event.turn for event in here.events}) == 2


def test_speech_stops_the_answer() -> None:
    with room() as here:
        here.speaks.hold.clear()
        here.talk.feed(sound(12, 14))
        assert here.speaks.first.wait(WAIT_S)
        here.talk.feed(sound(3))
        here.until(lambda: len(here.of(SpeechStarted)) == 2)
        here.speaks.hold.set()
        (ended,) = here.turns(1)
        assert ended.cancelled
        assert len(here.of(Audio)) < 3
        here.talk.feed(sound(3, 14))
        assert not here.turns(2)[1].cancelled
        assert here.of(Transcript)[1].text == "6 frames"


def test_without_an_endpoint_only_a_commit_ends_a_turn() -> None:
    with room(endpoint=False, language="en") as here:
        here.talk.feed(sound(5, 60, 5))
        here.talk.commit()
        (ended,) = here.turns(1)
        assert here.of(Transcript)[0].text == "10 frames"
        assert ended.parts_ms["endpoint"] == 0.0
        assert here.hears.log[0] == "open en"


def test_a_commit_does_not_wait_for_silence() -> None:
    with room() as here:
        here.talk.feed(sound(9))
        here.talk.commit()
        here.turns(1)
        assert here.of(Transcript)[0].text == "9 frames"


def test_a_commit_of_nothing_is_nothing() -> None:
    with room() as here:
        here.talk.commit()
        here.talk.feed(sound(5, 14))
        here.turns(1)
    assert len(here.of(SpeechStarted)) == 1


def test_no_words_no_answer() -> None:
    with room(endpoint=False) as here:
        here.talk.feed(np.zeros(FRAME * 10, np.float32))
        here.talk.commit()
        (ended,) = here.turns(1)
        assert (here.of(Transcript)[0].text, ended.failure) == ("", "")
        assert not here.speaks.texts


def test_a_failure_ends_its_turn_and_not_the_conversation() -> None:
    with room(endpoint=False) as here:
        here.hears.fails = True
        here.talk.feed(sound(5))
        here.talk.commit()
        assert here.turns(1)[0].failure == "out_of_memory"
        here.hears.fails = False
        here.talk.feed(sound(6))
        here.talk.commit()
        assert here.turns(2)[1].failure == ""
        assert here.of(Transcript)[-1].text == "6 frames"


def test_an_unknown_tier_is_told() -> None:
    with room(ask=Ask("max"), endpoint=False) as here:
        here.talk.feed(sound(5))
        assert here.turns(1)[0].failure == "tier_unknown"


def test_a_listener_that_fails_does_not_end_the_turn() -> None:
    told = []
    done = threading.Event()

    def listener(event: Event) -> None:
        told.append(event)
        if isinstance(event, TurnEnded):
            done.set()
        raise ValueError("of the caller's")

    tiers = FixedTiers(Stages("fast", Counting(), Echo(), Speaking(), "es"))
    talk = Conversation(tiers, listener, voice=Loud())
    talk.feed(sound(5, 14))
    assert done.wait(WAIT_S)
    talk.close()
    assert any(isinstance(event, Audio) for event in told)


def test_too_much_audio_at_once_is_refused() -> None:
    with room(endpoint=False) as here, pytest.raises(BusyError) as caught:
        for _ in range(100):
            here.talk.feed(np.zeros(16_000 * 31, np.float32))
    assert caught.value.code == "audio_behind"


# The gate ----------------------------------------------------------------------------------------


def test_a_full_queue_is_busy_and_spare_work_waits_for_nobody() -> None:
    gate = Gate(waiting=1)
    inside, leave = threading.Event(), threading.Event()
    order: list[str] = []

    def work(name: str) -> None:
        with gate.turn():
            order.append(name)
            inside.set()
            assert leave.wait(WAIT_S)

    first = threading.Thread(target=work, args=("first",))
    first.start()
    assert inside.wait(WAIT_S)
    with gate.spare() as free:
        assert not free
    second = threading.Thread(target=work, args=("second",))
    second.start()
    while gate.load < 2:
        pass
    with pytest.raises(BusyError) as caught, gate.turn():
        pass
    assert caught.value.code == "server_busy"
    leave.set()
    first.join()
    second.join()
    assert order == ["first", "second"]
    with gate.spare() as free:
        assert free
    assert gate.load == 0


def test_a_wait_that_is_too_long_leaves_the_queue() -> None:
    gate = Gate()
    with gate.turn():
        with pytest.raises(BusyError), gate.turn(timeout_s=0.0):
            pass
        assert gate.load == 1
    with gate.turn(timeout_s=0.0):
        assert gate.load == 1
