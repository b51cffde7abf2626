"""One number of a run for each metric: what `ratio` holds together."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from vozmetro.judge.comparison import log_ratios
from vozmetro.judge.statistics import settled
from vozmetro.measure.records import ComparisonRecord, Run


def level(run: Run, metric: str, items: frozenset[str] | None = None) -> float | None:
    """Returns a run's logarithm of a metric; None where it is not known.

    Args:
        run: What was measured.
        metric: `p50` (geometric mean over items of the item's median, in ms), `p90`, `p99`
            (likewise), `load`, `first`, `peak_ram`, or `machine` (the noise check's fixed graph).
        items: Count these alone.
    """
    if metric in ("p50", "p90", "p99"):
        return _percentile_level(run, int(metric[1:]) / 100, items)
    if metric == "machine":
        noise = run.environment.noise
        return _log(noise.p50_ms) if noise else None
    values = {
        "load": [session.load_ms for session in run.sessions],
        "first": [session.first_ms for session in run.sessions],
        "peak_ram": [float(max((one.peak_rss for one in run.sessions), default=0))],
    }[metric]
    return _log(float(np.median(values))) if values else None


def _percentile_level(run: Run, p: float, items: frozenset[str] | None) -> float | None:
    samples, _ = settled(run)
    by_item: dict[str, list[float]] = {}
    for sample in samples:
        if items is None or sample.item in items:
            by_item.setdefault(sample.item, []).append(sample.ms)
    if not by_item:
        return None
    return float(np.mean([math.log(float(np.quantile(ms, p))) for ms in by_item.values()]))


def _log(value: float) -> float | None:
    return math.log(value) if math.isfinite(value) and value > 0 else None


def pair_levels(record: ComparisonRecord, metric: str) -> tuple[float, float] | None:
    """Returns the log levels of A and of B of a comparison; None where one is not known.

    Of `p50`, B lies above A by the median of the per-pair log ratios: a disturbance of the machine
    meets both samples of a pair and cancels.
    """
    a = level(record.a, metric)
    if metric != "p50":
        b = level(record.b, metric)
        return None if a is None or b is None else (a, b)
    ratios = log_ratios(record.b, record.a)
    return None if a is None or not len(ratios) else (a, a + float(np.median(ratios)))


def in_turns(candidates: Sequence[Run], baselines: Sequence[Run]) -> list[tuple[Run, Run]]:
    """Returns pairs (candidate, baseline) where runs were made by turns; empty where not.

    By turns means: in the order of time the first two are one of each, so are the next two, and so
    on. Only the order of the runs counts and never what they showed.
    """
    if len(candidates) != len(baselines) or len(candidates) < 2:
        return []
    every = [(run.created, 0, run) for run in candidates]
    every += [(run.created, 1, run) for run in baselines]
    every.sort(key=lambda one: (one[0], one[1], one[2].id))
    pairs = []
    for first, second in zip(every[::2], every[1::2], strict=True):
        if first[1] == second[1]:
            return []
        candidate, baseline = (first, second) if first[1] == 0 else (second, first)
        pairs.append((candidate[2], baseline[2]))
    return pairs
