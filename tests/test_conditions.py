"""Noises against speech: names, SNRs measured independently, spectra, seeds, babble."""

import math
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from scipy import signal

from vozmetro import audio
from vozmetro.audio import Waveform
from vozmetro.errors import InputError
from vozmetro.speech import noises
from vozmetro.speech.conditions import (
    GRID,
    KINDS,
    Condition,
    Noises,
    apply,
    key_of,
    noise_alone,
    parse,
    silence,
)
from vozmetro.speech.corpus import Utterance, load_corpus
from vozmetro.speech.level import active_level

RATE = 16_000
NOISY = sorted(noises.KINDS)


@pytest.fixture(scope="module")
def corpus() -> dict[str, Waveform]:
    return {each.id: audio.read(each.path) for each in load_corpus("audioeval")}


@pytest.fixture(scope="module")
def fitted(corpus) -> Noises:
    return Noises.fitted(corpus)


def refusal(call, *given_, **named) -> InputError:
    with pytest.raises(InputError) as caught:
        call(*given_, **named)
    for lang in ("es", "en"):
        assert caught.value.message(lang)
    return caught.value


def names(text: str) -> list[str]:
    return [str(each) for each in parse(text)]


# Names --------------------------------------------------------------------------------------


def test_conditions_by_name():
    assert names("clean, ssn@10,white@-5,reverb,phone,clip,loss@2.5") == [
        "clean",
        "ssn@10",
        "white@-5",
        "reverb@0.5",
        "phone",
        "clip@10",
        "loss@2.5",
    ]
    assert parse("ssn@10")[0].snr_db == 10
    assert parse("reverb@0.4")[0].snr_db is None
    assert [each.fitted for each in parse("ssn@1,babble@1,white@1,phone")] == [1, 1, 0, 0]


def test_a_noise_alone_stands_for_the_grid_with_clean_speech_once():
    grid = ["clean", *(f"pink@{snr:g}" for snr in GRID)]
    assert names("pink") == names("pink@grid") == names("clean,pink") == grid
    assert names("pink,ssn") == [*grid, *(f"ssn@{snr:g}" for snr in GRID)]
    assert names("ssn@10,ssn@10.0,ssn@+10") == ["ssn@10"]
    assert names("ssn@-0") == ["ssn@0"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "conditions_none"),
        (" , ", "conditions_none"),
        ("wind", "condition_unknown"),
        ("SSN@10", "condition_unknown"),
        ("ssn @10", "condition_unknown"),
        ("phone@8", "condition_no_value"),
        ("clean@", "condition_no_value"),
        ("ssn@", "condition_value"),
        ("ssn@nan", "condition_value"),
        ("ssn@1e1", "condition_value"),
        ("ssn@1_0", "condition_value"),
        ("ssn@1.0001", "condition_value"),
        ("ssn@٣", "condition_value"),
        ("ssn@61", "condition_value"),
        ("ssn@10@5", "condition_value"),
        ("reverb@grid", "condition_value"),
        ("reverb@5", "condition_value"),
        ("loss@100", "condition_value"),
        ("clean,ssn@inf", "condition_value"),
    ],
)
def test_what_is_no_condition_is_refused_by_name(text, code):
    error = refusal(parse, text)
    assert error.code == code
    if code == "condition_unknown":
        assert all(kind in str(error) for kind in KINDS)


@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyz0123456789@.,+- ", max_size=40))
def test_any_text_is_conditions_or_one_error(text):
    try:
        found = parse(text)
    except InputError as error:
        assert error.code.startswith("condition")
    else:
        assert found and len(set(found)) == len(found)


@given(
    st.sampled_from([(kind, takes) for kind, takes in KINDS.items() if takes]),
    st.floats(0, 1),
)
def test_names_are_read_back(kind, share):
    name, takes = kind
    value = takes.low + share * (takes.high - takes.low)
    (first,) = parse(f"{name}@{value:.3f}")
    assert first.value == pytest.approx(value, abs=6e-4)
    assert parse(first.name) == [first]


