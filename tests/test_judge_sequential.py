"""The sequential verdict: the issue's numbers, properties, and a small simulation."""

import math
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from judge_helpers import make_run

from vozmetro.judge.budget import Budget
from vozmetro.judge.decision import judge
from vozmetro.judge.sequential import (
    Evidence,
    decided,
    first_look,
    log_e_value,
    next_look,
    runs_needed,
    sequential_ranks,
    weigh,
    weigh_throughput,
)
from vozmetro.judge.stationarity import Stability, stability
from vozmetro.judge.statistics import samples_to_decide

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import itertools

import verdicts

NEED = math.log(20)


def plain(runs=1, tau=1.0):
    """The stability of runs that are level from the first round on."""
    zero = np.zeros(runs)
    return Stability(zero.astype(int), zero.astype(bool), zero, zero, np.full(runs, tau))


@pytest.mark.parametrize(("p", "n"), [(0.5, 7), (0.9, 40), (0.99, 410)])
def test_no_overrun_passes_at_the_issues_n(p, n):
    assert log_e_value(0, n, 1 - p) >= NEED
    assert log_e_value(0, n - 1, 1 - p) < NEED
    assert samples_to_decide(p) == n
    ms = np.full((1, n, 1), 100.0)
    assert weigh(ms, 240.0, 1 - p, plain()).status(0.05)[0] == 1
    assert weigh(ms[:, 1:], 240.0, 1 - p, plain()).status(0.05)[0] == 0


def test_dependence_does_not_hide_a_limit_far_beyond_the_range():
    # Each value five times in a row, as a slow drift of the machine gives them.
    ms = np.repeat([600.0, 640.0, 580.0, 620.0, 610.0, 590.0], 5)
    assert judge(list(ms), Budget()).check("p50").status == "fail"
    near = Budget(p50_ms=570.0, slow_ms=2000.0)
    assert judge(list(ms), near).check("p50").status == "undecided"


def test_e_value_is_the_issues_formula():
    def beta(x, y):
        return math.gamma(x) * math.gamma(y) / math.gamma(x + y)

    k, n, q0 = 3, 17, 0.1
    a, b = 0.5, 0.5 * 0.9 / 0.1
    expected = (beta(a + k, b + n - k) / beta(a, b)) / (q0**k * (1 - q0) ** (n - k))
    assert math.exp(log_e_value(k, n, q0)) == pytest.approx(expected)


@given(st.integers(0, 60), st.sampled_from([0.5, 0.1, 0.01]))
def test_e_value_has_mean_one_under_the_null(n, q0):
    mass = [math.comb(n, k) * q0**k * (1 - q0) ** (n - k) for k in range(n + 1)]
    e = np.exp(log_e_value(np.arange(n + 1.0), n, q0))
    assert np.all(e >= 0)
    assert float(np.dot(mass, e)) == pytest.approx(1)


@given(st.lists(st.floats(0.02, 0.98), min_size=2, max_size=6), st.integers(0, 5))
def test_a_round_of_unlike_items_does_not_inflate_the_e_value(shares, before):
    # Poisson-binomial round after `before` overruns of 10: E may not grow on average.
    q0 = float(np.mean(shares))
    mass = np.ones(1)
    for share in shares:
        mass = np.convolve(mass, [1 - share, share])
    now = np.exp(log_e_value(float(before), 10.0, q0))
    after = np.exp(log_e_value(before + np.arange(len(mass)), 10.0 + len(shares), q0))
    assert float(mass @ after) <= now * (1 + 1e-9)


@given(st.integers(1, 500), st.sampled_from([0.5, 0.1, 0.01]))
def test_e_value_grows_with_overruns_past_q0_and_falls_before(n, q0):
    log_e = log_e_value(np.arange(n + 1.0), n, q0)
    k = np.arange(n + 1)
    assert np.all(np.diff(log_e[k >= n * q0]) > 0)
    assert np.all(np.diff(log_e[k <= n * q0]) < 0)


