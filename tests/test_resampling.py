"""Intervals of pooled rates: peers, hand-worked examples, and how often they hold the truth."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from vozmetro.resampling import Difference, exact_ends, holm, rate, rate_difference

Counts = NDArray[np.int64]


def counts(seed: int, n: int = 300) -> tuple[Counts, Counts, Counts]:
    """Words, and errors of two systems that share what makes an utterance hard."""
    random = np.random.default_rng(seed)
    words = random.integers(3, 20, n)
    hard = random.beta(2, 8, n)
    return words, random.binomial(words, hard), random.binomial(words, hard)


def test_two_utterances_by_hand() -> None:
    # Drawn are both (half of the draws: 3/20) or one twice (a quarter each: 2/20 and 4/20).
    found = rate([1, 2], [10, 10], resamples=4000)
    assert found.value == pytest.approx(0.15)
    assert found.n == 2
    assert found.speakers == 0
    # Clopper and Pearson's interval of 3 in 20 is wider than those draws (tables: 3.2 %, 37.9 %).
    assert (found.low, found.high) == pytest.approx((0.0321, 0.3789), abs=1e-4)


def test_no_errors_still_leave_an_interval() -> None:
    # The rule of three, exactly: 1 - 0.025 ** (1 / 100).
    found = rate([0] * 10, [10] * 10)
    assert found.low == 0
    assert found.high == pytest.approx(1 - 0.025 ** (1 / 100))
    assert exact_ends(100, 100)[1] == 1


def test_rate_agrees_with_scipy() -> None:
    from scipy.stats import bootstrap

    words, errors, _ = counts(1)
    found = rate(errors, words)
    theirs = bootstrap(
        (errors, words),
        lambda e, w, axis: e.sum(axis=axis) / w.sum(axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=5000,
        method="percentile",
        rng=np.random.default_rng(3),
    ).confidence_interval
    assert found.value == errors.sum() / words.sum()
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=0.002)


def test_rate_and_difference_agree_with_kaldialign() -> None:
    import kaldialign

    random = np.random.default_rng(5)
    said = [[f"w{i}" for i in random.integers(0, 50, 8)] for _ in range(200)]

    def misheard(share: float) -> list[list[str]]:
        return [["x" if random.random() < share else word for word in one] for one in said]

    a, b = misheard(0.1), misheard(0.2)
    wrong = [
        [kaldialign.edit_distance(r, h)["total"] for r, h in zip(said, heard, strict=True)]
        for heard in (a, b)
    ]
    words = [8] * len(said)
    single = kaldialign.bootstrap_wer_ci(said, a)
    found = rate(wrong[0], words)
    middle, half = single["wer"], single["ci95"]
    assert found.value == pytest.approx(middle, abs=0.002)
    assert (found.low, found.high) == pytest.approx((middle - half, middle + half), abs=0.006)
    paired = kaldialign.bootstrap_wer_ci(said, a, b)
    change = rate_difference(wrong[0], wrong[1], words)
    assert change.value == pytest.approx(
        paired["system2"]["wer"] - paired["system1"]["wer"], abs=0.006
    )
    assert change.p < 0.01
    assert paired["p_s2_improv_over_s1"] < 0.01  # Its share of draws in which B is better.


def test_difference_is_paired() -> None:
    words, errors, _ = counts(2)
    # One error more in every tenth utterance: certain, although both intervals overlap.
    worse = errors + (np.arange(len(errors)) % 10 == 0)
    change = rate_difference(errors, worse, words)
    assert change.low > 0
    assert change.p < 0.01
    assert rate(worse, words).low < rate(errors, words).high
    back = rate_difference(worse, errors, words)
    assert (back.value, back.low, back.high) == pytest.approx(
        (-change.value, -change.high, -change.low)
    )


def test_the_same_is_no_difference() -> None:
    words, errors, _ = counts(3)
    same = rate_difference(errors, errors, words)
    assert (same.value, same.p) == (0, 1)
    assert same.low < 0 < same.high


def test_speakers_widen_what_they_share() -> None:
    random = np.random.default_rng(6)
    hard = random.beta(1, 6, 20)
    words = np.full(400, 10)
    errors = random.binomial(words, np.repeat(hard, 20))
    people = [f"p{index // 20}" for index in range(400)]
    known, unknown = rate(errors, words, people), rate(errors, words)
    assert known.speakers == 20
    assert known.high - known.low > 1.5 * (unknown.high - unknown.low)
    # Too few people, or some unknown: utterances are drawn.
    assert rate(errors, words, ["a", "b"] * 200).speakers == 0
    assert rate(errors, words, ["", *people[1:]]).speakers == 0


def test_the_same_counts_give_the_same_interval() -> None:
    words, errors, _ = counts(7)
    assert rate(errors, words) == rate(errors, words)
    assert rate(errors, words, seed=1) != rate(errors, words, seed=2)


def test_bad_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="no words"):
        rate([0], [0])
    with pytest.raises(ValueError):
        rate([1, 2], [3])
    with pytest.raises(ValueError, match="speakers"):
        rate([1] * 20, [3] * 20, [str(index) for index in range(10)])


def test_holm_by_hand() -> None:
    # .01 * 4; .02 * 3; .03 * 2, not under the one before; .04, likewise.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize("people", [0, 15])
def test_intervals_hold_the_truth_as_often_as_they_say(people: int) -> None:
    random = np.random.default_rng(11)
    held, trials = 0, 400
    for _ in range(trials):
        words = random.integers(4, 16, 150)
        # Beta(2, 8) has mean 0.2: that is the truth for words that do not depend on it.
        hard = random.beta(2, 8, people or 150)
        each = hard[np.arange(150) % people] if people else hard
        speakers = [str(index % people) for index in range(150)] if people else []
        found = rate(random.binomial(words, each), words, speakers, resamples=600)
        assert found.speakers == people
        held += found.low <= 0.2 <= found.high
    # Nominal 95 %; three standard errors of 400 trials are 3.3 points.
    assert 0.917 <= held / trials <= 0.985


def test_equals_are_seldom_told_apart() -> None:
    wins, trials = 0, 400
    for seed in range(trials):
        words, a, b = counts(seed, 100)
        found: Difference = rate_difference(a, b, words, resamples=600)
        wins += found.p <= 0.05 and not found.low <= 0 <= found.high
    # 5 % at most, and three standard errors of 400 trials.
    assert wins / trials <= 0.05 + 0.033
    assert wins > 0
