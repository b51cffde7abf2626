"""What repeated runs tell of the ratio of two levels.

Samples of one process resemble each other: where its memory came to lie and what else the machine
was doing holds for all of them. So the unit of these tests is the run, never the sample.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import stdtr, stdtrit

from vozmetro.judge.interval import ASSUMED_SPREAD, LEAST_SPREAD, Interval

_MOST_RUNS = 1000
_NORMAL = 1e9  # degrees of freedom at which Student's distribution is the normal one

Design = Literal["paired", "two-sample", "one-run"]


@dataclass(frozen=True)
class RatioTest:
    """What runs tell of the ratio candidate / baseline.

    Attributes:
        ratio: Geometric mean with its interval.
        design: `paired` (each candidate has its own baseline run), `two-sample`, or `one-run`
            (nothing was repeated, so that the spread is assumed).
        spread: Standard deviation of the log level from run to run; of the log ratio from pair to
            pair where paired.
        p_above: One-sided p-value of a ratio of at most 1 + tolerance.
        p_below: One-sided p-value of a ratio of at least 1 / (1 + tolerance).
    """

    ratio: Interval
    design: Design
    spread: float
    p_above: float
    p_below: float


def ratio_test(
    candidates: Sequence[float],
    baselines: Sequence[float],
    *,
    paired: bool = False,
    tolerance: float = 0.0,
    alpha: float = 0.05,
) -> RatioTest:
    """Tests a ratio with runs as units: Student's t on log levels.

    Two samples have one variance: both sides are runs of the same kind on the same machine. Where
    nothing was repeated the spread is ASSUMED_SPREAD.

    Args:
        candidates: Log levels, at least one.
        baselines: Log levels, at least one.
        paired: The n-th of both were measured together.
        tolerance: Slower by no more than this fraction is accepted.
        alpha: 1 - confidence of the interval, half of it beyond either end.

    Raises:
        ValueError: A side is empty, or pairs are not as many on both.
    """
    x, y = candidates, baselines
    if not x or not y or (paired and len(x) != len(y)):
        raise ValueError("no runs, or pairs without their other half")
    change = sum(x) / len(x) - sum(y) / len(y)
    if len(x) == len(y) == 1:
        design: Design = "one-run"
        spread, df, share = ASSUMED_SPREAD, _NORMAL, 2.0
    elif paired:
        design, share, df = "paired", 1 / len(x), len(x) - 1.0
        squares = _squares([one - other for one, other in zip(x, y, strict=True)])
        spread = math.sqrt(squares / df)
    else:
        design, share, df = "two-sample", 1 / len(x) + 1 / len(y), len(x) + len(y) - 2.0
        spread = math.sqrt((_squares(x) + _squares(y)) / df)
    spread = max(spread, LEAST_SPREAD)
    error = spread * math.sqrt(share)
    reach = float(stdtrit(df, 1 - alpha / 2)) * error
    slack = math.log1p(tolerance)
    return RatioTest(
        ratio=Interval(_exp(change), _exp(change - reach), _exp(change + reach)),
        design=design,
        spread=spread,
        p_above=float(stdtr(df, -(change - slack) / error)),
        p_below=float(stdtr(df, (change + slack) / error)),
    )


def _squares(values: Sequence[float]) -> float:
    """Sum of the squared distances to the mean."""
    mean = sum(values) / len(values)
    return sum((value - mean) ** 2 for value in values)


def _exp(value: float) -> float:
    return math.exp(min(max(value, -700.0), 700.0))


def runs_needed(
    test: RatioTest, tolerance: float, detect: float, alpha: float = 0.05
) -> int | None:
    """Returns how many runs a side (or pairs) would settle it, whatever they show.

    So many that the interval is too narrow to hold both 1 + tolerance and 1 + detect. None where
    the spread is not known, and beyond 1000.

    Args:
        test: What the runs so far tell; of their spread.
        tolerance: Worse by no more than this fraction is accepted.
        detect: Worse by this fraction must not be missed.
        alpha: 1 - confidence.
    """
    if test.design == "one-run":
        return None
    runs = np.arange(2.0, _MOST_RUNS + 1)
    paired = test.design == "paired"
    df, share = (runs - 1, 1 / runs) if paired else (2 * runs - 2, 2 / runs)
    width = 2 * stdtrit(df, 1 - alpha / 2) * test.spread * np.sqrt(share)
    enough = runs[width < math.log1p(detect) - math.log1p(tolerance)]
    return int(enough[0]) if len(enough) else None
