"""Intervals of pooled error rates, by drawing utterances or speakers again with repeats.

Errors come in the same utterances, and from the same people: single words are no independent
trials. M. Bisani and H. Ney, "Bootstrap estimates for confidence intervals in ASR performance
evaluation", ICASSP 2004.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv, ndtr, stdtrit

Floats = NDArray[np.float64]

RESAMPLES = 10_000
"""Draws behind an interval."""
LEAST_SPEAKERS = 10
"""With fewer people, drawing people tells nothing: then utterances are drawn."""
_AT_ONCE = 1 << 21  # numbers drawn at once: they stay in the cache
SEED = 2004
"""The same counts must give the same interval."""


@dataclass(frozen=True)
class Estimate:
    """A rate with its interval.

    Attributes:
        value: Pooled: all errors over all words.
        low: Lower end.
        high: Upper end.
        n: Utterances.
        speakers: People that were drawn; 0 where utterances were.
    """

    value: float
    low: float
    high: float
    n: int
    speakers: int = 0


@dataclass(frozen=True)
class Difference:
    """How two rates of the same utterances differ, B - A.

    Attributes:
        value: As a fraction.
        low: Lower end of its interval.
        high: Upper end.
        p: Two-sided p-value of no difference, from the same draws.
        n: Utterances.
        speakers: As in `Estimate`.
    """

    value: float
    low: float
    high: float
    p: float
    n: int
    speakers: int = 0


def rate(
    errors: ArrayLike,
    words: ArrayLike,
    speakers: Sequence[str] = (),
    *,
    alpha: float = 0.05,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Estimate:
    """Returns the pooled rate with its interval.

    The interval is the wider, at each end, of two: that of the draws, and Clopper and Pearson's
    exact one for as many words, since utterances without any error would leave the first one empty.

    Args:
        errors: Of each utterance, shape [N].
        words: Of its reference, shape [N]; at least one altogether.
        speakers: Who speaks in each; empty where unknown. People are drawn, each with all their
            utterances, where at least LEAST_SPEAKERS are known and no utterance is without one.
        alpha: Error probability of the interval.
        resamples: Draws.
        seed: Of the draws.

    Raises:
        ValueError: No words, or arrays of unequal length.
    """
    table = _table(errors, words)
    n = len(table)
    rows, people = clusters(table, speakers)
    drawn = draws(rows, resamples, seed)
    low, high = ends(drawn[:, 0] / drawn[:, 1], len(rows), alpha)
    wrong, said = (int(total) for total in table.sum(axis=0))
    least, most = exact_ends(min(wrong, said), said, alpha)
    return Estimate(wrong / said, max(0.0, min(low, least)), max(high, most), n, people)


def rate_difference(
    errors_a: ArrayLike,
    errors_b: ArrayLike,
    words: ArrayLike,
    speakers: Sequence[str] = (),
    *,
    alpha: float = 0.05,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Difference:
    """Returns the difference of two pooled rates, B - A, from draws of the same utterances.

    Both ends lie at least as far off as as many words without a changed error would leave open.

    Args:
        errors_a: Of each utterance for A, shape [N].
        errors_b: For B, in the same order.
        words: Of its reference, shape [N].
        speakers: As for `rate`.
        alpha: As for `rate`.
        resamples: As for `rate`.
        seed: As for `rate`.

    Raises:
        ValueError: As for `rate`.
    """
    change = np.asarray(errors_b, np.float64) - np.asarray(errors_a, np.float64)
    table = _table(change, words)
    rows, people = clusters(table, speakers)
    drawn = draws(rows, resamples, seed)
    changes = drawn[:, 0] / drawn[:, 1]
    low, high = ends(changes, len(rows), alpha)
    total, said = (float(one) for one in table.sum(axis=0))
    value = total / said
    _, unseen = exact_ends(0, int(said), alpha)
    tail = min(int((changes <= 0).sum()), int((changes >= 0).sum()))
    if len(rows) < 2:
        # One utterance drawn again is the same one: it tells nothing of others.
        tail = len(changes)
    p = min(1.0, 2 * (tail + 1) / (len(changes) + 1))
    return Difference(
        value, min(low, value - unseen), max(high, value + unseen), p, len(table), people
    )


def draws(table: ArrayLike, resamples: int = RESAMPLES, seed: int = SEED) -> Floats:
    """Returns the sums of the columns over rows drawn with repeats.

    Args:
        table: Shape [N, K]; the last column is the words.
        resamples: Draws.
        seed: The same seed draws the same rows of any table as long.

    Returns:
        Shape [at most resamples, K]; draws without a word are left out.
    """
    columns = np.asarray(table, np.float64)
    sums = np.concatenate([*_sums(columns, resamples, np.random.default_rng(seed))])
    return sums[sums[:, -1] > 0]


def _sums(columns: Floats, resamples: int, random: np.random.Generator) -> Iterator[Floats]:
    rows = len(columns)
    each = [np.ascontiguousarray(column) for column in columns.T]
    step = max(1, _AT_ONCE // rows)
    for start in range(0, resamples, step):
        count = min(step, resamples - start)
        index = random.integers(0, rows, (count, rows), dtype=np.int32)
        yield np.stack([column[index].sum(axis=1) for column in each], axis=1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns p-values after Holm's correction for that many tests, in the order given.

    S. Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Stat. 6, 1979.
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def exact_ends(errors: int, words: int, alpha: float = 0.05) -> tuple[float, float]:
    """Returns Clopper and Pearson's interval of a rate (Biometrika 26, 1934), as fractions."""
    low = 0.0 if not errors else float(betaincinv(errors, words - errors + 1, alpha / 2))
    high = 1.0 if errors == words else float(betaincinv(errors + 1, words - errors, 1 - alpha / 2))
    return low, high


