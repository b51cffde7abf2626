"""The end of speech by two judges: either alone, both, and what must not matter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import pytest
from conversation_helpers import Loud
from hypothesis import given, settings
from hypothesis import strategies as st

from vozmetro.audio import SPEECH_RATE, Samples, read
from vozmetro.engines.voice_activity import FRAME, Silero, VoiceActivity
from vozmetro.errors import InputError
from vozmetro.pipeline.endpoint import (
    HANGOVER_S,
    LAG,
    PAUSE,
    TICK,
    Endpointer,
    Endpointing,
    Mark,
)
from vozmetro.speech.corpus import load_corpus
from vozmetro.speech.ends import speech_end

HANGOVER = round(HANGOVER_S * SPEECH_RATE)
BEFORE = 10 * FRAME


class Says:
    """A network that gives these probabilities, one for each frame, and the last for all others."""

    def __init__(self, *runs: tuple[float, int]) -> None:
        self.left = [value for value, count in runs for _ in range(count)]

    def probability(self, frame: Samples) -> float:
        return self.left.pop(0) if len(self.left) > 1 else self.left[0]

    def reset(self) -> None:
        pass


def noise(samples: int, db: float, seed: int = 0) -> Samples:
    """Noise of that level in dB of full scale."""
    found = np.random.default_rng(seed).standard_normal(samples) * 10 ** (db / 20)
    return found.astype(np.float32)


def heard(voice: VoiceActivity, samples: Samples, hangover_s: float = HANGOVER_S) -> list[Mark]:
    return Endpointer(voice, Endpointing(hangover_s)).feed(samples)


def kinds(marks: Sequence[Mark]) -> list[str]:
    return [mark.kind for mark in marks]


@cache
def spoken(number: int = 0) -> tuple[Samples, int]:
    """Real speech with 3 s of a quiet room behind, and the sample where it ends."""
    found = read(load_corpus("audioeval", ["en"])[number].path)
    behind = noise(3 * SPEECH_RATE, -70)
    return np.concatenate([found.samples, behind]), round(speech_end(found) * SPEECH_RATE)


# Either judge ------------------------------------------------------------------------------------


def test_the_level_tells_when_where_the_network_is_late() -> None:
    # The network notices the end three frames after it.
    voice = Says((1.0, 13), (0.0, 1))
    samples = np.concatenate([noise(BEFORE, -20), noise(BEFORE * 3, -70)])
    *_, paused, stopped = heard(voice, samples)
    assert (paused.kind, paused.sample, paused.since) == ("paused", BEFORE + PAUSE, BEFORE)
    assert (stopped.kind, stopped.sample, stopped.since) == ("stopped", BEFORE + HANGOVER, BEFORE)


def test_the_level_alone_ends_nothing_while_the_network_hears_speech() -> None:
    samples = np.concatenate([noise(BEFORE, -20), noise(SPEECH_RATE, -58)])
    assert kinds(heard(Says((1.0, 1)), samples)) == ["started", "paused"]


def test_what_nobody_could_hear_is_not_asked_about() -> None:
    voice = Says((1.0, 100), (1.0, 1))
    marks = heard(voice, np.concatenate([noise(BEFORE, -20), noise(SPEECH_RATE * 4, -70)]))
    assert kinds(marks) == ["started", "paused", "stopped"]
    assert len(voice.left) == 101 - BEFORE // FRAME


def test_the_network_alone_ends_it_where_noise_keeps_the_level_up() -> None:
    voice = Says((1.0, 10), (0.0, 1))
    marks = heard(voice, noise(BEFORE * 4, -20))
    assert kinds(marks) == ["started", "paused", "stopped"]
    # It judges whole frames, and gets as much longer as it is behind.
    late = marks[-1].sample - BEFORE - HANGOVER - LAG
    assert 0 <= late < FRAME
    assert marks[-1].since == BEFORE


def test_without_the_network_nothing_begins() -> None:
    assert heard(Says((0.49, 1)), noise(SPEECH_RATE, -6)) == []


def test_between_speech_and_silence_a_frame_is_what_the_last_clear_one_was() -> None:
    up = heard(Says((1.0, 10), (0.4, 1)), noise(SPEECH_RATE * 2, -20))
    assert kinds(up) == ["started"]
    down = heard(Says((1.0, 10), (0.0, 1), (0.4, 1)), noise(SPEECH_RATE * 2, -20))
    assert kinds(down) == ["started", "paused", "stopped"]


def test_behind_a_bang_the_network_keeps_soft_speech_together() -> None:
    bang = noise(FRAME * 3, 0)
    soft = noise(BEFORE * 4, -45, 1)
    marks = heard(Says((1.0, 43), (0.0, 1)), np.concatenate([bang, soft, noise(BEFORE * 2, -70)]))
    assert kinds(marks).count("started") == kinds(marks).count("stopped") == 1
    assert marks[-1].kind == "stopped"
    assert marks[-1].sample > FRAME * 3 + BEFORE * 4


# Silence and speech ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ticks", "stops"), [(HANGOVER // TICK - 1, False), (HANGOVER // TICK, True)]
)
def test_speech_that_resumes_within_the_hangover_goes_on(ticks: int, stops: bool) -> None:
    # Frames of silence are as the network hears them, whose dip ends with the frame.
    quiet = -(-ticks * TICK // FRAME) * FRAME
    voice = Says((1.0, 10), (0.0, quiet // FRAME), (1.0, 10), (1.0, 1))
    samples = np.concatenate(
        [noise(BEFORE, -20), noise(ticks * TICK, -58), noise(BEFORE + quiet - ticks * TICK, -20)]
    )
    marks = heard(voice, samples)
    assert ("stopped" in kinds(marks)) == stops
    assert kinds(marks)[:3] == ["started", "paused", "stopped" if stops else "resumed"]


@given(st.integers(0, 2000))
@settings(deadline=None, max_examples=25)
def test_silence_before_speech_only_shifts_it(frames: int) -> None:
    speech = np.concatenate([noise(BEFORE, -20), noise(BEFORE * 3, -70)])
    before = np.zeros(frames * FRAME, np.float32)
    shifted = heard(Loud(), np.concatenate([before, speech]))
    assert shifted == [
        Mark(one.kind, one.sample + len(before), one.since + len(before))
        for one in heard(Loud(), speech)
    ]
    assert kinds(shifted) == ["started", "paused", "stopped"]


@pytest.mark.parametrize("value", [0.032, 5.0])
def test_the_bounds_of_the_hangover_hold(value: float) -> None:
    samples = np.concatenate([noise(BEFORE, -20), noise(SPEECH_RATE * 6, -70)])
    stopped = heard(Loud(), samples, value)[-1]
    assert stopped.kind == "stopped"
    wait = stopped.sample - BEFORE
    # Loud agrees with the frame; the shortest wait is one.
    assert 0 <= wait - round(value * SPEECH_RATE) < FRAME


@pytest.mark.parametrize("value", [0.0319, 5.001, -1.0, float("inf")])
def test_beyond_its_bounds_a_hangover_is_refused(value: float) -> None:
    with pytest.raises(InputError) as caught:
        Endpointing(value)
    assert caught.value.code == "hangover_range"
    assert "0.032" in str(caught.value)


# Real speech -------------------------------------------------------------------------------------


def clean(samples: Samples) -> Samples:
    return samples


def clipped(samples: Samples) -> Samples:
    return np.clip(samples * 30, -1, 1)


def soft(samples: Samples) -> Samples:
    return samples * 0.05


def noisy(samples: Samples) -> Samples:
    # 20 dB below the speech: above the level that counts as a pause.
    power = float(np.square(samples).mean())
    return samples + noise(len(samples), 10 * np.log10(power) - 20, 5)


@pytest.mark.parametrize("change", [clean, clipped, soft, noisy])
def test_real_speech_is_one_utterance_that_ends_behind_it(
    change: Callable[[Samples], Samples],
) -> None:
    samples, end = spoken()
    marks = heard(Silero(), change(samples), 0.6)
    assert kinds(marks).count("started") == kinds(marks).count("stopped") == 1
    stopped = marks[-1]
    assert stopped.kind == "stopped"
    # Not before the last sound, and no later than a second after what was to be waited.
    assert end < stopped.sample < end + round(1.6 * SPEECH_RATE)


def test_in_noise_only_the_network_can_tell() -> None:
    samples, _ = spoken()
    loud = noisy(samples)
    # The level alone never pauses here: a network that always hears speech proves it.
    assert kinds(heard(Says((1.0, 1)), loud)) == ["started"]
    assert "stopped" in kinds(heard(Silero(), loud))


# What must not matter ----------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.integers(1, 9000), st.integers(-80, 0)), min_size=1, max_size=8),
    st.lists(st.integers(0, 3000), max_size=30),
)
@settings(deadline=None, max_examples=60)
def test_the_marks_do_not_hang_on_how_the_samples_are_cut(
    parts: list[tuple[int, int]], cuts: list[int]
) -> None:
    samples = np.concatenate([noise(count, db, index) for index, (count, db) in enumerate(parts)])
    whole = heard(Loud(), samples)
    endpointer = Endpointer(Loud(), Endpointing())
    pieces = np.split(samples, [end for end in np.cumsum(cuts) if end < len(samples)])
    assert [mark for piece in pieces for mark in endpointer.feed(piece)] == whole
    # And they make sense: one after the other, none before what it tells of.
    states = {"started": (None,), "paused": ("started", "resumed"), "resumed": ("paused",)}
    before: str | None = None
    for mark in whole:
        assert before in states.get(mark.kind, ("paused",))
        before = None if mark.kind == "stopped" else mark.kind
        assert 0 <= mark.since <= mark.sample <= len(samples)
    assert [mark.sample for mark in whole] == sorted(mark.sample for mark in whole)


def test_real_speech_ends_where_it_ends_however_it_comes() -> None:
    samples, _ = spoken()
    whole = heard(Silero(), samples)
    assert whole
    for size in (100, 320, 4096):
        endpointer = Endpointer(Silero(), Endpointing())
        pieces = np.split(samples, range(size, len(samples), size))
        assert [mark for piece in pieces for mark in endpointer.feed(piece)] == whole
