"""How many requests a swap must be followed by to have been worth it. Derived from the record."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vozmetro.judge.statistics import Interval, percentile
from vozmetro.measure.swap_records import Swap, SwapSide


@dataclass(frozen=True)
class Worth:
    """What a swap to the faster subject costs and saves.

    Attributes:
        faster: Which it is; None where the interval of the difference holds zero, or there are too
            few samples for one.
        saved_ms: Median of A's latency less B's on the same item and round, with its interval.
        cost_ms: Median of what putting the faster one in place takes; of A where there is none.
        requests: Requests after which the swap has paid for itself; None where nothing is faster.
    """

    faster: Literal["a", "b"] | None
    saved_ms: Interval
    cost_ms: float
    requests: int | None


def swap_ms(side: SwapSide) -> float:
    """Returns the median of what putting a subject in place takes: drop, load, first inference."""
    return statistics.median(one.ms for one in side.swaps)


def worth(record: Swap, alpha: float = 0.05) -> Worth:
    """Returns what a swap costs, held against what it saves.

    Args:
        record: What was measured.
        alpha: 1 - confidence.
    """
    pairs = zip(record.a.steady_ms, record.b.steady_ms, strict=True)
    saved = percentile(np.array([a - b for a, b in pairs]), 0.5, alpha=alpha)
    faster: Literal["a", "b"] | None = None
    if saved.low is not None and saved.low > 0:
        faster = "b"
    elif saved.high is not None and saved.high < 0:
        faster = "a"
    cost = swap_ms(record.b if faster == "b" else record.a)
    requests = math.ceil(cost / abs(saved.value)) if faster else None
    return Worth(faster, saved, cost, requests)