def test_every_condition_is_in_its_document_with_its_bounds():
    text = (Path(__file__).parents[1] / "docs" / "noise.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([a-z0-9]+)` \| (.*?) \|$", text, re.MULTILINE))
    assert rows.keys() == KINDS.keys()
    for kind, takes in KINDS.items():
        bounds, default, _ = (cell.strip() for cell in rows[kind].split("|"))
        if takes is None:
            assert bounds == default == ""
        else:
            assert f"{takes.low:g} to {takes.high:g} {takes.unit}" in bounds
            assert default == ("the grid" if takes.default is None else f"{takes.default:g}")


# Noise --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", NOISY)
@pytest.mark.parametrize("snr", [20, 0, -5])
def test_the_snr_is_what_was_asked_for(corpus, fitted, kind, snr):
    for key in ("es/pangrama", "en/counting"):
        speech = corpus[key]
        done = apply(Condition(kind, snr), speech, fitted, key)
        # Undo the joint scaling; what is not speech is noise.
        added = done.waveform.samples.astype(np.float64) / done.scale - speech.samples
        noise_db = 10 * math.log10(np.mean(added**2))
        assert active_level(speech).db - noise_db == pytest.approx(snr, abs=0.05)
        assert done.snr_db == pytest.approx(snr, abs=0.01)
        assert done.waveform.samples.shape == speech.samples.shape
        assert done.waveform.samples.dtype == np.float32


def test_pauses_do_not_change_the_noise_that_speech_meets(corpus, fitted):
    speech = corpus["en/counting"]
    paused = Waveform(np.pad(speech.samples, (0, 5 * RATE)), RATE)
    for waveform in (speech, paused):
        done = apply(Condition("white", 10.0), waveform, fitted, "x")
        added = done.waveform.samples[:RATE] / done.scale - waveform.samples[:RATE]
        assert active_level(speech).db - 20 * math.log10(added.std()) == pytest.approx(10, abs=0.4)


def test_sums_that_would_clip_are_scaled_together(corpus, fitted):
    speech = corpus["es/pangrama"]
    loud = Waveform(speech.samples / np.abs(speech.samples).max(), RATE)
    done = apply(Condition("white", 0.0), loud, fitted, "x")
    assert np.abs(done.waveform.samples).max() == pytest.approx(32767 / 32768)
    assert done.scale < 1
    quiet = apply(Condition("white", 0.0), Waveform(loud.samples * 0.1, RATE), fitted, "x")
    assert quiet.scale == 1
    # The same sum, but for the scale and the thresholds of P.56.
    ratio = done.waveform.samples.std() / done.scale / (quiet.waveform.samples.std() / 0.1)
    assert ratio == pytest.approx(1, abs=0.03)


def thirds(samples: np.ndarray, low: float = 100, high: float = 7000) -> np.ndarray:
    """Power in each third of an octave, dB."""
    hertz, power = signal.welch(samples, RATE, nperseg=2048)
    edges = low * 2 ** np.arange(0, math.log2(high / low), 1 / 3)
    bands = [power[(hertz >= a) & (hertz < b)].sum() for a, b in pairwise(edges)]
    return 10 * np.log10(bands)


def test_speech_shaped_noise_has_the_spectrum_of_the_corpus(corpus, fitted):
    leveled = [w.samples * 10 ** (-active_level(w).db / 20) for w in corpus.values()]
    wanted = thirds(np.concatenate(leveled))
    noise = thirds(noises.make("ssn", 60 * RATE, fitted, "x", 0))
    apart = (noise - noise.mean()) - (wanted - wanted.mean())
    assert np.abs(apart).max() < 3
    assert np.sqrt(np.mean(apart**2)) < 1.5
    # Which is no statement about any noise: white noise is far from it.
    white = thirds(noises.make("white", 60 * RATE, fitted, "x", 0))
    assert np.abs((white - white.mean()) - (wanted - wanted.mean())).max() > 10


