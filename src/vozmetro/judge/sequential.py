"""Verdicts that stay honest however often one looks.

For a limit on the percentile p, each sample at or over the limit counts as an overrun. If the
percentile lay exactly on the limit, overruns would come with probability q0 = 1 - p. The evidence
against that is a mixture of likelihood ratios over all other probabilities, weighted by
Beta(a, b) with a = 1/2 and b = a (1 - q0) / q0, whose mean is q0:

    E = [B(a + k, b + n - k) / B(a, b)] / [q0^k (1 - q0)^(n - k)]

E is a test martingale under the null, so by Ville's inequality it ever reaches 1/alpha with
probability alpha at most, at whatever moments one looks: stopping early is free. See J. Ville,
"Etude critique de la notion de collectif", 1939; H. Robbins, "Statistical methods related to the
law of the iterated logarithm", Ann. Math. Stat. 41(5), 1970.

A round of M items with overrun probabilities p_1..p_M is not M draws with the same probability.
Looking only at the ends of complete rounds keeps the test valid: for any alternative theta the
round multiplies E by a product of factors, each affine and positive in its p_i, so the log of the
expected product is concave in (p_1..p_M) and is largest where all p_i are equal, which is the
binomial case and gives 1. (The number of overruns is less dispersed than a binomial one:
W. Hoeffding, "On the distribution of the number of successes in independent trials", Ann. Math.
Stat. 27(3), 1956.) So rounds of unlike items make the test cautious, not wrong.

Two things are outside that proof: n and k are divided by the estimated cost tau of an independent
sample, and a drifting early part is left out. How well this holds is measured, not proved, in
`benchmarks/verdicts.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import betaln

from vozmetro.judge.budget import PERCENTILES, Budget
from vozmetro.judge.rounds import rounds_of
from vozmetro.judge.stationarity import (
    MIN_FOR_DRIFT,
    MIN_TO_CHECK,
    Bools,
    Floats,
    Ints,
    Stability,
    stability,
)
from vozmetro.measure.records import Run

FURTHEST = 1_000_000
"""More samples than this are not worth a forecast."""


def log_e_value(over: Floats | float, n: Floats | float, q0: float) -> Floats:
    """Returns the natural log of the e-value of the module's docstring.

    Args:
        over: Overruns k, of any shape; fractions arise from autocorrelated samples.
        n: Samples, broadcast with `over`.
        q0: Probability of an overrun where the percentile lies on the limit.
    """
    k, total = np.asarray(over, float), np.asarray(n, float)
    a = 0.5
    b = a * (1 - q0) / q0
    mixture = betaln(a + k, b + total - k) - betaln(a, b)
    null = k * math.log(q0) + (total - k) * math.log1p(-q0)
    return np.asarray(mixture - null, float)


@dataclass(frozen=True)
class Evidence:
    """What the samples say about one limit, for each run of a batch.

    Attributes:
        log_e: Natural log of the e-value, shape [B].
        share: Share of overruns, shape [B]; q0 where there are no samples.
        used: Effective samples, shape [B].
        held: The run still drifts and the limit lies between its halves, shape [B].
        q0: Share of overruns where the percentile lies on the limit.
    """

    log_e: Floats
    share: Floats
    used: Floats
    held: Bools
    q0: float

    def status(self, alpha: float) -> Ints:
        """Returns 1 for pass, -1 for fail, 0 for undecided, shape [B]."""
        decided = (self.log_e >= -math.log(alpha)) & ~self.held
        return np.where(decided, np.sign(self.q0 - self.share), 0).astype(np.int64)


def weigh(ms: Floats, limit: float, q0: float, how: Stability) -> Evidence:
    """Weighs a limit against the settled part of each run of a batch.

    Args:
        ms: Latencies by round and item, shape [B, R, M].
        limit: In ms; a sample at the limit is over it.
        q0: Share of overruns where the percentile lies on the limit.
        how: Where the settled part begins, and what its samples are worth.
    """
    batch, rounds, items = ms.shape
    counts = np.zeros((batch, rounds + 1), np.int64)
    np.cumsum((ms >= limit).sum(axis=2), axis=1, out=counts[:, 1:])
    rows = np.arange(batch)
    middle = (how.start + rounds) // 2
    first = counts[rows, middle] - counts[rows, how.start]
    second = counts[:, -1] - counts[rows, middle]
    over, n = first + second, (rounds - how.start) * items
    n_first = np.maximum((middle - how.start) * items, 1)
    n_second = np.maximum((rounds - middle) * items, 1)
    held = how.drifting & ((first / n_first < q0) != (second / n_second < q0))
    share = np.where(n > 0, over / np.maximum(n, 1), q0)
    # Where the limit lies farther off than the whole range that was seen, dependence between the
    # samples could not have hidden the other side of it: each then counts in full.
    low, high = ms.min(axis=(1, 2), initial=np.inf), ms.max(axis=(1, 2), initial=0.0)
    far = (n >= MIN_FOR_DRIFT) & ((low * low > limit * high) | (high * high < limit * low))
    used = n / np.where(far, 1.0, how.tau)
    return Evidence(log_e_value(share * used, used, q0), share, used, held, q0)


def sequential_ranks(
    n: int, tau: float, p: float, alpha: float = 0.05
) -> tuple[int | None, int | None]:
    """Returns the ranks of the order statistics between which the percentile p lies.

    The limits that the e-value would not reject: unlike a fixed-n interval, it keeps its coverage
    when the run was stopped because of what it showed, and it holds the limit exactly while the
    verdict is open.

    Args:
        n: Samples.
        tau: Samples that one independent sample costs.
        p: Probability of the percentile.
        alpha: 1 - confidence.

    Returns:
        1-based ranks among n; None where the samples do not reach that far.
    """
    over = np.arange(n + 1)
    kept = np.flatnonzero(log_e_value(over / tau, n / tau, 1 - p) < -math.log(alpha))
    low, high = n - int(kept[-1]), n - int(kept[0]) + 1
    return (low if low >= 1 else None), (high if high <= n else None)


def runs_needed(evidence: Evidence, tau: float, items: int, alpha: float) -> int | None:
    """Projects how many more samples decide the first run of `evidence` if its share stays.

    Args:
        evidence: Of a batch whose first run is projected.
        tau: Samples that one independent sample costs.
        items: The forecast is rounded up to whole rounds of this many.
        alpha: Error probability of the verdict.

    Returns:
        More samples; None where it is decided, held by drift, or not foreseeable because the
        share lies on q0 or so near that it would take over a million.
    """
    share, used = float(evidence.share[0]), float(evidence.used[0])
    need = -math.log(alpha)
    on_limit = math.isclose(share, evidence.q0, rel_tol=1e-9)
    if used == 0 or on_limit or evidence.log_e[0] >= need:
        return None

    def enough(n: float) -> bool:
        return bool(log_e_value(share * n, n, evidence.q0) >= need)

    low, high = used, used
    while not enough(high):
        low, high = high, 2 * high
        if high > FURTHEST:
            return None
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    rounds = math.ceil((high - used) * tau / items - 1e-3)
    return max(1, rounds) * items


def first_look(iterations: int, items: int) -> int:
    """Returns the number of rounds at which a loop that ends when decided should look first.

    Below MIN_TO_CHECK samples neither dependence nor an early drift is caught well, and verdicts
    on such runs are wrong more often than alpha says: see the last tables of
    `benchmarks/verdicts.py`.

    Args:
        iterations: Least number of rounds that the user asked for.
        items: Items of a round.
    """
    return max(iterations, math.ceil(MIN_TO_CHECK / items))


def next_look(rounds: int) -> int:
    """Returns the number of rounds at which to look next: a tenth more, at least one more."""
    return max(rounds + 1, -(-rounds * 11 // 10))


def decided(run: Run, budget: Budget) -> bool:
    """Whether every gating limit is decided, so that the measuring loop may stop.

    RAM is a number, not a sample: it is always decided. Takes a few milliseconds for 2,000 samples.
    """
    rounds = rounds_of(run)
    ms, order = rounds.ms, rounds.order
    if not ms.size:
        return False
    metrics = [metric for metric in budget.gates if metric != "ram"]
    latency = [metric for metric in metrics if metric in PERCENTILES]
    if latency:
        how = stability(ms[np.newaxis], order)
        for metric in latency:
            q0 = 1 - PERCENTILES[metric]
            evidence = weigh(ms[np.newaxis], budget.limit(metric), q0, how)
            if evidence.status(budget.alpha)[0] == 0:
                return False
    if "throughput" in metrics:
        evidence, _ = weigh_throughput(ms, budget.throughput)
        return bool(evidence.status(budget.alpha)[0] != 0)
    return True


def weigh_throughput(ms: Floats, limit: float) -> tuple[Evidence, Stability]:
    """Weighs the rate of the median round against a limit in inferences per second.

    A round of M items that takes s seconds has the rate M / s, which is below the limit exactly
    where s is over M / limit: the test of a median, on the durations of rounds.

    Args:
        ms: Latencies, shape [R, M].
        limit: Inferences per second.
    """
    rounds = ms.sum(axis=1)[np.newaxis, :, np.newaxis]
    how = stability(rounds)
    return weigh(rounds, 1000 * ms.shape[1] / limit, 0.5, how), how
