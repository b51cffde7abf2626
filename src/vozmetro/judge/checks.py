"""One limit, one state: the tests behind a decision."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from vozmetro.judge.budget import PERCENTILES, Budget
from vozmetro.judge.sequential import Evidence, runs_needed, weigh, weigh_throughput
from vozmetro.judge.stationarity import Floats, Stability, autocorrelation, residuals
from vozmetro.judge.statistics import Interval, percentile, waits_only
from vozmetro.measure.quality_records import Figure
from vozmetro.measure.records import Kind, Run

Status = Literal["pass", "fail", "undecided"]
Scenario = Literal["A", "B", "C"]

_LISTENS: tuple[Kind, ...] = ("stt", "cascade")
_SPEAKS: tuple[Kind, ...] = ("tts", "cascade")
_WORDS: dict[int, Status] = {1: "pass", 0: "undecided", -1: "fail"}


@dataclass(frozen=True)
class Check:
    """One limit and its state.

    Attributes:
        metric: One of METRICS or QUALITY_METRICS.
        limit: In the metric's unit: ms, inferences per second, bytes, a fraction (WER), dB or MOS.
        value: Estimate in the same unit; NaN where nothing was measured.
        low: Lower end of its interval; None where not resolved or not applicable. The interval
            holds the limit exactly while the test is open (drift apart).
        high: Upper end of its interval; None where not resolved or not applicable.
        status: Of this limit alone.
        gates: Whether it counts for the overall verdict.
        e_value: Evidence against the percentile lying on the limit; None for RAM and quality.
        runs_used: Effective samples that the test used; of quality, utterances or ratings.
        runs_needed: Further runs that would settle it; None if settled or not foreseeable.
    """

    metric: str
    limit: float
    value: float
    low: float | None
    high: float | None
    status: Status
    gates: bool
    e_value: float | None
    runs_used: float
    runs_needed: int | None


def check_percentile(
    ms: Floats, how: Stability, budget: Budget, metric: str, limit: float
) -> Check:
    """Tests a latency percentile of the mix of items against a limit in ms.

    Args:
        ms: Latencies, shape [R, M].
        how: Stability of the one run.
        budget: Gates and alpha.
        metric: `p50`, `p90` or `p99`.
        limit: In ms.
    """
    p = PERCENTILES[metric]
    if not ms.size:
        return _nothing(metric, limit, metric in budget.gates)
    evidence = weigh(ms[np.newaxis], limit, 1 - p, how)
    tau = float(how.tau[0])
    settled = ms[int(how.start[0]) :].ravel()
    interval = percentile(settled, p, tau, budget.alpha, sequential=True)
    return _check(
        metric,
        limit,
        budget,
        interval=interval,
        evidence=evidence,
        tau=tau,
        items=ms.shape[1],
    )


def check_item(ms: Floats, budget: Budget) -> Check:
    """Tests the median of one item's latencies, shape [N]; reported, never gates."""
    series = residuals(np.log(ms)[np.newaxis, :, np.newaxis], None)
    rho, tau = autocorrelation(series)
    zero = np.zeros(1, np.int64)
    how = Stability(zero, np.zeros(1, np.bool_), np.zeros(1), rho, tau)
    check = check_percentile(ms[:, np.newaxis], how, budget, "p50", budget.p50_ms)
    return replace(check, gates=False)


def check_throughput(ms: Floats, budget: Budget, run: Run | None = None) -> Check:
    """Tests the rate of the median round (items / seconds it took) against its limit.

    Args:
        ms: Latencies, shape [R, M].
        budget: Limit, gates and alpha.
        run: Where they come from; where they are waits, they have no rate.
    """
    limit = budget.throughput
    if not ms.size or (run is not None and waits_only(run)):
        return _nothing("throughput", limit, "throughput" in budget.gates)
    evidence, how = weigh_throughput(ms, limit)
    tau = float(how.tau[0])
    settled = ms[int(how.start[0]) :].sum(axis=1)
    duration = percentile(settled, 0.5, tau, budget.alpha, sequential=True)
    scale = 1000 * ms.shape[1]
    rate = Interval(
        value=scale / duration.value,
        low=None if duration.high is None else scale / duration.high,
        high=None if duration.low is None else scale / duration.low,
    )
    return _check(
        "throughput",
        limit,
        budget,
        interval=rate,
        evidence=evidence,
        tau=tau,
        items=1,
        per_observation=ms.shape[1],
    )