def test_the_slopes_of_white_and_pink(fitted):
    white = thirds(noises.make("white", 60 * RATE, fitted, "x", 0))
    pink = noises.make("pink", 60 * RATE, fitted, "x", 0)
    bands = np.arange(len(white))
    # Per third of an octave white gains 1 dB and pink is level; below 50 Hz there is no pink.
    assert np.polyfit(bands, white, 1)[0] == pytest.approx(1.0, abs=0.05)
    assert np.polyfit(bands, thirds(pink), 1)[0] == pytest.approx(0, abs=0.05)
    hertz, power = signal.welch(pink, RATE, nperseg=16_000)
    assert power[hertz < 40].max() < power[(hertz > 60) & (hertz < 100)].min() / 100


@pytest.mark.parametrize(("kind", "mains"), [("hum", 50), ("hum60", 60)])
def test_hum_is_the_mains_and_its_harmonics(fitted, kind, mains):
    hum = noises.make(kind, 3 * RATE, fitted, "x", 0)
    spectrum = np.abs(np.fft.rfft(hum)) / len(hum)
    lines = spectrum[3 * mains * np.arange(1, 21)]
    assert lines / lines[0] == pytest.approx(1 / np.arange(1, 21))
    assert 2 * np.sum(lines**2) == pytest.approx(1, abs=1e-6)


def test_what_is_heard_depends_on_condition_key_and_seed_alone(corpus, fitted):
    text = "ssn@5,white@5,pink@5,babble@5,hum@5,hum60@5,loss@30"
    keys = ["es/conteo", "en/counting"]

    def hear(order, condition_list, seed=0, noises_=fitted):
        return {
            (c.name, key): apply(c, corpus[key], noises_, key, seed).waveform.samples
            for key in order
            for c in condition_list
        }

    conditions = parse(text)
    first = hear(keys, conditions)
    again = hear(keys[::-1], conditions[::-1])
    shuffled = Noises.fitted(dict(reversed(corpus.items())))
    refitted = hear(keys, conditions, noises_=shuffled)
    other = hear(keys, conditions, seed=1)
    for at, samples in first.items():
        assert np.array_equal(samples, again[at]) and np.array_equal(samples, refitted[at])
        assert not np.array_equal(samples, other[at])
    for condition in conditions:
        one = apply(condition, corpus["es/conteo"], fitted, "a").waveform.samples
        two = apply(condition, corpus["es/conteo"], fitted, "b").waveform.samples
        assert not np.array_equal(one, two)


def test_an_utterance_meets_the_same_noise_at_every_snr(corpus, fitted):
    speech = corpus["es/conteo"]
    added = [apply(Condition("ssn", snr), speech, fitted, "x") for snr in (20.0, 10.0)]
    first, second = (a.waveform.samples / a.scale - speech.samples for a in added)
    assert first * 10 ** (10 / 20) == pytest.approx(second, abs=1e-5)


# Babble and fitting -------------------------------------------------------------------------


def tones(count: int) -> dict[str, Waveform]:
    """Utterances that a spectrum tells apart: utterance k is a tone of 300 + 100 k Hz."""
    time = np.arange(RATE) / RATE
    return {
        f"u{k}": Waveform(
            (0.1 * np.sin(2 * np.pi * (300 + 100 * k) * time)).astype(np.float32), RATE
        )
        for k in range(count)
    }


@pytest.mark.parametrize("count", [3, 6, 7, 12])
def test_babble_never_holds_the_utterance_itself(count):
    fitted = Noises.fitted(tones(count))
    for k in range(count):
        babble = noises.make("babble", 5 * RATE, fitted, f"u{k}", seed=k)
        # Where utterances follow one another their phases do not: power, not one long transform.
        power = signal.welch(babble, RATE, nperseg=1600)[1]
        heard = power[30 + 10 * np.arange(count)] > power.max() / 100
        assert not heard[k]
        assert heard.sum() >= min(count - 1, noises.TALKERS), (k, power[30:150:10])


def test_talkers_in_babble_are_equally_loud():
    loud = tones(3)
    loud["u1"] = Waveform(loud["u1"].samples * 5, RATE)
    babble = noises.make("babble", 5 * RATE, Noises.fitted(loud), "u0", seed=0)
    power = signal.welch(babble, RATE, nperseg=1600)[1]
    assert power[40] == pytest.approx(power[50], rel=0.05)