def _table(errors: ArrayLike, words: ArrayLike) -> Floats:
    table = np.column_stack([np.asarray(errors, np.float64), np.asarray(words, np.float64)])
    if not table.size or table[:, 1].sum() <= 0:
        raise ValueError("no words")
    return table


def clusters(table: Floats, speakers: Sequence[str]) -> tuple[Floats, int]:
    """Returns the rows to draw: sums by speaker and the number of them, or the table and 0.

    Args:
        table: Shape [N, K], a row for each utterance.
        speakers: As for `rate`.

    Raises:
        ValueError: Not as many speakers as rows.
    """
    names = sorted(set(speakers))
    if len(names) < LEAST_SPEAKERS or "" in names:
        return table, 0
    if len(speakers) != len(table):
        raise ValueError("as many speakers as utterances")
    index = np.searchsorted(np.array(names), np.array(list(speakers)))
    sums = np.zeros((len(names), table.shape[1]))
    np.add.at(sums, index, table)
    return sums, len(names)


def ends(values: Floats, drawn: int, alpha: float) -> tuple[float, float]:
    """Returns the ends of the interval that draws give; infinite for fewer than two rows.

    Args:
        values: Of the draws, shape [B].
        drawn: Rows that were drawn from.
        alpha: Error probability of the interval.
    """
    if drawn < 2:
        return -math.inf, math.inf
    share = tail(drawn, alpha)
    low, high = np.quantile(values, (share, 1 - share))
    return float(low), float(high)


def tail(drawn: int, alpha: float) -> float:
    """Returns the share of the draws that lies beyond each end of an interval.

    Less than alpha / 2, as Student's distribution is wider than the normal: plain quantiles are too
    narrow by that much for few rows (T. Hesterberg, "What teachers should know about the
    bootstrap", The American Statistician 69, 2015, section 5).

    Args:
        drawn: Rows that are drawn from, 2 or more.
        alpha: Error probability of the interval.
    """
    spread = math.sqrt(drawn / (drawn - 1)) * float(stdtrit(drawn - 1, 1 - alpha / 2))
    return float(ndtr(-spread))
