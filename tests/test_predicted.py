"""Predicted quality: the package's own figures, order under noise, limits of the input, ranking."""

from __future__ import annotations

import numpy as np
import pytest

from vozmetro.audio import SPEECH_RATE, Waveform, read
from vozmetro.errors import InputError
from vozmetro.quality import predicted_models as models
from vozmetro.quality.predicted import METRICS, against, aligned, checked, predict
from vozmetro.quality.predicted_ranking import RANKED, Clip, rank
from vozmetro.speech.corpus import load_corpus

# speechmos 0.0.1.1 with librosa 0.11.0 on `hum(samples, 7)`; its `run(hum, 16000)`.
PACKAGES_OWN = {
    48_000: (1.9735302703678725, 1.7702678140183872, 1.5746523043601248, 2.2516396045684814),
    144_161: (2.0263247873584955, 1.7944893326479538, 1.5868601642641254, 2.2784605026245117),
    200_000: (1.95473566846208, 1.7140698693052672, 1.5490219139643628, 2.2798945903778076),
}


def hum(samples: int, seed: int = 7) -> np.ndarray:
    time = np.arange(samples) / SPEECH_RATE
    voice = sum(np.sin(2 * np.pi * k * 140 * time) / k for k in range(1, 12))
    voice = voice * (0.6 + 0.4 * np.sin(2 * np.pi * 3 * time)) * 0.1
    noise = 0.01 * np.random.default_rng(seed).standard_normal(samples)
    return (voice + noise).astype(np.float32)


@pytest.fixture(scope="module")
def speech() -> Waveform:
    whole = np.concatenate([read(one.path).samples for one in load_corpus("audioeval", ["es"])])
    # Twice 4.6 s is one window of DNSMOS; a little less would be three.
    assert len(whole) >= int(4.6 * SPEECH_RATE)
    return Waveform(whole[: int(4.6 * SPEECH_RATE)], SPEECH_RATE)


def noisy(waveform: Waveform, snr_db: float) -> Waveform:
    samples = waveform.samples
    power = float(np.mean(np.square(samples, dtype=np.float64)))
    noise = np.random.default_rng(1).standard_normal(len(samples))
    changed = samples + noise * np.sqrt(power / 10 ** (snr_db / 10))
    return Waveform(np.clip(changed, -1, 1).astype(np.float32), waveform.rate)


@pytest.mark.parametrize("samples", PACKAGES_OWN)
def test_dnsmos_equals_the_package(samples: int) -> None:
    found = models.dnsmos(hum(samples))
    assert list(found) == ["dnsmos_sig", "dnsmos_bak", "dnsmos_ovrl", "dnsmos_p808"]
    assert tuple(found.values()) == pytest.approx(PACKAGES_OWN[samples], abs=2e-4)


def test_plcmos_equals_the_package() -> None:
    from speechmos import plcmos

    state = np.random.get_state()
    try:
        np.random.seed(3)
        own = plcmos.run(hum(48_000), SPEECH_RATE)["plcmos"]
        np.random.seed(3)
        raters = np.concatenate([np.random.normal(size=(1, 64)) for _ in range(15)])
    finally:
        np.random.set_state(state)
    assert models.plcmos(hum(48_000), raters=raters.astype(np.float32)) == pytest.approx(own)


def test_log_magnitudes_of_silence_and_of_gaps_are_finite() -> None:
    assert np.isfinite(models.log_magnitudes(np.zeros(4000, np.float32))).all()
    gap = np.concatenate([hum(4000), np.zeros(4000, np.float32), hum(4000)])
    assert np.isfinite(models.log_magnitudes(gap)).all()


def test_scores_fall_with_noise_and_repeat_exactly(speech: Waveform) -> None:
    clean, some, much = (predict(one) for one in (speech, noisy(speech, 15), noisy(speech, 0)))
    for key in ("dnsmos_bak", "dnsmos_ovrl", "dnsmos_p808"):
        assert clean[key] > some[key] > much[key]
    assert predict(speech) == clean
    known = {metric.key: metric for metric in METRICS}
    assert all(known[key].low <= value <= known[key].high for key, value in clean.items())


def test_another_sample_rate_scores_alike(speech: Waveform) -> None:
    import soxr

    above = Waveform(soxr.resample(speech.samples, speech.rate, 44_100), 44_100)
    at_16, at_44 = predict(speech), predict(above)
    # PLCMOS hears that the digital silence around the words is no longer all zeros.
    assert at_44.pop("plcmos") == pytest.approx(at_16.pop("plcmos"), abs=0.4)
    assert at_44 == pytest.approx(at_16, abs=0.15)


def test_names_say_that_they_are_predicted() -> None:
    assert len({metric.key for metric in METRICS}) == len(METRICS)
    for metric in METRICS:
        assert metric.source and metric.caution and metric.low < metric.high
        assert metric.key in ("stoi", "estoi") or metric.name.endswith("(pred.)")
        assert len(metric.name) <= 20


