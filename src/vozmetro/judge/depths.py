"""From a few layers to all of them: a line through the medians, and how far it can be trusted.

The layers of a transformer are equal, so its time is `a + b x layers`: `a` for what there is once
(embedding, head), `b` for each layer. What depths that fit in RAM take tells what the full depth
would; never as a measurement, always with the interval in which a measurement would lie.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from vozmetro.errors import InputError
from vozmetro.judge.stationarity import Floats, autocorrelation

LEAST_DEPTHS = 3
"""Fewer leave nothing to tell a line from a curve by."""
GOOD_R2, FAR = 0.99, 12.0
"""Below this R^2, and beyond this many times the deepest one measured, a fit is warned of."""
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Fit:
    """A line through medians, read at the full depth. Times in milliseconds.

    Attributes:
        layers: Depths, in ascending order.
        medians: What each took.
        intercept: Time of no layers.
        slope: Time of one layer.
        r2: Share of the medians' variance that the line explains.
        full: Layers at which it is read.
        value: The line there.
        low: Lower end of the interval for the median that a run at full depth would show.
        high: Upper end.
        confidence: Of that interval.
    """

    layers: tuple[int, ...]
    medians: tuple[float, ...]
    intercept: float
    slope: float
    r2: float
    full: int
    value: float
    low: float
    high: float
    confidence: float

    @property
    def reach(self) -> float:
        """How many times the deepest one measured it is read at."""
        return self.full / self.layers[-1]

    @property
    def warnings(self) -> tuple[str, ...]:
        """Codes of the catalogues' `notes.` section: what makes the figure doubtful."""
        found = []
        if self.r2 < GOOD_R2:
            found.append("depths_not_linear")
        if self.reach > FAR:
            found.append("depths_far")
        return tuple(found)


def fit(samples: Mapping[int, Sequence[float]], full: int, confidence: float = CONFIDENCE) -> Fit:
    """Fits the medians of at least three depths and reads the line at the full one.

    The interval is Student's prediction interval of least squares (Draper and Smith, "Applied
    Regression Analysis", 3rd ed., 1998, sections 1.4 and 9.1), with n - 2 degrees of freedom. The
    residuals hold the noise of the medians and any bend of the curve, whatever its cause. Whether
    the noise is equal at all depths or grows with the time is not known from three points, so both
    are taken, with equal weights and with weights 1 / time^2. And because few residuals are small
    by chance now and then, the scatter of the samples themselves is carried through the line as
    well. The interval is the hull of the three.

    Args:
        samples: Latencies in ms by number of layers; those of equal index were taken together.
        full: Number of layers to read the line at.
        confidence: Of the interval.

    Raises:
        InputError: `depths_few`.
    """
    layers = np.array(sorted(samples), float)
    if len(layers) < LEAST_DEPTHS:
        raise InputError("depths_few", given=len(layers), least=LEAST_DEPTHS)
    medians = np.array([float(np.median(samples[int(depth)])) for depth in layers])
    line = _Line.through(layers, medians, np.ones(len(layers)))
    relative = _Line.through(layers, medians, medians**-2.0)
    value = line.at(full)
    scatter = np.array([_median_error(samples[int(depth)], confidence) for depth in layers])
    margins = (
        (value, line.margin(full, 1.0, confidence)),
        # One run's noise at full depth grows with the time as well.
        (relative.at(full), relative.margin(full, relative.at(full) ** 2, confidence)),
        (value, line.carried(full, layers, scatter, float(np.median(scatter / medians)) * value)),
    )
    spread = float(((medians - medians.mean()) ** 2).sum())
    left = float(((medians - line.intercept - line.slope * layers) ** 2).sum())
    return Fit(
        layers=tuple(int(depth) for depth in layers),
        medians=tuple(float(one) for one in medians),
        intercept=line.intercept,
        slope=line.slope,
        r2=1.0 - left / spread if spread > 0 else math.nan,
        full=full,
        value=value,
        # More layers do not take less time.
        low=max(min(value, float(medians[-1])), min(middle - margin for middle, margin in margins)),
        high=max(middle + margin for middle, margin in margins),
        confidence=confidence,
    )


@dataclass(frozen=True)
class _Line:
    """Weighted least squares through points."""

    intercept: float
    slope: float
    variance: float  # of a point with weight 1
    covariance: Floats  # of (intercept, slope), over that variance
    freedom: int

    @classmethod
    def through(cls, xs: Floats, ys: Floats, weights: Floats) -> _Line:
        design = np.stack([np.ones_like(xs), xs], axis=1)
        moments = design.T @ (weights[:, np.newaxis] * design)
        inverse: Floats = np.asarray(np.linalg.inv(moments), np.float64)
        intercept, slope = inverse @ design.T @ (weights * ys)
        left = ys - intercept - slope * xs
        freedom = len(xs) - 2
        variance = float((weights * left**2).sum()) / freedom
        return cls(float(intercept), float(slope), variance, inverse, freedom)

    def at(self, x: float) -> float:
        return self.intercept + self.slope * x

    def margin(self, x: float, noise: float, confidence: float) -> float:
        """Half of the prediction interval for a point whose own variance is `noise` times ours."""
        place = np.array([1.0, x])
        spread = self.variance * (noise + float(place @ self.covariance @ place))
        quantile = float(stats.t.ppf((1 + confidence) / 2, self.freedom))
        return quantile * math.sqrt(spread)

    def carried(self, x: float, xs: Floats, errors: Floats, own: float) -> float:
        """Half of the interval for a point with an error of its own, from those of all points.

        Args:
            x: Where the line is read.
            xs: The points that an unweighted line went through.
            errors: Half-widths of their intervals.
            own: Half-width of the new point's.
        """
        design = np.stack([np.ones_like(xs), xs], axis=1)
        shares = np.array([1.0, x]) @ self.covariance @ design.T
        return math.sqrt(float(((shares * errors) ** 2).sum()) + own**2)


def _median_error(samples: Sequence[float], confidence: float) -> float:
    """Half-width of a median's interval, from the samples' median absolute deviation.

    1.4826 x MAD estimates a normal standard deviation, and a median's error is 1.2533 of a mean's
    (Huber and Ronchetti, "Robust Statistics", 2nd ed., 2009, chapter 1). Samples that resemble
    their neighbours count for less.
    """
    values = np.asarray(samples, float)
    off = values - np.median(values)
    if len(values) < 2 or not off.any():
        return 0.0
    _, tau = autocorrelation(off[np.newaxis])
    worth = max(2.0, len(values) / float(tau[0]))
    deviation = 1.4826 * float(np.median(np.abs(off)))
    quantile = float(stats.t.ppf((1 + confidence) / 2, worth - 1))
    return quantile * 1.2533 * deviation / math.sqrt(worth)
