"""WER against SNR: known answers, bounds, and intervals that cover as they say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vozmetro.quality.noise_curve import Crossing, curve
from vozmetro.resampling import rate

WORDS = np.full(20, 10)


def flat(rate: float) -> np.ndarray:
    """Errors that are the same share of every utterance: no draw differs from another."""
    return WORDS * rate


def test_points_are_pooled_and_ordered():
    found = curve([10, 30], [1, 1], {0: [5, 5], 20: [1, 2], 10: [2, 4]}, resamples=200)
    assert [point.snr_db for point in found.points] == [None, 20, 10, 0]
    assert [point.rate for point in found.points] == [2 / 40, 3 / 40, 6 / 40, 10 / 40]
    assert [point.errors for point in found.points] == [2, 3, 6, 10]
    assert {point.words for point in found.points} == {40}
    assert found.utterances == 2


def test_points_have_the_intervals_of_any_wer():
    rng = np.random.default_rng(4)
    errors = rng.binomial(10, [[0.1], [0.3]], (2, 40))
    found = curve([10] * 40, errors[0], {0: errors[1]})
    for point, counted in zip(found.points, errors, strict=True):
        alone = rate(counted, [10] * 40)
        assert (point.rate, point.low, point.high) == (alone.value, alone.low, alone.high)


def test_the_snr_at_which_wer_doubles():
    found = curve(WORDS, flat(0.1), {20: flat(0.1), 10: flat(0.15), 5: flat(0.25), 0: flat(0.6)})
    # From 0.15 at 10 dB to 0.25 at 5 dB: 0.20 lies half way.
    for crossing in (found.doubling.snr, found.doubling.low, found.doubling.high):
        assert crossing.db == pytest.approx(7.5)
        assert crossing.bound == ""
    assert found.doubling.clean_zero == 0


def test_the_first_crossing_from_above_counts_where_the_curve_is_not_monotone():
    found = curve(WORDS, flat(0.1), {20: flat(0.1), 10: flat(0.3), 5: flat(0.1), 0: flat(0.5)})
    assert found.doubling.snr.db == pytest.approx(15)


def test_never_doubled_and_doubled_already_are_bounds():
    never = curve(WORDS, flat(0.1), {20: flat(0.1), 0: flat(0.19)}).doubling
    assert never.snr == never.low == never.high == Crossing(0.0, "<=")
    already = curve(WORDS, flat(0.1), {20: flat(0.21), 0: flat(0.9)}).doubling
    assert already.snr == already.low == already.high == Crossing(20.0, ">=")
    # Twice exactly at the ends of the grid is there, not beyond.
    assert curve([10], [1], {20: [2], 0: [5]}).doubling.snr == Crossing(20.0)
    assert curve([10], [1], {20: [1], 0: [2]}).doubling.snr == Crossing(0.0)


def test_nothing_has_no_double():
    found = curve(WORDS, flat(0), {20: flat(0), 0: flat(0.5)})
    assert found.doubling.snr is found.doubling.low is found.doubling.high is None
    assert found.doubling.clean_zero == 1
    assert found.area.rate == pytest.approx(0.25)


def test_draws_without_a_clean_error_count_with_their_limit():
    # One clean error in two utterances: a quarter of the draws never meets it. Their limit is the
    # lowest SNR without an error, 20 dB; draws with both errors double at 10 dB.
    found = curve([10, 10], [1, 0], {20: [0, 0], 10: [2, 2], 0: [4, 4]}, resamples=4000)
    assert found.doubling.clean_zero == pytest.approx(0.25, abs=0.03)
    assert found.doubling.high == Crossing(20.0)
    assert found.doubling.low == Crossing(10.0)


def test_the_interval_may_end_beyond_the_grid():
    rng = np.random.default_rng(1)
    clean, noisy = rng.binomial(10, 0.1, 60), rng.binomial(10, 0.19, 60)
    found = curve([10] * 60, clean, {20: clean, 0: noisy}).doubling
    assert found.low == Crossing(0.0, "<=")
    assert found.high.bound == "" and found.high.db > 0


def test_the_area_is_the_mean_over_the_range():
    found = curve(WORDS, flat(0.1), {20: flat(0.1), 10: flat(0.2), 0: flat(0.6)})
    assert found.area.rate == pytest.approx((10 * 0.15 + 10 * 0.4) / 20)
    assert (found.area.from_db, found.area.to_db) == (0, 20)
    uneven = curve(WORDS, flat(0.1), {20: flat(0.1), 5: flat(0.1), 0: flat(0.3)})
    assert uneven.area.rate == pytest.approx((15 * 0.1 + 5 * 0.2) / 20)
    assert curve(WORDS, flat(0.1), {10: flat(0.2)}).area is None


def test_the_same_utterances_are_drawn_under_every_condition():
    # Errors differ wildly between utterances, but noise doubles each one's at 10 dB exactly: only
    # joint draws know that.
    clean = np.arange(1, 21)
    found = curve(clean * 10, clean**2 % 7, {20: clean**2 % 7, 10: 2 * (clean**2 % 7)})
    assert found.points[0].high - found.points[0].low > 0.01
    for crossing in (found.doubling.low, found.doubling.snr, found.doubling.high):
        assert crossing.db == pytest.approx(10)


def test_speakers_are_drawn_first():
    rng = np.random.default_rng(2)
    speakers = [f"s{at // 20}" for at in range(240)]
    hard = np.repeat(np.tile([0.02, 0.1, 0.3, 0.5], 3), 20)
    errors = rng.binomial(10, hard)
    noisy = {10: errors * 2, 0: np.maximum(errors, rng.binomial(10, 0.5, 240))}
    by_speaker = curve([10] * 240, errors, noisy, speakers)
    at_once = curve([10] * 240, errors, noisy)
    for of in (lambda found: found.points[0], lambda found: found.area):
        width = [of(found).high - of(found).low for found in (by_speaker, at_once)]
        assert width[0] > 1.5 * width[1]
    assert (by_speaker.speakers, at_once.speakers) == (12, 0)
    # Of few people none are drawn, as for any WER.
    assert curve([10] * 240, errors, noisy, ["one"] * 240) == at_once


def test_a_seed_repeats():
    rng = np.random.default_rng(3)
    words = rng.integers(3, 15, 50)
    clean, noisy = rng.binomial(words, 0.1), {10: rng.binomial(words, 0.3)}
    noisy[20] = clean
    first = curve(words, clean, noisy, seed=5)
    assert first == curve(words, clean, noisy, seed=5)
    assert first != curve(words, clean, noisy, seed=6)


def test_one_utterance_leaves_everything_open():
    found = curve([10], [1], {20: [1], 0: [4]}).doubling
    assert found.snr.db == pytest.approx(20 - 20 / 3)
    assert (found.low, found.high) == (Crossing(0.0, "<="), Crossing(20.0, ">="))


@pytest.mark.parametrize(
    ("words", "clean", "noisy", "speakers"),
    [
        ([10, 10], [1], {0: [1, 1]}, ()),
        ([10], [1], {}, ()),
        ([0], [0], {0: [0]}, ()),
        ([10], [-1], {0: [1]}, ()),
        ([10], [float("nan")], {0: [1]}, ()),
        ([10], [1], {float("inf"): [1]}, ()),
        ([10, 10], [1, 1], {0: [1, 1]}, ["one"]),
    ],
)
def test_counts_that_do_not_fit_are_refused(words, clean, noisy, speakers):
    with pytest.raises(ValueError, match=r"needed|must be"):
        curve(words, clean, noisy, speakers)


@given(st.data())
def test_any_counts_give_a_curve_that_holds_together(data):
    size = data.draw(st.integers(1, 6))
    counts = st.lists(st.integers(0, 12), min_size=size, max_size=size)
    words = data.draw(st.lists(st.integers(1, 12), min_size=size, max_size=size))
    noisy = data.draw(st.dictionaries(st.integers(-10, 30), counts, min_size=1, max_size=4))
    found = curve(words, data.draw(counts), noisy, resamples=60)
    for point in found.points:
        assert point.low <= point.rate <= point.high
    doubling = found.doubling
    assert (doubling.snr is None) == (found.points[0].errors == 0)
    if doubling.snr:
        for crossing in (doubling.low, doubling.snr, doubling.high):
            assert min(noisy) <= crossing.db <= max(noisy)
        assert doubling.low.db <= doubling.high.db
        assert size > 1 or (doubling.low.bound, doubling.high.bound) == ("<=", ">=")
    if found.area:
        rates = [point.rate for point in found.points[1:]]
        assert min(rates) - 1e-9 <= found.area.rate <= max(rates) + 1e-9


def test_intervals_cover_the_truth_as_often_as_they_say():
    """300 corpora of 150 utterances whose true curve is known, of utterances easy and hard."""
    rng = np.random.default_rng(11)
    truth = {20.0: 0.11, 10.0: 0.16, 5.0: 0.26, 0.0: 0.48}
    doubled, area = 8.0, (10 * 0.135 + 5 * 0.21 + 5 * 0.37) / 20
    hits = np.zeros(3)
    for trial in range(300):
        words = rng.integers(3, 15, 150)
        # Mean 1, so that the pooled rates are the truth.
        hardness = rng.gamma(4, 1 / 4, 150)
        errors = {snr: rng.poisson(words * hardness * rate) for snr, rate in truth.items()}
        found = curve(words, rng.poisson(words * hardness * 0.1), errors, resamples=400, seed=trial)
        low, high = found.doubling.low, found.doubling.high
        hits += (
            found.points[2].low <= 0.16 <= found.points[2].high,
            (low.bound == "<=" or low.db <= doubled) and (high.bound == ">=" or doubled <= high.db),
            found.area.low <= area <= found.area.high,
        )
    # 95 % of 300 has a standard error of 1.3 points.
    assert ((hits / 300 >= 0.91) & (hits / 300 <= 0.985)).all(), hits / 300