def check_ram(run: Run | None, budget: Budget) -> Check:
    """Compares the peak RSS of the sessions with its limit: a number, so no test.

    Plain latencies (no run) carry no RAM: then it cannot gate.
    """
    peak = max((session.peak_rss for session in run.sessions), default=0) if run else 0
    gates = "ram" in budget.gates and run is not None
    if peak <= 0:
        return replace(_nothing("ram", budget.ram_bytes, gates), e_value=None)
    return Check(
        metric="ram",
        limit=budget.ram_bytes,
        value=float(peak),
        low=None,
        high=None,
        status="pass" if peak < budget.ram_bytes else "fail",
        gates=gates,
        e_value=None,
        runs_used=float(len(run.sessions)) if run else 0.0,
        runs_needed=None,
    )


def check_figures(budget: Budget, figures: Sequence[Figure], kind: Kind) -> tuple[Check, ...]:
    """Tests those quality limits of a budget that a subject of a kind can have, in their order.

    Args:
        budget: Limits and gates.
        figures: What is known.
        kind: Of the subject: what does not listen has no WER, what does not speak no MOS.
    """
    known: dict[str, Figure] = {figure.metric: figure for figure in figures}
    return tuple(
        check_quality(metric, limit, known.get(metric), budget)
        for metric, limit in budget.quality
        if kind in (_SPEAKS if metric == "mos" else _LISTENS)
    )


def status_of(checks: Sequence[Check]) -> Status:
    """Returns `fail` if a gating check fails, else `undecided` if one is or none gates."""
    gating = [check.status for check in checks if check.gates]
    if "fail" in gating:
        return "fail"
    return "undecided" if "undecided" in gating or not gating else "pass"


def check_quality(metric: str, limit: float, figure: Figure | None, budget: Budget) -> Check:
    """Compares a quality figure's interval with its limit: a test at the interval's level.

    Args:
        metric: One of QUALITY_METRICS.
        limit: In its unit.
        figure: What was found; None where nothing was measured.
        budget: Gates.
    """
    gates = metric in budget.gates
    if figure is None:
        return replace(_nothing(metric, limit, gates), e_value=None)
    low = -math.inf if figure.low is None else figure.low
    high = math.inf if figure.high is None else figure.high
    # Of opinions more is better, of the others less.
    better, worse = (
        (low >= limit, high < limit) if metric == "mos" else (high <= limit, low > limit)
    )
    return Check(
        metric=metric,
        limit=limit,
        value=figure.value,
        low=figure.low,
        high=figure.high,
        status="pass" if better else "fail" if worse else "undecided",
        gates=gates,
        e_value=None,
        runs_used=float(figure.n),
        runs_needed=None,
    )


def _check(
    metric: str,
    limit: float,
    budget: Budget,
    *,
    interval: Interval,
    evidence: Evidence,
    tau: float,
    items: int,
    per_observation: int = 1,
) -> Check:
    needed = runs_needed(evidence, tau, items, budget.alpha)
    log_e = float(evidence.log_e[0])
    return Check(
        metric=metric,
        limit=limit,
        value=interval.value,
        low=interval.low,
        high=interval.high,
        status=_WORDS[int(evidence.status(budget.alpha)[0])],
        gates=metric in budget.gates,
        # JSON knows no infinity, and nobody needs more.
        e_value=math.exp(min(log_e, 690.0)),
        runs_used=float(evidence.used[0]) * per_observation,
        runs_needed=None if needed is None else needed * per_observation,
    )


def _nothing(metric: str, limit: float, gates: bool) -> Check:
    return Check(metric, limit, math.nan, None, None, "undecided", gates, 1.0, 0.0, None)
