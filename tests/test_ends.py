"""Where speech ends in a recording: signals whose end is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vozmetro.audio import Waveform, read
from vozmetro.speech.corpus import load_corpus
from vozmetro.speech.ends import FRAME_S, speech_end


def tone(seconds: float, rate: int = 16_000, db: float = -20) -> np.ndarray:
    """440 Hz at that RMS level in dB of full scale."""
    at = np.arange(round(seconds * rate)) / rate
    return 10 ** (db / 20) * np.sqrt(2) * np.sin(2 * np.pi * 440 * at)


def silence(seconds: float, rate: int = 16_000) -> np.ndarray:
    return np.zeros(round(seconds * rate))


def end(*parts: np.ndarray, rate: int = 16_000) -> float:
    return speech_end(Waveform(np.concatenate(parts).astype(np.float32), rate))


@pytest.mark.parametrize("seconds", [0.0, 0.003, 0.5, 2.0])
def test_where_nothing_is_said_the_recording_ends(seconds: float) -> None:
    assert end(silence(seconds)) == seconds


@pytest.mark.parametrize(
    ("tail_db", "at"),
    [
        (-32, 1.6),  # a weak last consonant, 12 dB under the speech
        (-50, 1.0),  # the recording's own noise, 30 dB under it
    ],
)
def test_a_tail_counts_as_far_as_it_is_speech(tail_db: float, at: float) -> None:
    assert end(tone(1), tone(0.6, db=tail_db), silence(1)) == pytest.approx(at)


def test_a_pause_is_not_the_end() -> None:
    assert end(tone(0.5), silence(2), tone(0.3), silence(1)) == pytest.approx(2.8)


@given(
    before=st.integers(0, 200),
    length=st.integers(30, 200),
    after=st.integers(0, 300),
    db=st.integers(-60, -3),
    rate=st.sampled_from([8000, 16_000, 22_050, 44_100]),
)
@settings(deadline=None, max_examples=60)
def test_the_end_is_found_whatever_the_level_the_rate_and_the_silence(
    before: int, length: int, after: int, db: int, rate: int
) -> None:
    seconds = [count * FRAME_S for count in (before, length, after)]
    found = end(
        silence(seconds[0], rate), tone(seconds[1], rate, db), silence(seconds[2], rate), rate=rate
    )
    # A frame is a whole number of samples, and may begin in the middle of one of these.
    size = round(FRAME_S * rate) / rate
    assert abs(found - seconds[0] - seconds[1]) <= size + 1 / rate


def test_silence_behind_real_speech_does_not_move_its_end() -> None:
    said = read(load_corpus("audioeval")[0].path)
    longer = Waveform(np.concatenate([said.samples, np.zeros(32_000, np.float32)]), said.rate)
    assert 0 < speech_end(said) <= said.seconds
    assert speech_end(longer) == pytest.approx(speech_end(said), abs=2 * FRAME_S)
