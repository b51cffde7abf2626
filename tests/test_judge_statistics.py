"""Percentiles, their intervals and summaries: known right answers and properties."""

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from judge_helpers import make_run

from vozmetro.judge.stationarity import autocorrelation, residuals, stability
from vozmetro.judge.statistics import (
    Interval,
    order_statistic_ranks,
    percentile,
    samples_to_resolve,
    summarize,
    summarize_run,
)

latencies = st.lists(
    st.floats(0.1, 1e4, allow_nan=False, allow_infinity=False), min_size=1, max_size=120
)


def binomial_mass(n, p):
    return [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]


@pytest.mark.parametrize(("n", "p"), list(product((1, 5, 6, 7, 20, 57), (0.5, 0.9, 0.99))))
def test_ranks_have_the_exact_binomial_coverage_and_are_the_narrowest(n, p):
    mass = binomial_mass(n, p)
    low, high = order_statistic_ranks(n, p)
    # P(X_(l) > percentile) = P(fewer than l samples below it).
    if low is not None:
        assert sum(mass[:low]) <= 0.025 < sum(mass[: low + 1])
    else:
        assert mass[0] > 0.025
    if high is not None:
        assert sum(mass[high:]) <= 0.025 < sum(mass[high - 1 :])
    else:
        assert mass[n] > 0.025


def test_known_ranks_of_the_median():
    # Tables of distribution-free intervals: n = 20 gives X(6), X(15) with 95.9 %.
    assert order_statistic_ranks(20, 0.5) == (6, 15)
    assert order_statistic_ranks(6, 0.5) == (1, 6)
    assert order_statistic_ranks(5, 0.5) == (None, None)
    assert order_statistic_ranks(0, 0.5) == (None, None)


@pytest.mark.parametrize(("p", "n"), [(0.5, 6), (0.9, 36), (0.99, 368)])
def test_n_that_resolves_both_sides(p, n):
    assert samples_to_resolve(p) == n
    assert None not in order_statistic_ranks(n, p)
    assert None in order_statistic_ranks(n - 1, p)


def test_p99_of_twenty_samples_is_not_resolvable():
    p99 = summarize([100.0 + i % 7 for i in range(20)]).p99
    assert not p99.resolved
    assert p99.high is None
    assert p99.n_needed == 368


def test_interval_of_no_samples():
    empty = percentile(np.array([]), 0.5)
    assert math.isnan(empty.value)
    assert not empty.resolved
    assert Interval(1.0, 0.5, 2.0).resolved


@example(ms=[1.0, 2.0], p=0.99, tau=1.0, sequential=False)
@given(latencies, st.sampled_from([0.5, 0.9, 0.99]), st.floats(1, 9), st.booleans())
def test_interval_contains_the_sample_percentile(ms, p, tau, sequential):
    found = percentile(np.array(ms), p, tau, sequential=sequential)
    inside = np.clip(np.quantile(ms, p), found.low, found.high)
    assert found.value == pytest.approx(float(inside))
    assert found.low is None or found.low <= found.value * (1 + 1e-12)
    assert found.high is None or found.high >= found.value * (1 - 1e-12)
    assert found.resolved == (found.n_needed is None)


@given(latencies, st.randoms(use_true_random=False), st.booleans())
def test_plain_interval_does_not_depend_on_the_order(ms, random, sequential):
    shuffled = list(ms)
    random.shuffle(shuffled)
    before = percentile(np.array(ms), 0.9, sequential=sequential)
    assert percentile(np.array(shuffled), 0.9, sequential=sequential) == before


@given(latencies, st.floats(0.01, 100))
@settings(max_examples=50)
def test_summary_scales_with_the_unit(ms, factor):
    plain, scaled = summarize(ms), summarize([value * factor for value in ms])
    # Rounding may turn an autocorrelation that sits on its threshold; nothing else may change.
    if math.isclose(plain.n_effective, scaled.n_effective, rel_tol=1e-6):
        for name in ("p50", "p90", "p99"):
            a, b = getattr(plain, name), getattr(scaled, name)
            assert b.value == pytest.approx(a.value * factor)
            assert (a.low is None) == (b.low is None)
            assert a.low is None or b.low == pytest.approx(a.low * factor)
    if plain.left_out == scaled.left_out:
        assert scaled.mean == pytest.approx(plain.mean * factor)
        assert scaled.throughput == pytest.approx(plain.throughput / factor)


def test_summary_of_known_numbers():
    summary = summarize([10.0, 30.0, 20.0, 40.0])
    assert (summary.n, summary.mean, summary.min, summary.max) == (4, 25.0, 10.0, 40.0)
    assert summary.sd == pytest.approx(12.909944)
    assert summary.p50.value == 25.0
    assert summary.throughput == 40.0
    assert summarize([5.0]).sd == 0.0
    assert math.isnan(summarize([]).mean)


