"""WER against SNR: points, the SNR at which WER doubles, and the mean over the range; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from vozmetro import resampling
from vozmetro.resampling import Floats

Bound = Literal["", "<=", ">="]


@dataclass(frozen=True)
class Point:
    """WER under one condition.

    Attributes:
        snr_db: SNR; None for clean speech.
        rate: Errors over reference words, pooled.
        low: Lower end of its interval.
        high: Upper end.
        errors: Errors in all.
        words: Reference words in all.
    """

    snr_db: float | None
    rate: float
    low: float
    high: float
    errors: int
    words: int


@dataclass(frozen=True)
class Crossing:
    """An SNR, or the end of the grid beyond which it lies.

    Attributes:
        db: SNR in dB.
        bound: Empty where `db` is the SNR itself; `<=` where it lies at or below `db`, the lowest
            SNR of the grid; `>=` where it lies at or above `db`, the highest.
    """

    db: float
    bound: Bound = ""


@dataclass(frozen=True)
class Doubling:
    """The SNR at which WER is twice that of clean speech: the lower, the more robust.

    Attributes:
        snr: Where it is, or a bound; None where the clean WER is 0, which has no double.
        low: Lower end of its interval; None with `snr`.
        high: Upper end; None with `snr`.
        clean_zero: Share of the draws whose clean WER was 0. They count with the limit of a clean
            WER that goes to 0: the lowest SNR down to which there was still no error.
    """

    snr: Crossing | None
    low: Crossing | None
    high: Crossing | None
    clean_zero: float


@dataclass(frozen=True)
class Area:
    """Area under the curve by the width of its range: the mean WER over an SNR uniform in dB.

    Attributes:
        rate: Mean WER.
        low: Lower end of its interval.
        high: Upper end.
        from_db: Lowest SNR of the range.
        to_db: Highest SNR.
    """

    rate: float
    low: float
    high: float
    from_db: float
    to_db: float


@dataclass(frozen=True)
class NoiseCurve:
    """What one kind of noise does to one system.

    Attributes:
        points: Clean first, then from the highest SNR to the lowest.
        doubling: The SNR at which WER doubles.
        area: Mean WER over the range; None where there is only one SNR.
        utterances: How many were heard under every condition.
        speakers: People that were drawn; 0 where utterances were.
    """

    points: tuple[Point, ...]
    doubling: Doubling
    area: Area | None
    utterances: int
    speakers: int


def curve(
    words: ArrayLike,
    clean: ArrayLike,
    noisy: Mapping[float, ArrayLike],
    speakers: Sequence[str] = (),
    *,
    alpha: float = 0.05,
    resamples: int = resampling.RESAMPLES,
    seed: int = resampling.SEED,
) -> NoiseCurve:
    """Computes the curve of one kind of noise with intervals.

    Points have the intervals of `resampling.rate`. Those of the doubling and the area come from one
    bootstrap whose draws take the same utterances under every condition, so that what makes an
    utterance hard cancels in the ratio of two conditions.

    Args:
        words: Reference words of each utterance, shape [N].
        clean: Errors of each utterance in clean speech, shape [N].
        noisy: Errors of the same utterances, shape [N], by SNR in dB; one SNR or more.
        speakers: Who speaks each utterance, as for `resampling.rate`; empty where unknown.
        alpha: 1 minus the confidence of each interval.
        resamples: Draws.
        seed: Of the draws.

    Raises:
        ValueError: Lengths differ, there is nothing to count, or a count is negative.
    """
    grid = sorted((float(snr) for snr in noisy), reverse=True)
    by_snr = {float(snr): errors for snr, errors in noisy.items()}
    counts = [np.asarray(each, np.float64) for each in (words, clean, *(by_snr[s] for s in grid))]
    if not grid or any(each.shape != counts[0].shape or each.ndim != 1 for each in counts):
        raise ValueError("counts of the same utterances are needed, clean and at one SNR or more")
    table = np.stack(counts)
    if not np.isfinite(table).all() or (table < 0).any() or not table[0].sum() > 0:
        raise ValueError("counts must be finite and not negative, with some reference words")
    if not np.isfinite(grid).all():
        raise ValueError("each SNR must be finite")
    if len(speakers) not in (0, table.shape[1]):
        raise ValueError("one speaker for each utterance is needed, or none")
    points = []
    for snr, errors in zip([None, *grid], table[1:], strict=True):
        one = resampling.rate(
            errors, table[0], speakers, alpha=alpha, resamples=resamples, seed=seed
        )
        counted = round(float(errors.sum())), round(float(table[0].sum()))
        points.append(Point(snr, one.value, one.low, one.high, *counted))
    rows, people = resampling.clusters(np.roll(table, -1, axis=0).T, speakers)
    drawn = _rates(resampling.draws(rows, resamples, seed))
    rates = _rates(rows.sum(axis=0, keepdims=True))[0]
    db = np.array(grid)
    return NoiseCurve(
        tuple(points),
        _doubling(db, rates, drawn, len(rows), alpha),
        _area(db, rates, drawn, len(rows), alpha),
        table.shape[1],
        people,
    )


def _rates(sums: Floats) -> Floats:
    """Returns WERs, shape [B, C], of sums whose last column is the words, shape [B, C + 1]."""
    return sums[:, :-1] / sums[:, -1:]


def _doubling(db: Floats, rates: Floats, drawn: Floats, rows: int, alpha: float) -> Doubling:
    clean_zero = float((drawn[:, 0] == 0).mean())
    if not rates[0] > 0:
        return Doubling(None, None, None, clean_zero)
    at = _crossings(db, rates[None, :])[0]
    low, high = -np.inf, np.inf
    if rows > 1:
        # Draws themselves, not means of two: a draw beyond the grid is infinitely far.
        tail = resampling.tail(rows, alpha)
        among = _crossings(db, drawn)
        low = np.quantile(among, tail, method="lower")
        high = np.quantile(among, 1 - tail, method="higher")
    return Doubling(_crossing(at, db), _crossing(low, db), _crossing(high, db), clean_zero)


def _crossings(db: Floats, rates: Floats) -> Floats:
    """Returns the highest SNR at which each curve reaches twice its clean WER.

    Args:
        db: Shape [K], falling.
        rates: Shape [B, 1 + K], clean first.

    Returns:
        Shape [B]: interpolated linearly between two SNRs; inf where the highest SNR has more than
        the double already, -inf where no SNR reaches it. Where the clean WER is 0, the limit for a
        clean WER that goes to 0 from above.
    """
    double, noisy = 2 * rates[:, :1], rates[:, 1:]
    over = np.where(double > 0, noisy >= double, noisy > 0)
    first = np.argmax(over, axis=1)
    found = np.full(len(rates), -np.inf)
    rows = np.flatnonzero(over.any(axis=1) & (first > 0))
    at = first[rows]
    before, after = noisy[rows, at - 1], noisy[rows, at]
    # `before` is below the double, or both are 0; `after` is at or above it: never 0 / 0.
    part = (double[rows, 0] - before) / (after - before)
    found[rows] = db[at - 1] + part * (db[at] - db[at - 1])
    already = over[:, 0]
    exact = already & (double[:, 0] > 0) & (noisy[:, 0] == double[:, 0])
    found[already] = np.inf
    found[exact] = db[0]
    return found


def _crossing(at: float, db: Floats) -> Crossing:
    if at == np.inf:
        return Crossing(float(db[0]), ">=")
    if at == -np.inf:
        return Crossing(float(db[-1]), "<=")
    return Crossing(float(at))


def _area(db: Floats, rates: Floats, drawn: Floats, rows: int, alpha: float) -> Area | None:
    if len(db) < 2:
        return None
    # Trapezoids: each SNR weighs half the way to its neighbours.
    steps = -np.diff(db)
    weights = (np.append(steps, 0) + np.insert(steps, 0, 0)) / 2 / steps.sum()
    low, high = resampling.ends((drawn[:, 1:] * weights).sum(axis=1), rows, alpha)
    value = float((rates[1:] * weights).sum())
    return Area(value, max(low, 0.0), high, float(db[-1]), float(db[0]))