def test_no_utterance_weighs_more_in_the_spectrum_for_being_louder():
    even, uneven = tones(2), tones(2)
    uneven["u1"] = Waveform(uneven["u1"].samples * 8, RATE)
    spectra = [Noises.fitted(each).spectrum for each in (even, uneven)]
    assert spectra[0] == pytest.approx(spectra[1], rel=0.02, abs=1e-3)


def test_long_corpora_are_fitted_in_part(monkeypatch):
    monkeypatch.setattr(noises, "FIT_SECONDS", 5.0)
    monkeypatch.setattr(noises, "BABBLE_SECONDS", 2.0)
    part = Noises.fitted(tones(12))
    assert part.fitted_seconds == part.fitted_utterances == 5
    assert len(part.voices) == 5
    assert part.voices.keys() != Noises.fitted(tones(12), seed=1).voices.keys()


def test_utterances_are_read_where_no_waveforms_are_given(fitted):
    listed = load_corpus("audioeval")
    read = Noises.fitted(listed)
    assert np.array_equal(read.spectrum, fitted.spectrum)
    assert read.voices.keys() == {key_of(each) for each in listed}


def test_babble_leaves_out_the_utterance_that_a_key_stands_for(tmp_path):
    # Two languages with the same ids, as prompts have: the key tells them apart.
    listed = []
    for k, (name, waveform) in enumerate(tones(6).items()):
        path = tmp_path / f"{name}.wav"
        soundfile.write(path, waveform.samples, RATE)
        listed.append(Utterance(f"id{k % 3}", path, "x", ("es", "en")[k // 3], 1.0))
    fitted = Noises.fitted(listed)
    for k, utterance in enumerate(listed):
        babble = noises.make("babble", 5 * RATE, fitted, key_of(utterance), 0)
        power = signal.welch(babble, RATE, nperseg=1600)[1][30 + 10 * np.arange(6)]
        assert np.flatnonzero(power < power.max() / 100).tolist() == [k]


def test_what_noise_cannot_be_made_is_said(corpus, fitted):
    speech = corpus["es/conteo"]
    assert refusal(Noises.fitted, []).code == "noise_nothing"
    assert refusal(Noises.fitted, {"x": silence(1)}).code == "noise_nothing"
    for kind in ("ssn", "babble"):
        error = refusal(apply, Condition(kind, 0.0), speech, Noises(), "x")
        assert error.code == "noise_unfitted"
    two = Noises.fitted(tones(2))
    assert refusal(apply, Condition("babble", 0.0), speech, two, "u0").code == "babble_few"
    error = refusal(apply, Condition("white", 0.0), silence(1), fitted, "x")
    assert error.code == "utterance_silent"
    # Without a corpus the other noises do.
    assert apply(Condition("pink", 0.0), speech, Noises(), "x").snr_db == pytest.approx(0, abs=0.01)


def test_clean_speech_is_left_as_it_is(corpus):
    speech = corpus["es/conteo"]
    done = apply(Condition("clean"), speech, Noises(), "x")
    assert np.array_equal(done.waveform.samples, speech.samples)
    assert (done.snr_db, done.scale) == (None, 1.0)


# Nobody speaks ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", NOISY)
def test_noise_alone_has_the_level_it_has_under_nominal_speech(fitted, kind):
    heard = noise_alone(Condition(kind, 10.0), 3, fitted, "alone")
    assert heard.seconds == 3
    assert 10 * math.log10(np.mean(heard.samples.astype(float) ** 2)) == pytest.approx(
        -36, abs=0.01
    )


def test_silence_through_a_channel_stays_silent():
    assert not silence(2).samples.any()
    for condition in parse("clean,phone,rate8k,clip,loss,reverb@0.2"):
        heard = noise_alone(condition, 2, Noises(), "alone")
        assert heard.seconds == 2
        assert np.abs(heard.samples).max() < 1e-4