def test_groups_do_not_pass_for_autocorrelation():
    rng = np.random.default_rng(4)
    # Ten of a short utterance, then ten of a long one, and so on.
    groups = [("short", "long")[(i // 10) % 2] for i in range(200)]
    ms = [{"short": 50.0, "long": 500.0}[g] * math.exp(0.02 * rng.normal()) for g in groups]
    assert summarize(ms).n_effective < 60
    assert summarize(ms, groups).n_effective > 120


@pytest.mark.parametrize("phi", [0.6, 0.8])
def test_autocorrelation_of_an_ar1_series(phi):
    rng = np.random.default_rng(2)
    noise = rng.normal(size=(200, 800))
    series = np.empty_like(noise)
    series[:, 0] = noise[:, 0]
    for i in range(1, noise.shape[1]):
        series[:, i] = phi * series[:, i - 1] + math.sqrt(1 - phi**2) * noise[:, i]
    rho, tau = autocorrelation(series)
    assert np.median(rho) == pytest.approx(phi, abs=0.02)
    assert np.median(tau) == pytest.approx((1 + phi) / (1 - phi), rel=0.15)


def test_autocorrelation_of_independent_and_of_identical_samples():
    _, tau = autocorrelation(np.random.default_rng(3).normal(size=(500, 400)))
    assert np.mean(tau) < 1.15
    rho, tau = autocorrelation(np.zeros((1, 50)))
    assert (rho[0], tau[0]) == (0.0, 1.0)
    assert autocorrelation(np.ones((1, 2)))[1][0] == 1.0


def test_a_ramp_is_left_out_and_a_level_run_is_not():
    rng = np.random.default_rng(5)
    level = 200 * np.exp(0.05 * rng.normal(size=(200, 60, 5)))
    ramp = np.minimum(1, 0.85 + 0.15 * np.arange(300) / 60).reshape(60, 5)
    assert np.mean(stability(level).start > 0) < 0.1
    how = stability(level * ramp)
    assert np.mean(how.start > 0) > 0.99
    # The ramp takes 12 of the 60 rounds and starts 16 % low.
    assert 8 <= np.median(how.start) <= 24
    assert np.all(how.change[how.start > 0] < 0)
    summary = summarize((level[0] * ramp).ravel())
    assert summary.left_out > 0
    assert summary.n + summary.left_out == 300


def test_residuals_follow_the_order_taken():
    logs = np.log(np.array([[[1.0, 10.0], [2.0, 20.0], [4.0, 40.0]]]))
    order = np.array([[1, 0], [0, 1], [1, 0]])
    taken = residuals(logs, order)[0]
    assert taken == pytest.approx([-math.log(2)] * 2 + [0, 0] + [math.log(2)] * 2)


def test_run_summary_of_known_numbers():
    run = make_run(
        {"short": (0.5, 100.0), "long": (2.0, 200.0)}, rounds=12, parts={"stt": 0.75}, sessions=2
    )
    summary = summarize_run(run)
    assert list(summary.per_item) == ["short", "long"]
    assert summary.per_item["short"].p50.value == pytest.approx(100, rel=0.05)
    assert summary.p50_mean == pytest.approx(150, rel=0.05)
    assert summary.lengths_s == (0.5, 2.0)
    assert summary.rtf == pytest.approx(0.15, rel=0.35)
    assert summary.parts_p50["stt"] == pytest.approx(0.75 * summary.overall.p50.value, rel=0.01)
    assert (summary.load_ms, summary.first_ms, summary.warmup_ms) == (1000.0, 500.0, 220.0)
    assert (summary.warmup_runs, summary.warmup_sufficient) == (2, True)
    assert summary.peak_rss == 700_000_000
    assert summary.cpu_cores == pytest.approx(2.0)
    assert summary.idle_ms is None


def test_summary_leaves_the_incomplete_round_out():
    run = make_run({"a": (1.0, 100.0), "b": (1.0, 100.0)}, rounds=10)
    cut = run.model_copy(update={"samples": run.samples[:-1]})
    assert summarize_run(cut).overall.n == 18
    only_one = run.model_copy(update={"samples": run.samples[:1]})
    assert summarize_run(only_one).overall.n == 1
    nothing = run.model_copy(update={"samples": [], "sessions": []})
    assert math.isnan(summarize_run(nothing).overall.p50.value)
    assert math.isnan(summarize_run(nothing).load_ms)


def test_sequential_runs_get_the_wider_interval():
    one = make_run({"a": (1.0, 100.0)}, rounds=100)
    fixed = one.model_copy(
        update={"settings": one.settings.model_copy(update={"until": "iterations"})}
    )
    wide, narrow = summarize_run(one).overall.p50, summarize_run(fixed).overall.p50
    assert wide.low < narrow.low < narrow.high < wide.high
    assert summarize_run(one).overall.p99.n_needed == 410
