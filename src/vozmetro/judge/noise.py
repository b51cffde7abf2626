"""What an A/A check says about the machine."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from vozmetro.judge.statistics import percentile
from vozmetro.measure.records import Noise


def noise_record(a_ms: Sequence[float], b_ms: Sequence[float]) -> Noise:
    """Summarises A/A pairs of one tiny graph.

    Args:
        a_ms: Latencies in ms of one side.
        b_ms: Those of the other; equal index, same pair.
    """
    a, b = np.asarray(a_ms, float), np.asarray(b_ms, float)
    ratio = percentile(np.log(a / b), 0.5)
    both = np.concatenate([a, b])
    half = math.inf
    if ratio.low is not None and ratio.high is not None:
        half = (ratio.high - ratio.low) / 2
    p50 = float(np.median(both))
    return Noise(
        pairs=len(a),
        p50_ms=p50,
        ratio=math.exp(ratio.value),
        resolvable=math.expm1(half),
        spread=float(np.quantile(both, 0.99)) / p50,
    )
