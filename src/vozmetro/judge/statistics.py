"""Percentiles with distribution-free intervals, and what a run comes to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.special import bdtr

from vozmetro.judge.interval import Interval as Interval  # noqa: PLC0414
from vozmetro.judge.rounds import rounds_of
from vozmetro.judge.sequential import log_e_value, sequential_ranks
from vozmetro.judge.stationarity import Floats, autocorrelation, residuals, stability
from vozmetro.measure.records import Run, Sample


@dataclass(frozen=True)
class Summary:
    """Latencies of one item or of a whole run. Times in milliseconds.

    Attributes:
        n: Number of samples.
        n_effective: Independent samples that they are worth.
        autocorrelation: Lag-1 autocorrelation of the log latencies less their item's median.
        mean: Arithmetic mean.
        sd: Standard deviation (n - 1); 0 for one sample.
        min: Fastest.
        max: Slowest.
        p50: Median with its interval.
        p90: 90th percentile with its interval.
        p99: 99th percentile with its interval.
        throughput: Inferences per second, 1000 / mean.
        left_out: Samples of an early part that drifted, in none of the other numbers.
    """

    n: int
    n_effective: float
    autocorrelation: float
    mean: float
    sd: float
    min: float
    max: float
    p50: Interval
    p90: Interval
    p99: Interval
    throughput: float
    left_out: int = 0


@dataclass(frozen=True)
class RunSummary:
    """What a run comes to. Times in milliseconds unless said.

    Attributes:
        overall: All the samples.
        per_item: By `Item.id` in the order of `run.items`; items with no samples left out.
        p50_mean: The guide's "P50 promedio": mean over items of the item's P50.
        p99_mean: The guide's "P99 promedio": mean over items of the item's P99.
        lengths_s: Distinct audio lengths in seconds that these means go over, sorted.
        rtf: Median of processing time / audio time; None where there is no audio, or only the wait
            is measured (`waits_only`).
        parts_p50: Median of each part of the latency by its name.
        load_ms: Load time, median over sessions.
        first_ms: First inference after loading, median over sessions.
        warmup_ms: Mean of the warm-up inferences, median over sessions.
        warmup_runs: Warm-up inferences, first one included, most of any session.
        warmup_sufficient: Whether every session's warm-up had flattened out.
        idle_ms: Median latency after idling; None if it was not measured.
        peak_rss: Highest RSS of the sessions, in bytes.
        prompt_tokens: Distinct lengths of the prompts, sorted; empty for what takes none.
        cpu_cores: CPU seconds per wall second of the measured inferences; None if unknown.
    """

    overall: Summary
    per_item: dict[str, Summary]
    p50_mean: float
    p99_mean: float
    lengths_s: tuple[float, ...]
    rtf: float | None
    parts_p50: dict[str, float]
    load_ms: float
    first_ms: float
    warmup_ms: float
    warmup_runs: int
    warmup_sufficient: bool
    idle_ms: float | None
    peak_rss: int
    cpu_cores: float | None
    prompt_tokens: tuple[int, ...] = ()


def order_statistic_ranks(n: int, p: float, alpha: float = 0.05) -> tuple[int | None, int | None]:
    """Returns the ranks of the order statistics between which the percentile p lies.

    The number of samples below the percentile is Binomial(n, p) whatever the distribution, so
    [X_(l), X_(u)] holds it with probability P(l <= Bin <= u - 1), which is at least 1 - alpha with
    at most alpha/2 on either side (H. A. David and H. N. Nagaraja, "Order Statistics", 3rd ed.,
    2003, section 7.1).

    Args:
        n: Independent samples.
        p: Probability of the percentile.
        alpha: 1 - confidence.

    Returns:
        1-based ranks l and u; None where the samples do not reach that far.
    """
    if n < 1:
        return None, None
    at_most = bdtr(np.arange(n), n, p)
    low = int(np.searchsorted(at_most, alpha / 2, side="right"))
    high = int(np.searchsorted(at_most, 1 - alpha / 2)) + 1
    return (low if low >= 1 else None), (high if high <= n else None)


def samples_to_resolve(p: float, alpha: float = 0.05) -> int:
    """Returns the smallest n for which both ranks of `order_statistic_ranks` exist."""
    return math.ceil(math.log(alpha / 2) / math.log(max(p, 1 - p)))


@cache
def samples_to_decide(p: float, alpha: float = 0.05) -> int:
    """Returns the smallest n for which both ranks of `sequential_ranks` exist."""
    reach = np.arange(1.0, 10_000.0)
    # The tail with fewer samples: none of n beyond the percentile.
    log_e = log_e_value(0.0, reach, min(p, 1 - p))
    return int(reach[np.argmax(log_e >= -math.log(alpha))])


def percentile(
    ms: Floats, p: float, tau: float = 1.0, alpha: float = 0.05, sequential: bool = False
) -> Interval:
    """Estimates a percentile, linear between order statistics, with its interval.

    Args:
        ms: Samples, shape [N].
        p: Probability, e.g. 0.99.
        tau: Samples that one independent sample costs.
        alpha: 1 - confidence.
        sequential: The samples ended because of what they showed: take the ranks that the
            sequential test would not reject, which keep their coverage then.
    """
    n = len(ms)
    if not n:
        return Interval(math.nan, None, None, None)
    ordered = np.sort(ms)
    if sequential:
        low, high = sequential_ranks(n, tau, p, alpha)
        least = samples_to_decide(p, alpha)
    else:
        low, high = thinned_ranks(n, tau, p, alpha)
        least = samples_to_resolve(p, alpha)
    lowest = ordered[0] if low is None else ordered[low - 1]
    highest = ordered[-1] if high is None else ordered[high - 1]
    return Interval(
        # Between few samples, linear interpolation may fall outside its own interval.
        value=float(np.clip(np.quantile(ordered, p), lowest, highest)),
        low=None if low is None else float(lowest),
        high=None if high is None else float(highest),
        n_needed=None if low is not None and high is not None else least,
    )


def thinned_ranks(n: int, tau: float, p: float, alpha: float) -> tuple[int | None, int | None]:
    """Ranks among n samples that are worth n / tau: those of n / tau, spread over n, outwards."""
    worth = max(1, math.floor(n / tau + 1e-9))
    low, high = order_statistic_ranks(worth, p, alpha)
    scale = (n + 1) / (worth + 1)
    return (
        None if low is None else max(1, math.floor(low * scale + 1e-9)),
        None if high is None else min(n, math.ceil(high * scale - 1e-9)),
    )


def summarize(ms: Sequence[float], groups: Sequence[str] | None = None) -> Summary:
    """Summarises latencies, less an early part that drifts.

    Args:
        ms: Latencies in ms, in the order taken.
        groups: Item of each sample; None where all are of one kind.
    """
    values = np.asarray(ms, float)
    if not len(values):
        return _summary(values, 0.0, 1.0)
    level = np.empty(len(values))
    labels = np.asarray(groups if groups is not None else [""] * len(values))
    for label in np.unique(labels):
        level[labels == label] = np.median(values[labels == label])
    how = stability((values / level)[np.newaxis, :, np.newaxis])
    start = int(how.start[0])
    return _summary(values[start:], float(how.rho[0]), float(how.tau[0]), left_out=start)


def summarize_run(run: Run) -> RunSummary:
    """Summarises the complete rounds of a run, less an early part that drifts.

    Where no round is complete, as in a run that failed early, all the samples count. Intervals are
    the sequential ones where the run was measured until decided.
    """
    samples, overall = settled(run)
    per_item = {
        item.id: _of_item([s.ms for s in samples if s.item == item.id], run)
        for item in run.items
        if any(s.item == item.id for s in samples)
    }
    seconds = {item.id: item.seconds for item in run.items}
    parts = sorted({name for s in samples for name in s.parts})
    # A voice's audio is the one that it makes, not the recording of the same text.
    listens = run.subject.kind != "tts"
    rates = [
        s.ms / 1000 / seconds[s.item] for s in samples if listens and seconds.get(s.item, 0) > 0
    ]
    wall = sum(session.wall_s for session in run.sessions)
    return RunSummary(
        overall=overall,
        per_item=per_item,
        p50_mean=_mean([one.p50.value for one in per_item.values()]),
        p99_mean=_mean([one.p99.value for one in per_item.values()]),
        lengths_s=tuple(sorted({seconds[item] for item in per_item if seconds[item] > 0})),
        rtf=float(np.median(rates)) if rates and not waits_only(run) else None,
        parts_p50={
            name: _median([s.parts[name] for s in samples if name in s.parts]) for name in parts
        },
        load_ms=_median([session.load_ms for session in run.sessions]),
        first_ms=_median([session.first_ms for session in run.sessions]),
        warmup_ms=_median([_mean(s.warmup_ms) for s in run.sessions if s.warmup_ms]),
        warmup_runs=max((len(session.warmup_ms) for session in run.sessions), default=0),
        warmup_sufficient=bool(run.sessions)
        and all(session.warmup_sufficient for session in run.sessions),
        idle_ms=_median([ms for s in run.sessions for ms in s.idle_ms])
        if any(session.idle_ms for session in run.sessions)
        else None,
        peak_rss=max((session.peak_rss for session in run.sessions), default=0),
        cpu_cores=sum(session.cpu_s for session in run.sessions) / wall if wall > 0 else None,
        prompt_tokens=tuple(
            sorted({item.tokens for item in run.items if item.tokens and item.id in per_item})
        ),
    )


def waits_only(run: Run) -> bool:
    """Whether its samples are waits after work that was done while somebody spoke.

    They say how long a user waits, and nothing of how much work a second the subject does: it has
    no real-time factor and no throughput.
    """
    ahead = run.subject.kind == "stt" and run.subject.clock == "post-endpoint"
    return run.settings.hangover_s is not None or ahead or "context=stream" in run.subject.name


def is_sequential(run: Run) -> bool:
    """Whether the run may have ended because of what it showed."""
    return run.settings.until == "decided"


def settled(run: Run) -> tuple[list[Sample], Summary]:
    """Returns the samples that count, in the order taken, and their summary."""
    rounds = rounds_of(run)
    sequential = is_sequential(run)
    if not rounds.ms.size:
        samples = list(run.samples)
        values = np.array([sample.ms for sample in samples])
        return samples, _summary(values, 0.0, 1.0, sequential=sequential)
    how = stability(rounds.ms[np.newaxis], rounds.order)
    start = int(how.start[0])
    kept = set(rounds.numbers[start:])
    samples = [sample for sample in run.samples if sample.round in kept]
    summary = _summary(
        rounds.ms[start:].ravel(),
        float(how.rho[0]),
        float(how.tau[0]),
        left_out=start * rounds.ms.shape[1],
        sequential=sequential,
    )
    return samples, summary


def _of_item(ms: list[float], run: Run) -> Summary:
    values = np.array(ms)
    series = residuals(np.log(values)[np.newaxis, :, np.newaxis], None)
    rho, tau = autocorrelation(series)
    return _summary(values, float(rho[0]), float(tau[0]), sequential=is_sequential(run))


def _summary(
    ms: Floats, rho: float, tau: float, left_out: int = 0, sequential: bool = False
) -> Summary:
    n = len(ms)
    mean = float(ms.mean()) if n else math.nan
    return Summary(
        n=n,
        n_effective=n / tau,
        autocorrelation=rho,
        mean=mean,
        sd=float(ms.std(ddof=1)) if n > 1 else 0.0,
        min=float(ms.min()) if n else math.nan,
        max=float(ms.max()) if n else math.nan,
        p50=percentile(ms, 0.5, tau, sequential=sequential),
        p90=percentile(ms, 0.9, tau, sequential=sequential),
        p99=percentile(ms, 0.99, tau, sequential=sequential),
        throughput=1000 / mean if n else math.nan,
        left_out=left_out,
    )


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else math.nan


def _median(values: Sequence[float]) -> float:
    return float(np.median(values)) if len(values) else math.nan