def test_against_itself_noise_and_delay(speech: Waveform) -> None:
    short = Waveform(speech.samples[: 2 * SPEECH_RATE], SPEECH_RATE)
    same = against(short, short)
    assert same["stoi"] == pytest.approx(1, abs=1e-3)
    assert same["estoi"] == pytest.approx(1, abs=1e-3)
    assert same["visqol"] == pytest.approx(5, abs=0.05)
    worse = against(short, noisy(short, 0))
    assert all(worse[key] < same[key] - 0.05 for key in same)
    for lag in (-1200, 700):
        late = short.samples[-lag:] if lag < 0 else np.pad(short.samples, (lag, 0))
        moved = against(short, Waveform(late.astype(np.float32), SPEECH_RATE), visqol=False)
        assert moved["stoi"] == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("lag", [-3000, -1, 0, 1, 5000])
def test_delay_is_found_in_noise(lag: int) -> None:
    clean = np.random.default_rng(0).standard_normal(40_000).astype(np.float32)
    moved = clean[-lag:] if lag < 0 else np.pad(clean, (lag, 0))
    moved = moved + np.random.default_rng(1).standard_normal(len(moved)).astype(np.float32)
    x, y = aligned(clean, moved)
    assert len(x) == len(y) >= 40_000 - abs(lag)
    assert float(np.corrcoef(x, y)[0, 1]) > 0.6


def test_too_short_for_a_reference_leaves_scores_out() -> None:
    brief = Waveform(hum(5000), SPEECH_RATE)
    assert against(brief, brief) == {}


@pytest.mark.parametrize(
    ("samples", "code"),
    [
        (np.zeros(16_000), "speech_silent"),
        (np.full(16_000, np.nan), "speech_not_finite"),
        (np.r_[np.inf, hum(16_000)], "speech_not_finite"),
        (np.zeros((2, 16_000)), "speech_not_finite"),
        (hum(1000), "speech_too_short"),
        (np.zeros(0), "speech_too_short"),
    ],
)
def test_what_is_no_speech_is_refused(samples: np.ndarray, code: str) -> None:
    broken = Waveform(samples.astype(np.float32), SPEECH_RATE)
    fine = Waveform(hum(16_000), SPEECH_RATE)
    for work in (lambda: predict(broken), lambda: against(fine, broken)):
        with pytest.raises(InputError) as caught:
            work()
        assert caught.value.code == code


@pytest.mark.parametrize("rate", [8000, SPEECH_RATE, 22_050])
def test_numbers_beyond_full_scale_are_clipped_at_any_rate(rate: int) -> None:
    beyond = checked(Waveform(np.full(rate, 3e38, np.float32), rate))
    assert np.isfinite(beyond).all() and np.abs(beyond).max() <= 1
    assert len(beyond) == pytest.approx(SPEECH_RATE, abs=2)


def clips(shift: dict[str, dict[str, float]], count: int, seed: int) -> list[Clip]:
    """Clips of three systems; sentences have their own level, and predictors go together."""
    rng = np.random.default_rng(seed)
    found = []
    for sentence in range(count):
        level = rng.normal(0, 0.5)
        for system in ("a", "b", "c"):
            common = rng.normal(0, 0.2)
            scores = {
                key: 3 + level + common + rng.normal(0, 0.2) + shift.get(system, {}).get(key, 0)
                for key in RANKED
            }
            found.append(Clip(system, f"s{sentence}", "es", scores))
    return found


def test_a_better_system_is_clear_and_undisputed() -> None:
    found = rank(clips({"b": dict.fromkeys(RANKED, 0.6)}, 25, 0), "es")
    assert found.sentences == 25
    for metric in RANKED:
        assert found.standings[metric][0].system == "b"
    better = [gap for gap in found.gaps if "b" in (gap.better, gap.worse)]
    assert all(gap.clear and gap.better == "b" for gap in better)
    assert found.disagreements == ()


def test_predictors_that_contradict_each_other_are_flagged() -> None:
    found = rank(clips({"a": {"dnsmos_p808": 0.6}, "b": {"plcmos": 0.6}}, 25, 0), "es")
    pairs = {(d.first.metric, d.first.better, d.second.better) for d in found.disagreements}
    assert pairs == {("dnsmos_p808", "a", "b")}
    only = found.disagreements[0]
    assert only.second.metric == "plcmos" and only.first.low > 0 < only.second.low


def test_noise_alone_seldom_looks_like_a_gap_or_a_disagreement() -> None:
    tries = 60
    found = [rank(clips({}, 12, 100 + seed), "es") for seed in range(tries)]
    # 5 % of 60 is 3; 8 or more happen once in a hundred where the rate is 5 %.
    assert sum(any(gap.clear for gap in one.gaps) for one in found) <= 7
    assert sum(bool(one.disagreements) for one in found) <= 3


def test_a_ranking_stays_within_one_language() -> None:
    some = clips({}, 5, 0)
    with pytest.raises(InputError) as caught:
        rank([*some, Clip("d", "s0", "en", some[0].scores)], "es")
    assert caught.value.code == "ranking_languages"
    alone = [clip for clip in some if clip.system == "a"]
    apart = [Clip("z", "other", "es", some[0].scores), *alone]
    for few in (alone, apart, []):
        with pytest.raises(InputError) as caught:
            rank(few, "es")
        assert caught.value.code == "ranking_few"


def test_two_sentences_are_never_clear() -> None:
    found = rank(clips({"b": dict.fromkeys(RANKED, 3.0)}, 2, 0), "es")
    assert not any(gap.clear for gap in found.gaps)
