"""Channels: the telephone's band and code, rooms, clipping and lost packets, by their effect."""

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vozmetro import audio
from vozmetro.audio import Waveform
from vozmetro.errors import MissingExtraError
from vozmetro.speech import channel, room
from vozmetro.speech.conditions import Condition, Noises, apply
from vozmetro.speech.corpus import load_corpus
from vozmetro.speech.level import active_level

RATE = 16_000


@pytest.fixture(scope="module")
def speech() -> Waveform:
    return audio.read(load_corpus("audioeval")[2].path)


def tone(hertz: float, amplitude: float = 0.5, seconds: float = 2.0) -> Waveform:
    time = np.arange(round(seconds * RATE)) / RATE
    return Waveform((amplitude * np.sin(2 * np.pi * hertz * time)).astype(np.float32), RATE)


def gain_db(hertz: float, heard: Waveform, amplitude: float = 0.5) -> float:
    """How loud a tone still is, from its middle (edges ring)."""
    middle = heard.samples[RATE // 2 : -RATE // 2].astype(np.float64)
    time = np.arange(len(middle)) / RATE
    found = 2 * np.abs(np.mean(middle * np.exp(-2j * np.pi * hertz * time)))
    return 20 * float(np.log10(max(found, 1e-9) / amplitude))


# Telephone ----------------------------------------------------------------------------------


@pytest.mark.parametrize("hertz", [310, 500, 1000, 2000, 3000, 3390])
def test_the_telephone_passes_its_band(hertz):
    assert gain_db(hertz, channel.telephone(tone(hertz))) == pytest.approx(0, abs=1.0)


@pytest.mark.parametrize("hertz", [50, 100, 150, 3900, 5000, 7000])
def test_the_telephone_stops_what_lies_outside(hertz):
    assert gain_db(hertz, channel.telephone(tone(hertz))) < -30


def test_a_low_rate_takes_the_upper_half_and_leaves_the_rest():
    assert gain_db(100, channel.half_rate(tone(100))) == pytest.approx(0, abs=0.1)
    assert gain_db(3400, channel.half_rate(tone(3400))) == pytest.approx(0, abs=0.1)
    assert gain_db(5000, channel.half_rate(tone(5000))) < -60


@pytest.mark.parametrize("db", [-3, -10, -20])
def test_mu_law_keeps_its_ratio_over_levels(db):
    # The known figure of mu-law for a tone: about 38 dB, nearly whatever its level.
    time = np.arange(80_000) / 8_000
    samples = 10 ** (db / 20) * np.sin(2 * np.pi * 1004 * time)
    wrong = channel.mu_law_decode(channel.mu_law_encode(samples)) - samples
    ratio = 10 * np.log10(np.mean(samples**2) / np.mean(wrong**2))
    assert ratio == pytest.approx(38, abs=1.5)


def test_mu_law_codes_of_the_standard():
    # ITU-T G.711 table 2a: both zeros, and the largest values of either sign.
    codes = channel.mu_law_encode(np.array([0.0, 1.0, -1.0, 100 / 32768, -100 / 32768]))
    assert codes.tolist()[:3] == [0xFF, 0x80, 0x00]
    largest = channel.mu_law_decode(np.array([0x80, 0x00, 0xFF, 0x7F], np.uint8)) * 32768
    assert largest.tolist() == [32124, -32124, 0, 0]
    # Every code but the second zero is the code of what it stands for; values rise with the code.
    every = np.arange(256, dtype=np.uint8)
    again = channel.mu_law_encode(channel.mu_law_decode(every))
    assert np.flatnonzero(again != every).tolist() == [0x7F]
    values = channel.mu_law_decode(every) * 32768
    assert (np.diff(values[:0x80]) > 0).all() and (np.diff(values[0x80:]) < 0).all()
    assert len(set(values.tolist())) == 255


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=50))
def test_mu_law_is_never_further_off_than_half_a_step(values):
    samples = np.array(values)
    decoded = channel.mu_law_decode(channel.mu_law_encode(samples))
    # Steps are 8 near zero and grow by the octave: 1/32 of the value above the bias; the largest
    # is 32124 of 32768.
    bound = np.maximum(4.5, (np.abs(samples) * 32768 + 132) / 32 + 0.5)
    bound[np.abs(samples) * 32768 > 32124] = 645
    assert (np.abs(decoded - samples) * 32768 <= bound).all()


@pytest.mark.parametrize("length", [1, 2, 319, 16_001, 30_000])
def test_channels_keep_length_and_kind(length):
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, length).astype(np.float32)
    for name in ("phone", "rate8k", "clip", "loss", "reverb"):
        value = {"clip": 20.0, "loss": 20.0, "reverb": 0.2}.get(name)
        done = apply(Condition(name, value), Waveform(samples, RATE), Noises(), "x")
        assert done.waveform.samples.shape == (length,)
        assert done.waveform.samples.dtype == np.float32
        assert np.abs(done.waveform.samples).max() <= 1
        assert done.snr_db is None


