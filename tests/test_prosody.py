"""Prosodic activity on signals whose pitch, pauses and syllables are known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vozmetro.audio import SPEECH_RATE, Waveform
from vozmetro.errors import InputError
from vozmetro.quality.prosody import FEATURES, Prosody, across_styles, prosody, variation
from vozmetro.quality.prosody_bands import Band, band, inside, read
from vozmetro.quality.syllables import syllables


def voice(pitch_hz: np.ndarray, level: np.ndarray | float = 0.2) -> np.ndarray:
    phase = 2 * np.pi * np.cumsum(pitch_hz) / SPEECH_RATE
    return sum(np.sin(k * phase) / k for k in range(1, 12)) * level


def wave(samples: np.ndarray, noise: float = 0.0) -> Waveform:
    samples = samples + noise * np.random.default_rng(0).standard_normal(len(samples))
    return Waveform(samples.astype(np.float32), SPEECH_RATE)


TIME = np.arange(3 * SPEECH_RATE) / SPEECH_RATE
FLAT = voice(np.full(len(TIME), 150.0))


@pytest.mark.parametrize("hertz", [80.0, 110.0, 220.0, 400.0])
@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_a_monotone_voice_has_no_range(hertz: float, noise: float) -> None:
    found = prosody(wave(voice(np.full(len(TIME), hertz)), noise))
    assert found.f0_median_hz == pytest.approx(hertz, rel=0.005)
    assert found.f0_sd_st is not None and found.f0_sd_st < 0.15
    assert found.f0_range_st is not None and found.f0_range_st < 0.3
    assert found.voiced_ratio > 0.95 and found.energy_sd_db < 1.0
    assert found.pauses_per_minute == 0 and found.pause_mean_seconds is None


@pytest.mark.parametrize(("start", "semitones"), [(110.0, 12.0), (200.0, 4.0), (330.0, -12.0)])
def test_a_glide_has_its_range_whoever_makes_it(start: float, semitones: float) -> None:
    found = prosody(wave(voice(start * 2 ** (semitones / 12 * TIME / 3))))
    # A uniform glide of W semitones: 5 % to 95 % is 0.9 W, and the deviation W / sqrt(12).
    assert found.f0_range_st == pytest.approx(0.9 * abs(semitones), abs=0.25)
    assert found.f0_sd_st == pytest.approx(abs(semitones) / np.sqrt(12), abs=0.1)


def test_pauses_of_known_length() -> None:
    silence = {seconds: np.zeros(int(seconds * SPEECH_RATE)) for seconds in (0.1, 0.4, 0.5, 0.8)}
    one = FLAT[:SPEECH_RATE]
    parts = [silence[0.5], one, silence[0.4], one, silence[0.1], one, silence[0.8], one]
    found = prosody(wave(np.concatenate([*parts, silence[0.5]])), "a " * 20, "es")
    span = 4 + 0.4 + 0.1 + 0.8
    assert found.pauses_per_minute == pytest.approx(2 / span * 60, rel=0.02)
    assert found.pause_mean_seconds == pytest.approx(0.6, abs=0.015)
    assert found.pause_share == pytest.approx(1.2 / span, abs=0.01)
    assert found.speech_seconds == pytest.approx(4.1, abs=0.05)
    assert found.rate_syllables_s == pytest.approx(20 / 4.1, rel=0.02)


def test_levels_that_move_are_seen() -> None:
    decibels = 6 * np.sign(np.sin(2 * np.pi * TIME))
    found = prosody(wave(voice(np.full(len(TIME), 150.0), 0.1 * 10 ** (decibels / 20))))
    assert found.energy_sd_db == pytest.approx(6, abs=0.4)


def test_noise_is_not_voiced() -> None:
    found = prosody(wave(np.zeros(len(TIME)), 0.1))
    assert found.voiced_ratio < 0.05
    assert found.f0_sd_st is None or found.voiced_ratio > 0.03


@pytest.mark.parametrize(
    ("samples", "code"),
    [
        (np.zeros(16_000), "speech_silent"),
        (np.full(16_000, np.nan), "speech_not_finite"),
        (np.zeros(0), "speech_too_short"),
    ],
)
def test_what_is_no_speech_is_refused(samples: np.ndarray, code: str) -> None:
    with pytest.raises(InputError) as caught:
        prosody(wave(samples))
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("language", "words", "expected"),
    [
        ("es", "muy rey y hoy vio guion", [1, 1, 1, 1, 1, 1]),
        ("es", "quien queso guitarra pingüino averigüéis", [1, 2, 3, 3, 4]),
        ("es", "aéreo país continuo murciélago día oía", [4, 2, 3, 4, 2, 3]),
        ("es", "ciudad construir gratuito ahora poesía", [2, 2, 3, 3, 4]),
        ("en", "the table make makes boxes little people", [1, 2, 1, 1, 2, 2, 2]),
        ("en", "walked wanted creating radio nation", [1, 2, 3, 3, 2]),
        ("en", "idea special patient agent conference", [3, 2, 2, 2, 3]),
    ],
)
def test_syllables(language: str, words: str, expected: list[int]) -> None:
    assert [syllables(word, language) for word in words.split()] == expected


def test_syllables_of_numbers_and_other_languages() -> None:
    assert syllables("21", "es") == syllables("veintiuno", "es") == 3
    assert syllables("¡¿...?!", "es") == 0
    assert syllables("guten Tag", "de") is None
    assert syllables("Hola, mundo.", "es-MX") == 4


BASE = prosody(wave(FLAT), "hola", "es")


def test_variation_of_repeats() -> None:
    assert set(variation([BASE, BASE])) <= set(FEATURES)
    assert all(value == 0 for value in variation([BASE, BASE, BASE]).values())
    octave = replace(BASE, f0_median_hz=2 * (BASE.f0_median_hz or 0))
    assert variation([BASE, octave])["f0_median_hz"] == pytest.approx(12 / np.sqrt(2))
    assert variation([BASE]) == {}


def test_styles_beside_repeats() -> None:
    def lively(sd: float) -> Prosody:
        return replace(BASE, f0_sd_st=sd)

    found = across_styles({"calm": [lively(1.0), lively(2.0)], "happy": [lively(4.0), lively(5.0)]})
    shift = found["f0_sd_st"]
    assert (shift.low_style, shift.high_style) == ("calm", "happy")
    assert shift.difference == pytest.approx(3.0)
    assert shift.repeat_sd == pytest.approx(np.sqrt(0.5))
    assert across_styles({"calm": [BASE], "happy": [BASE]})["energy_sd_db"].repeat_sd is None
    assert across_styles({"calm": [BASE]}) == {}


@pytest.mark.parametrize("language", ["es", "en"])
def test_bands_name_who_was_measured(language: str) -> None:
    found = band(language)
    assert found is not None and found.corpus and found.speaker and found.utterances >= 100
    assert found.command.startswith("python benchmarks/prosody_bands.py")
    assert set(found.features) <= set(FEATURES)
    low, high = found.features["f0_sd_st"]
    assert 0.5 < low < high < 8
    assert band("xx") is None and band(f"{language}-XX") == found


def test_inside_a_band() -> None:
    limits = {"f0_sd_st": (2.0, 5.0), "energy_sd_db": (0.0, 9.0), "f0_median_hz": (1.0, 2.0)}
    reader = Band("es", "c", "s", 9, "x", limits)
    assert inside(BASE, reader) == {"f0_sd_st": False, "energy_sd_db": True}
    assert inside(replace(BASE, f0_sd_st=None), reader) == {"energy_sd_db": True}


@pytest.mark.parametrize(
    "text",
    ["es = 1", "[es]\ncorpus = 'c'", "\x00", "[es]\ncorpus='c'\nspeaker='s'\nutterances=1\n"
     "command='x'\n[es.features]\nf0_sd_st=[3, 1]",
     "[es]\ncorpus='c'\nspeaker='s'\nutterances=1\ncommand='x'\n[es.features]\nunknown=[1, 2]"],
)  # fmt: skip
def test_broken_bands_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bands.toml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read(path)
    assert caught.value.code == "band_invalid"
