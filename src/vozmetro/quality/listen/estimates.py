"""Statistics of ratings: means, intervals, paired tests, strengths, and how many more are needed.

All of it is pure: arrays in, numbers out, seeded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vozmetro.errors import MissingExtraError

ALPHA = 0.05
POWER = 0.8
RESAMPLES = 4000
STRENGTH_RESAMPLES = 500
MOST_LISTENERS_TOLD = 10_000
_PRIOR_WINS = 0.1


class Interval(NamedTuple):
    """A mean and its 95 % interval; NaN ends where there is none."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Votes:
    """Votes with who gave them on what.

    Attributes:
        listeners: Who, shape [N], any integers.
        items: On what, shape [N], any integers.
        values: Shape [N].
    """

    listeners: NDArray[np.int64]
    items: NDArray[np.int64]
    values: NDArray[np.float64]

    @classmethod
    def of(cls, rows: Sequence[tuple[int, int, float]]) -> Votes:
        """Makes votes of (listener, item, value)."""
        columns = list(zip(*rows, strict=True)) if rows else [(), (), ()]
        return cls(
            np.array(columns[0], dtype=np.int64),
            np.array(columns[1], dtype=np.int64),
            np.array(columns[2], dtype=np.float64),
        )

    def per_listener(self) -> NDArray[np.float64]:
        """Returns each listener's mean, shape [L], in the order of their numbers."""
        _, index = np.unique(self.listeners, return_inverse=True)
        return np.asarray(np.bincount(index, self.values) / np.bincount(index))

    def tables(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Returns sums and counts by listener and item, both of shape [L, I]."""
        who, row = np.unique(self.listeners, return_inverse=True)
        what, column = np.unique(self.items, return_inverse=True)
        sums, counts = np.zeros((len(who), len(what))), np.zeros((len(who), len(what)))
        np.add.at(sums, (row, column), self.values)
        np.add.at(counts, (row, column), 1.0)
        return sums, counts


def t_interval(values: NDArray[np.float64]) -> Interval:
    """Returns the mean of votes with its t-interval: mean +- t(n - 1) s / sqrt(n).

    The arithmetic of ITU-T P.800 and P.808. It takes votes for independent, which those of one
    listener are not: see `two_way` for the interval that holds for other listeners and items.

    Args:
        values: Votes, shape [N].
    """
    from scipy.stats import t

    mean = float(np.mean(values))
    if len(values) < 2:
        return Interval(mean, math.nan, math.nan)
    half = float(t.ppf(1 - ALPHA / 2, len(values) - 1) * np.std(values, ddof=1))
    half /= math.sqrt(len(values))
    return Interval(mean, mean - half, mean + half)


def two_way(votes: Votes, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """Returns the mean of votes with the interval of a bootstrap over listeners and items.

    Listeners and items are drawn again independently of each other (the pigeonhole bootstrap, Owen
    2007, Ann. Appl. Stat. 1), because both are a sample: of people and of sentences. Its spread is
    widened to a t-interval, because with few listeners quantiles of a bootstrap are too narrow.

    Args:
        votes: At least one.
        seed: Of the draws.
        resamples: How many.

    Returns:
        NaN ends with fewer than two listeners. With one item, the interval for other listeners.
    """
    from scipy.stats import t

    sums, counts = votes.tables()
    mean = float(sums.sum() / counts.sum())
    people, _ = sums.shape
    if people < 2:
        return Interval(mean, math.nan, math.nan)
    widening, freedom = _few(sums, counts)
    spread = _spread(sums, counts, seed, resamples) * widening
    half = float(t.ppf(1 - ALPHA / 2, freedom)) * spread
    return Interval(mean, mean - half, mean + half)


def _few(sums: NDArray[np.float64], counts: NDArray[np.float64]) -> tuple[float, float]:
    """How much few items widen a spread that allows for few listeners, and the degrees of freedom.

    The two parts of the mean's variance are told apart by their linearised terms, and their degrees
    of freedom put together as Satterthwaite does (Biometrics Bulletin 2, 1946): where the items
    differ most, it is their number that counts. One item tells nothing of others: then the interval
    is that of other listeners alone.
    """
    people, things = sums.shape
    rest = sums - sums.sum() / counts.sum() * counts
    by_listener = float((rest.sum(axis=1) ** 2).sum()) * people / (people - 1)
    if things < 2:
        return 1.0, people - 1.0
    plain = float((rest.sum(axis=0) ** 2).sum())
    by_item = plain * things / (things - 1)
    both = by_listener + by_item
    if both <= 0:
        return 1.0, people - 1.0
    allowed = by_listener + plain * people / (people - 1)
    freedom = both**2 / (by_listener**2 / (people - 1) + by_item**2 / (things - 1))
    return max(1.0, math.sqrt(both / allowed)), freedom


def _spread(
    sums: NDArray[np.float64],
    counts: NDArray[np.float64],
    seed: int,
    resamples: int,
    over: Literal["both", "listeners", "items"] = "both",
) -> float:
    """Returns the standard deviation of the mean over draws of listeners, of items, or of both."""
    people, things = sums.shape
    rng = np.random.default_rng((seed, people, things))

    def draw(n: int, again: bool) -> NDArray[np.float64]:
        if not again:
            return np.ones((resamples, n))
        return rng.multinomial(n, np.full(n, 1 / n), resamples).astype(np.float64)

    who, what = draw(people, over != "items"), draw(things, over != "listeners")
    total = ((who @ sums) * what).sum(axis=1)
    n = ((who @ counts) * what).sum(axis=1)
    means = total[n > 0] / n[n > 0]
    # A draw of n from n has a variance smaller by (n - 1) / n than that of the sample.
    return float(np.std(means)) * math.sqrt(people / (people - 1))


def paired_p(differences: NDArray[np.float64]) -> float:
    """Returns the two-sided p of Wilcoxon's signed-rank test over listeners.

    Args:
        differences: One mean difference per listener, shape [L]; zeros are left out.
    """
    from scipy.stats import wilcoxon

    # Means of the same votes in another order differ in their last bits: that is no difference.
    rounded = np.round(differences, 9)
    if not np.any(rounded):
        return 1.0
    nonzero = rounded[rounded != 0]
    ties = len(np.unique(np.abs(nonzero))) < len(nonzero)
    # With ties the exact distribution does not hold; for few, signs are enumerated instead.
    if ties and len(nonzero) <= 13:
        return _enumerated_p(nonzero)
    method = "approx" if ties or len(nonzero) > 50 else "exact"
    return float(wilcoxon(nonzero, method=method).pvalue)


def _enumerated_p(nonzero: NDArray[np.float64]) -> float:
    """Returns the exact p with ties: over all ways to sign the ranks."""
    from scipy.stats import rankdata

    ranks = rankdata(np.abs(nonzero))
    signs = (np.arange(1 << len(ranks))[:, None] >> np.arange(len(ranks))) & 1
    sums = signs @ ranks
    middle = ranks.sum() / 2
    found = abs(float(ranks[nonzero > 0].sum()) - middle)
    return float(np.mean(np.abs(sums - middle) >= found - 1e-9))


def strengths(wins: NDArray[np.float64], seed: int = 0) -> NDArray[np.float64]:
    """Returns Bradley-Terry strengths with their intervals over listeners.

    Fitted by choix (iterative Luce spectral ranking, Maystre and Grossglauser 2015), with a tenth
    of a win added to each side of each pair, so that a system that never lost stays finite.

    Args:
        wins: Shape [L, K, K]: how often, for listener l, system i was above system j.
        seed: Of the draws of listeners.

    Returns:
        Shape [K, 3]: strength, 2.5 % and 97.5 % quantile over the draws, in log-odds.

    Raises:
        MissingExtraError: choix is not installed.
    """
    try:
        import choix
    except ModuleNotFoundError as error:
        raise MissingExtraError("listen", "choix") from error

    people, systems, _ = wins.shape
    prior = _PRIOR_WINS * (1 - np.eye(systems))

    def fit(table: NDArray[np.float64]) -> NDArray[np.float64]:
        found = choix.ilsr_pairwise_dense(table + prior, max_iter=2000, tol=1e-6)
        return np.asarray(found - np.mean(found))

    rng = np.random.default_rng((seed, people, systems))
    drawn = rng.multinomial(people, np.full(people, 1 / people), STRENGTH_RESAMPLES)
    fitted = np.stack([fit(np.tensordot(weights, wins, axes=1)) for weights in drawn])
    ends = np.quantile(fitted, [ALPHA / 2, 1 - ALPHA / 2], axis=0)
    return np.stack([fit(wins.sum(axis=0)), *ends], axis=1)


def more_for_half_width(votes: Votes, wanted: float, seed: int = 0) -> int | None:
    """Returns how many listeners more bring the half-width of `two_way` to the wanted one.

    The variance of the mean has a part that shrinks with more listeners, and one, from the items
    themselves, that only more items would shrink. Drawn alone, listeners and items each bring the
    single votes' variance with them; drawn together, it counts three times (Owen 2007): what is
    left over is its size, which is taken off the items' part.

    Args:
        votes: Of one system.
        wanted: Half-width in units of the votes.
        seed: As for `two_way`.

    Returns:
        0 where it is reached; None where no number of listeners reaches it, or where fewer than
        two have answered.
    """
    from scipy.stats import t

    sums, counts = votes.tables()
    people = len(sums)
    if people < 2:
        return None
    whole = _spread(sums, counts, seed, RESAMPLES) ** 2
    of_items, of_listeners = (
        _spread(sums, counts, seed, RESAMPLES, over) ** 2 for over in ("items", "listeners")
    )
    single = max(0.0, whole - of_items - of_listeners)
    fixed = max(0.0, of_items - single)
    n = np.arange(people, MOST_LISTENERS_TOLD + people + 1)
    half = t.ppf(1 - ALPHA / 2, n - 1) * np.sqrt(fixed + (whole - fixed) * people / n)
    enough = np.flatnonzero(half <= wanted)
    return int(enough[0]) if len(enough) else None


def more_to_tell_apart(differences: NDArray[np.float64], alpha: float = ALPHA) -> int | None:
    """Returns how many listeners more tell two systems apart, with a power of 80 %.

    By the paired t-test, which Wilcoxon's follows closely (its efficiency is 0.955 for normal
    differences, and so much more is asked for).

    Args:
        differences: One mean difference per listener, shape [L].
        alpha: Level of the test; of several tests, its share.

    Returns:
        At least 1. None with fewer than two listeners, no difference, or more than 10,000 needed.
    """
    from scipy.stats import nct, t

    n = len(differences)
    if n < 2:
        return None
    mean, sd = abs(float(np.mean(differences))), float(np.std(differences, ddof=1))
    if mean < 1e-9:
        return None
    effect = mean / max(sd, 1e-9)
    # All signs alike have a p of 2 / 2^n: fewer listeners cannot reach the level at all.
    least = math.ceil(1 + math.log2(1 / alpha))
    total = np.arange(max(n + 1, least), MOST_LISTENERS_TOLD + n + 1)
    used = total * 0.955
    critical = t.ppf(1 - alpha / 2, used - 1)
    # The other tail of the noncentral t adds nothing where there is any power at all.
    with np.errstate(all="ignore"):
        power = nct.sf(critical, used - 1, np.minimum(effect * np.sqrt(used), 37.0))
    enough = np.flatnonzero(power >= POWER)
    return int(total[enough[0]] - n) if len(enough) else None