def test_other_rates_are_heard_at_16_khz(speech):
    low = audio.resample(speech, 8_000)
    for name in ("clean", "phone", "rate8k"):
        heard = apply(Condition(name), low, Noises(), "x").waveform
        assert heard.rate == RATE
        assert len(heard.samples) == pytest.approx(len(speech.samples), abs=2)


# Clipping -----------------------------------------------------------------------------------


@pytest.mark.parametrize("percent", [1, 10, 50, 90])
def test_the_share_that_is_clipped(speech, percent):
    paused = Waveform(np.pad(speech.samples, (0, 3 * RATE)), RATE)
    heard = channel.clip(paused, percent).samples
    changed = heard != paused.samples
    active = active_level(paused).activity * len(heard)
    assert changed.sum() / active == pytest.approx(percent / 100, abs=0.005)
    limit = np.abs(heard).max()
    assert np.array_equal(heard, np.clip(paused.samples, -limit, limit))


# Packets ------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.01, 0.05, 0.3, 0.8])
def test_packets_are_lost_at_the_rate_and_in_bursts(share):
    lost = channel.losses(200_000, share, np.random.default_rng(1))
    assert lost.mean() == pytest.approx(share, rel=0.08)
    edges = np.diff(np.concatenate([[False], lost, [False]]).astype(int))
    bursts = np.flatnonzero(edges < 0) - np.flatnonzero(edges > 0)
    # Up to two thirds bursts last 2 packets; a share of 80 % needs four of five in a row.
    assert bursts.mean() == pytest.approx(max(2, share / (1 - share)), rel=0.05)


def test_lost_packets_are_whole_frames_of_silence(speech):
    noise = Waveform(np.full(10 * RATE + 7, 0.25, np.float32), RATE)
    heard = channel.lose_packets(noise, 20, np.random.default_rng(2)).samples
    frames = heard[: 10 * RATE].reshape(-1, 320)
    lost = (frames == 0).all(axis=1)
    assert ((frames == 0.25).all(axis=1) | lost).all()
    assert 0.1 < lost.mean() < 0.3
    losses = [
        (apply(Condition("loss", 5.0), noise, Noises(), f"u{k}").waveform.samples == 0).mean()
        for k in range(60)
    ]
    assert np.mean(losses) == pytest.approx(0.05, abs=0.007)


# Rooms --------------------------------------------------------------------------------------


def schroeder(response: np.ndarray) -> float:
    """RT60 from the slope of the backward integral between -5 and -35 dB (ISO 3382-1, T30)."""
    energy = np.cumsum(response[::-1].astype(np.float64) ** 2)[::-1]
    db = 10 * np.log10(energy[energy > 0] / energy[0])
    part = np.flatnonzero((db <= -5) & (db >= -35))
    return float(-60 / np.polyfit(part / RATE, db[part], 1)[0])


@pytest.mark.parametrize("rt60", [0.15, 0.3, 0.5])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_reverberation_time_is_what_was_asked_for(rt60, seed):
    response, direct = room.impulse_response(rt60, seed)
    assert schroeder(response) == pytest.approx(rt60, rel=0.05)
    # Before the direct sound nothing but a little ringing of filters.
    assert np.abs(response[: direct - 41]).max() < 0.05 * abs(response[direct])
    assert abs(response[direct]) > 0.2 * np.abs(response).max()


def test_rooms_keep_place_and_level(speech):
    heard = room.reverberate(speech, 0.3, seed=0)
    assert active_level(heard).db == pytest.approx(active_level(speech).db, abs=0.4)
    click = np.zeros(RATE, np.float32)
    click[4000] = 0.5
    wet = room.reverberate(Waveform(click, RATE), 0.3, seed=0).samples
    assert np.argmax(np.abs(wet)) == pytest.approx(4000, abs=1)
    assert np.abs(wet[4010:]).max() > 0.05 * np.abs(wet).max()


def test_rooms_come_from_their_seed():
    first = room.impulse_response(0.15, 0)[0]
    room.impulse_response.cache_clear()
    assert np.array_equal(first, room.impulse_response(0.15, 0)[0])
    assert not np.array_equal(first, room.impulse_response(0.15, 1)[0])
    for seed in range(50):
        size, speaker, microphone = room._geometry(seed)
        for place in (speaker, microphone):
            assert (place >= room.WALL).all() and (place <= size - room.WALL).all()
        assert 1.0 <= np.linalg.norm(speaker - microphone) <= 2.5


def test_a_room_without_its_library_names_the_extra(speech, monkeypatch):
    room.impulse_response.cache_clear()
    monkeypatch.setitem(sys.modules, "pyroomacoustics", None)
    with pytest.raises(MissingExtraError, match="quality"):
        apply(Condition("reverb", 0.2), speech, Noises(), "x")
