"""Whether samples taken one after the other may be counted as independent draws of one thing.

Two things spoil that on real machines: neighbouring samples that resemble each other (other
processes, clock steps), and an early part that is not yet like the rest (clocks that drop as the
chip heats, caches that fill). Both are estimated here on log latencies with the item medians taken
out, clipped at three robust standard deviations so that a few outliers neither hide a pattern nor
make one.

Everything works on a leading batch axis, so that the simulation in `benchmarks/verdicts.py` runs
the very code that judges one run.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

SIGNIFICANT = 1.0
"""Lag-1 autocorrelation counts from this many standard errors (1/sqrt(n)) on: early, because to
miss it costs false verdicts and to see it where there is none costs a few more samples."""

DRIFT = 2.5
"""A run counts as drifting where a part differs by more than this many standard errors."""

SETTLED = 1.0
"""A drifting run is cut until no early part differs by more than this many standard errors."""

MIN_FOR_DRIFT = 20
"""Fewer samples than this say nothing useful about drift."""

MIN_TO_CHECK = 100
"""From this many samples on, the simulation shows dependence and drift to be caught."""

# Fewest samples in a part that is compared with the reference.
_MIN_WINDOW = 5
# The reference is the last 6/16 of a run, and the settled part begins at 10/16 at the latest.
_GRID, _LATEST_START, _REFERENCE = 16, 10, 6


@dataclass(frozen=True)
class Stability:
    """How the samples of each run in a batch hang together.

    Attributes:
        start: First round of the settled part, shape [B].
        drifting: Whether the settled part still moves, shape [B].
        change: Mean log latency of the part before `start` less that of the rest, shape [B].
        rho: Lag-1 autocorrelation of the settled part, shape [B].
        tau: Samples that one independent sample costs, at least 1, shape [B].
    """

    start: Ints
    drifting: Bools
    change: Floats
    rho: Floats
    tau: Floats


def stability(ms: Floats, order: Ints | None = None) -> Stability:
    """Finds the settled part of each run and the autocorrelation in it.

    The first 1/8, 1/4, 1/2 and all of the samples before the last 6/16 are compared with those.
    Where one differs by more than DRIFT standard errors, the run is cut at the first of the
    multiples of 1/16 after which none differs by more than SETTLED, at 10/16 at the latest. What
    remains is compared again, its first half with its second.

    Args:
        ms: Latencies, one column per item, shape [B, R, M] for R rounds of M items.
        order: Column that was taken j-th in each round, shape [R, M]; None where always in order.
    """
    batch, rounds, items = ms.shape
    start = np.zeros(batch, np.int64)
    drifting = np.zeros(batch, np.bool_)
    change, rho, tau = np.zeros(batch), np.zeros(batch), np.ones(batch)
    logs = np.log(ms)
    # With fewer, a few rounds of noise would pass for a drift and cost half of the run.
    if rounds * items >= MIN_TO_CHECK and rounds > 1:
        start, change = _settle(logs, order)
    for first in np.unique(start) if ms.size else ():
        rows = start == first
        series = residuals(logs[rows], order, first)
        cut = int(first) * items
        rho[rows], tau[rows] = autocorrelation(_detrended(series, cut))
        rest = series[:, cut:]
        if rest.shape[1] >= MIN_FOR_DRIFT:
            drifting[rows] = _unlike(rest, rest.shape[1] // 2, tau[rows]) > DRIFT
    return Stability(start, drifting, change, rho, tau)


def residuals(logs: Floats, order: Ints | None, reference: int = 0) -> Floats:
    """Returns log latencies less their item's median, in the order taken and clipped.

    Args:
        logs: Shape [B, R, M].
        order: As in `stability`.
        reference: First round that the medians go over.

    Returns:
        Shape [B, R * M].
    """
    rest = logs - np.median(logs[:, reference:], axis=1, keepdims=True)
    if order is not None:
        rest = np.take_along_axis(rest, order[np.newaxis], axis=2)
    series: Floats = rest.reshape(len(rest), -1)
    # 1.4826 * MAD is the standard deviation of normal samples.
    bound = 3 * 1.4826 * np.median(np.abs(series), axis=1, keepdims=True)
    # More than half of the residuals are 0 in tiny runs: then there is no scale to clip at.
    bound = np.where(bound > 0, bound, np.inf)
    return np.clip(series, -bound, bound)


def autocorrelation(series: Floats) -> tuple[Floats, Floats]:
    """Estimates lag-1 autocorrelation and how many samples one independent sample costs.

    tau is the larger of the AR(1) value (1 + rho)/(1 - rho), with rho corrected for its bias of
    -(1 + 4 rho)/n [1], and of Geyer's initial positive sequence [2], which sees slow patterns that
    the first lag misses. It is 1 where rho is not significantly positive.

    [1] F. H. C. Marriott and J. A. Pope, "Bias in the estimation of autocorrelations",
        Biometrika 41, 1954.
    [2] C. J. Geyer, "Practical Markov chain Monte Carlo", Statistical Science 7(4), 1992.

    Args:
        series: Shape [B, N], in the order taken.

    Returns:
        rho and tau, both of shape [B].
    """
    batch, n = series.shape
    if n < 4:
        return np.zeros(batch), np.ones(batch)
    centred = series - series.mean(axis=1, keepdims=True)
    lags_used = 2 * max(1, n // 8)
    # Padding by the lags that are read keeps the ends from wrapping onto each other.
    size = _fast_length(n + lags_used)
    power = np.abs(np.fft.rfft(centred, size, axis=1)) ** 2
    covariance = np.fft.irfft(power, size, axis=1)[:, :lags_used]
    variance = covariance[:, :1]
    flat = variance[:, 0] <= 1e-18 * n
    lags = covariance / np.where(flat[:, np.newaxis], 1.0, variance)
    lags[flat] = 0.0
    rho = lags[:, 1]
    unbiased = np.clip(rho + (1 + 4 * rho) / n, -0.99, 0.99)
    pairs = lags[:, 0::2] + lags[:, 1::2]
    pairs = np.where(np.logical_and.accumulate(pairs > 0, axis=1), pairs, 0.0)
    slow = -1 + 2 * np.minimum.accumulate(pairs, axis=1).sum(axis=1)
    tau = np.maximum((1 + unbiased) / (1 - unbiased), slow)
    tau = np.where(rho * np.sqrt(n) > SIGNIFICANT, np.clip(tau, 1.0, n), 1.0)
    return rho, tau


def _fast_length(least: int) -> int:
    """Returns a length that the FFT is quick at: a power of two, or 3 or 5 times one."""
    return min(odd << max(0, math.ceil(math.log2(least / odd))) for odd in (1, 3, 5))


def _settle(logs: Floats, order: Ints | None) -> tuple[Ints, Floats]:
    """Returns the first settled round and the log change up to there, both of shape [B]."""
    batch, rounds, items = logs.shape
    reference = rounds - max(1, rounds * _REFERENCE // _GRID)
    series = residuals(logs, order, reference)
    first = reference * items
    start, change = np.zeros(batch, np.int64), np.zeros(batch)
    cuts = np.unique(np.arange(_LATEST_START + 1) * rounds // _GRID)
    _, tau = autocorrelation(_detrended(series, first))
    found = np.flatnonzero(_unlike(series, first, tau) > DRIFT)
    live = found
    for cut, beyond in zip(cuts[1:], [*cuts[2:], cuts[-1]], strict=True):
        if not len(live):
            break
        # One step more than it takes: the end of a drift hides in the noise.
        start[live] = beyond
        skip = int(cut) * items
        live = live[_unlike(series[live, skip:], first - skip, tau[live]) > SETTLED]
    for row in found:
        cut = start[row] * items
        change[row] = series[row, :cut].mean() - series[row, cut:].mean()
    return start, change


def _detrended(series: Floats, cut: int) -> Floats:
    """Takes a straight line out of the samples before `cut`, and the mean out of the rest.

    What is left of an early drift would pass for autocorrelation; leaving the early samples out
    would throw away what they tell about it.
    """
    if cut < 3:
        return series
    early = series[:, :cut] - series[:, :cut].mean(axis=1, keepdims=True)
    ramp = np.arange(cut) - (cut - 1) / 2
    early = early - (early @ ramp / (ramp @ ramp))[:, np.newaxis] * ramp
    late = series[:, cut:] - series[:, cut:].mean(axis=1, keepdims=True)
    return np.concatenate([early, late], axis=1)


def _unlike(series: Floats, reference: int, tau: Floats) -> Floats:
    """How far the start of each series is from the part from `reference` on, in standard errors.

    The first 1/8, 1/4, 1/2 and all of what comes before `reference` are tried, and the largest
    difference counts. The spread is taken from the reference alone: an early drift would swell it
    and so hide itself.

    Args:
        series: Residuals, shape [B, N].
        reference: First sample of the reference.
        tau: Samples that one independent sample costs, shape [B].

    Returns:
        Shape [B]; 0 where nothing comes before the reference.
    """
    last = series[:, reference:]
    noise = np.sqrt(last.var(axis=1, ddof=1) * tau)
    windows = np.unique(np.array([max(_MIN_WINDOW, reference // part) for part in (8, 4, 2, 1)]))
    windows = windows[windows <= reference]
    if not len(windows):
        return np.zeros(len(series))
    sums = np.cumsum(series[:, :reference], axis=1)[:, windows - 1]
    difference = np.abs(sums / windows - last.mean(axis=1, keepdims=True))
    error = noise[:, np.newaxis] * np.sqrt(1 / windows + 1 / last.shape[1])
    # Parts of identical samples that differ at all differ for certain.
    scores = np.where(difference > 1e-9, difference / np.maximum(error, 1e-12), 0.0)
    worst: Floats = scores.max(axis=1)
    return worst
