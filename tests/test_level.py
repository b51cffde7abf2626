"""The active speech level (ITU-T P.56): signals of known level and activity."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vozmetro import audio
from vozmetro.audio import Waveform
from vozmetro.speech.corpus import load_corpus
from vozmetro.speech.level import active_level, rms_db

RATE = 16_000
# The parameters of P.56 method B, from its text and not from the code under test.
TIME_CONSTANT, HANGOVER, MARGIN_DB = 0.03, 0.2, 15.9


def noise(seconds: float, db: float, seed: int = 0) -> np.ndarray:
    """Gaussian noise of an exact RMS (dBov)."""
    samples = np.random.default_rng(seed).standard_normal(round(seconds * RATE))
    return samples * 10 ** (db / 20) / np.sqrt(np.mean(samples**2))


def level(samples: np.ndarray, rate: int = RATE):
    return active_level(Waveform(samples.astype(np.float32), rate))


def by_the_letter(samples: np.ndarray, rate: int) -> float:
    """P.56 method B sample by sample, as its text counts: the oracle of the vectorised one."""
    decay = math.exp(-1 / (rate * TIME_CONSTANT))
    hold = math.ceil(HANGOVER * rate)
    thresholds = [2.0**k for k in range(-15, 0)]
    active, since = [0] * len(thresholds), [hold] * len(thresholds)
    first = second = 0.0
    for sample in samples:
        first = decay * first + (1 - decay) * abs(sample)
        second = decay * second + (1 - decay) * first
        for at, threshold in enumerate(thresholds):
            if second >= threshold:
                active[at], since[at] = active[at] + 1, 0
            elif since[at] < hold:
                active[at], since[at] = active[at] + 1, since[at] + 1
    energy = float(np.sum(samples**2))
    before = None
    for count, threshold in zip(active, thresholds, strict=True):
        if not count:
            break
        now = 10 * math.log10(energy / count)
        excess = now - 20 * math.log10(threshold) - MARGIN_DB
        if excess <= 0:
            if before is None:
                return now
            return before[0] + (now - before[0]) * before[1] / (before[1] - excess)
        before = now, excess
    assert before is not None
    return before[0]


@pytest.mark.parametrize("index", [0, 4])
def test_real_speech_measures_as_the_standard_counts(index):
    speech = audio.read(load_corpus("audioeval")[index].path)
    samples = speech.samples[: 2 * RATE].astype(np.float64)
    padded = np.concatenate([samples, np.zeros(RATE // 2)])
    assert level(padded).db == pytest.approx(by_the_letter(padded, RATE), abs=1e-4)


@pytest.mark.parametrize("rate", [8_000, 16_000, 48_000])
def test_a_steady_tone_is_active_throughout(rate):
    tone = 0.1 * np.sin(2 * np.pi * 440 * np.arange(10 * rate) / rate)
    found = level(tone, rate)
    assert found.db == pytest.approx(20 * math.log10(0.1 / math.sqrt(2)), abs=0.03)
    assert found.activity == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("db", [-50.0, -26.0, -12.0])
def test_bursts_of_known_activity(db):
    # On for 4 s and off for 6 s, six times: active 40 % and the hangover (0.2 s, and the time the
    # envelope takes to fall) after each burst.
    bursts = np.concatenate([np.pad(noise(4, db, seed), (0, 6 * RATE)) for seed in range(6)])
    found = level(bursts)
    assert found.db == pytest.approx(db, abs=0.4)
    assert 0.40 < found.activity < 0.44
    # What the activity means: the active level over that share of the time is all the energy.
    assert found.db + 10 * math.log10(found.activity) == pytest.approx(rms_db(bursts), abs=1e-6)


def test_pauses_hardly_change_the_level_and_halve_the_activity():
    speech = np.concatenate([audio.read(each.path).samples for each in load_corpus("audioeval")])
    paused = np.concatenate([speech, np.zeros(len(speech), np.float32)])
    alone, with_pause = level(speech), level(paused)
    assert with_pause.db == pytest.approx(alone.db, abs=0.15)
    assert with_pause.activity == pytest.approx(alone.activity / 2, abs=0.02)
    assert rms_db(paused) == pytest.approx(rms_db(speech) - 3.01, abs=0.01)


def test_faint_noise_in_the_pauses_is_not_speech():
    burst = np.pad(noise(4, -26), (0, 6 * RATE)) + noise(10, -70, 1)
    found = level(burst)
    assert found.db == pytest.approx(-26, abs=0.4)
    assert 0.40 < found.activity < 0.44


@settings(deadline=None, max_examples=25)
@given(gain_db=st.floats(-60, 20), seed=st.integers(0, 99), share=st.floats(0.1, 1))
def test_a_gain_moves_the_level_by_itself(gain_db, seed, share):
    burst = noise(2, -30, seed)
    burst[round(share * len(burst)) :] *= 0.001
    before, after = level(burst), level(burst * 10 ** (gain_db / 20))
    # Thresholds stand still at powers of two: between them the level is interpolated.
    assert after.db - before.db == pytest.approx(gain_db, abs=0.35)
    # A gain of octaves moves from threshold to threshold, exactly.
    octaves = round(gain_db / 6)
    moved = level(burst * 2.0**octaves)
    assert moved.db - before.db == pytest.approx(octaves * 20 * math.log10(2), abs=1e-6)
    assert moved.activity == pytest.approx(before.activity)


@pytest.mark.parametrize("length", [0, 1, 100, RATE])
def test_silence_is_defined(length):
    found = level(np.zeros(length))
    assert (found.db, found.activity) == (-math.inf, 0.0)
    assert rms_db(np.zeros(length, np.float32)) == -math.inf


def test_a_click_has_a_level():
    click = np.zeros(RATE)
    click[1000] = 1.0
    found = level(click)
    assert -40 < found.db < -30
    assert 0 < found.activity <= 0.5