@given(st.integers(2, 300), st.integers(0, 2**31))
def test_the_sequential_interval_holds_what_the_test_does_not_reject(n, seed):
    ms = np.sort(np.random.default_rng(seed).lognormal(size=n))
    low, high = sequential_ranks(n, 1.0, 0.5)
    for limit in np.concatenate([ms[:3], ms[n // 2 : n // 2 + 3], ms[-3:]]) * 1.0000001:
        kept = weigh(ms[np.newaxis, :, np.newaxis], limit, 0.5, plain()).log_e[0] < NEED
        inside = (low is None or ms[low - 1] < limit) and (high is None or ms[high - 1] >= limit)
        assert kept == inside


def test_a_sample_on_the_limit_is_over_it():
    at = np.full((1, 30, 1), 240.0)
    assert weigh(at, 240.0, 0.5, plain()).status(0.05)[0] == -1


def test_autocorrelated_samples_count_for_less():
    ms = np.full((1, 12, 1), 100.0)
    assert weigh(ms, 240.0, 0.5, plain(tau=1.0)).status(0.05)[0] == 1
    evidence = weigh(ms, 240.0, 0.5, plain(tau=2.0))
    assert evidence.used[0] == 6
    assert evidence.status(0.05)[0] == 0


def test_a_drifting_run_with_the_limit_between_its_halves_stays_undecided():
    ms = np.concatenate([np.full(50, 100.0), np.full(10, 300.0)])[np.newaxis, :, np.newaxis]
    level = plain()
    assert weigh(ms, 240.0, 0.5, level).status(0.05)[0] == 1
    ramp = np.linspace(150, 300, 60)[np.newaxis, :, np.newaxis]
    moving = Stability(level.start, np.array([True]), level.change, level.rho, level.tau)
    evidence = weigh(ramp, 200.0, 0.5, moving)
    assert evidence.held[0]
    assert evidence.status(0.05)[0] == 0
    assert weigh(ramp, 400.0, 0.5, moving).status(0.05)[0] == 1


def evidence_of(k, n, q0=0.5):
    return Evidence(
        log_e_value(np.array([float(k)]), float(n), q0),
        np.array([k / n]),
        np.array([float(n)]),
        np.array([False]),
        q0,
    )


def test_runs_needed():
    assert runs_needed(evidence_of(0, 100, 0.01), 1.0, 1, 0.05) == 310
    assert runs_needed(evidence_of(0, 4), 1.0, 1, 0.05) == 3
    assert runs_needed(evidence_of(0, 4), 1.0, 5, 0.05) == 5
    assert runs_needed(evidence_of(0, 2), 2.0, 1, 0.05) == 10
    assert runs_needed(evidence_of(50, 100), 1.0, 1, 0.05) is None
    assert runs_needed(evidence_of(1, 100, 1 - 0.99), 1.0, 1, 0.05) is None
    assert runs_needed(evidence_of(0, 100), 1.0, 1, 0.05) is None
    assert runs_needed(evidence_of(499_999, 999_999), 1.0, 1, 0.05) is None
    forty = runs_needed(evidence_of(40, 100), 1.0, 1, 0.05)
    assert forty is not None
    n = 100 + forty
    assert log_e_value(0.4 * n, n, 0.5) >= NEED > log_e_value(0.4 * (n - 1), n - 1, 0.5)


def test_throughput_is_the_median_rounds_rate():
    ms = np.tile([[100.0, 300.0]], (30, 1))  # 2 inferences in 0.4 s: 5 per second.
    assert weigh_throughput(ms, 4.9)[0].status(0.05)[0] == 1
    assert weigh_throughput(ms, 5.1)[0].status(0.05)[0] == -1


def test_looks_are_geometric():
    assert [first_look(20, items) for items in (1, 5, 10)] == [100, 20, 20]
    looks = [7]
    while looks[-1] < 2000:
        looks.append(next_look(looks[-1]))
    assert looks[:4] == [7, 8, 9, 10]
    assert len(looks) < 65
    assert all(b <= max(a + 1, 1.1 * a + 1) for a, b in itertools.pairwise(looks))


def test_decided_stops_for_the_gating_limits_only():
    fast = make_run({"a": (1.0, 100.0), "b": (2.0, 150.0)}, rounds=40)
    assert decided(fast, Budget())
    # 80 samples cannot settle a P99, but it does not gate unless asked to.
    assert not decided(fast, Budget(gates=("p50", "p99", "ram")))
    assert decided(fast, Budget(gates=("throughput",)))
    assert decided(fast, Budget(gates=("ram",)))
    close = make_run({"a": (1.0, 240.0)}, rounds=40, sd=0.1)
    assert not decided(close, Budget())
    assert not decided(fast.model_copy(update={"samples": []}), Budget())


def test_decided_is_cheap():
    run = make_run({str(i): (1.0, 100.0) for i in range(5)}, rounds=400)
    decided(run, Budget())
    times = []
    for _ in range(7):
        began = time.perf_counter()
        decided(run, Budget(gates=("p50", "p90", "p99", "throughput", "ram")))
        times.append(time.perf_counter() - began)
    # 5 ms are meant; a busy machine may take longer, a quadratic loop takes seconds.
    assert min(times) < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("process", verdicts.PROCESSES)
@pytest.mark.parametrize(("lengths", "first"), [(verdicts.LENGTHS, 20), ((1.0,), 100)])
def test_simulated_verdicts_and_intervals_hold(process, lengths, first):
    # benchmarks/verdicts.py in small. With 400 runs, 5 % is exceeded by 3.3 points, and 94 % is
    # missed by 3.6 points, about once in a thousand such tests.
    setting = verdicts.Setting(process, verdicts.RATIOS, lengths, first, 400 // len(lengths), True)
    found = verdicts.simulate(setting, 400, seed=7)
    for case, ratio in enumerate(setting.ratios):
        status = found.status[case]
        assert np.mean((status != 0) & (status != np.sign(1 - ratio))) <= 0.083
        assert found.held_fixed[case].mean() >= 0.904
        assert found.held_stop[case].mean() >= 0.904
    # Far from the limit the verdict comes with the guide's own hundred samples, or soon after.
    assert np.all(found.status[0] == 1) or process.startswith("AR")
    assert np.mean(found.status[-1] == -1) > 0.3


def test_simulated_truth_is_the_settled_median():
    for process in verdicts.PROCESSES:
        lengths = np.array(verdicts.LENGTHS)
        noise = verdicts.log_noise(process, np.random.default_rng(0), 200, 1000)[:, 500:]
        ms = np.exp(noise.reshape(200, 100, 5)) * lengths
        assert np.median(ms) == pytest.approx(verdicts.true_median(process, lengths), rel=0.01)


def test_stability_of_a_batch_is_that_of_each_run():
    rng = np.random.default_rng(0)
    ms = 200 * np.exp(0.1 * rng.normal(size=(6, 40, 3)))
    ms[3:] *= np.minimum(1, 0.8 + 0.01 * np.arange(40))[:, np.newaxis]
    together = stability(ms)
    for index in range(6):
        alone = stability(ms[index : index + 1])
        assert together.start[index] == alone.start[0]
        assert together.tau[index] == pytest.approx(alone.tau[0])
        assert together.change[index] == pytest.approx(alone.change[0])
