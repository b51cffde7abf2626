"""Systems ranked by predicted quality, and where the predictors contradict each other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.special import ndtr, stdtrit

from vozmetro import resampling
from vozmetro.errors import InputError

RANKED = ("dnsmos_ovrl", "dnsmos_sig", "dnsmos_bak", "dnsmos_p808", "plcmos")
"""Predictors that need no reference: with one, other readings of a sentence cannot be compared."""


@dataclass(frozen=True)
class Clip:
    """One rated clip.

    Attributes:
        system: Who made it: a voice, or a human reader.
        sentence: What is said; the same key in every system for the same words.
        language: ISO 639-1.
        scores: From `predict`.
    """

    system: str
    sentence: str
    language: str
    scores: Mapping[str, float]


@dataclass(frozen=True)
class Standing:
    """A system's mean with a 95 % interval over sentences, on the metric's own scale."""

    system: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Gap:
    """Mean of `better` - `worse` on the same sentences; the interval holds for all gaps at once."""

    metric: str
    better: str
    worse: str
    value: float
    low: float
    high: float

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0


@dataclass(frozen=True)
class Disagreement:
    """Two predictors that clearly rank the same two systems in opposite orders."""

    first: Gap
    second: Gap


@dataclass(frozen=True)
class Ranking:
    """Systems of one language, by each predictor.

    Attributes:
        language: ISO 639-1.
        sentences: Shared by all systems.
        standings: By metric, the best first.
        gaps: Of every two systems, by metric.
        disagreements: Pairs of predictors that contradict each other.
    """

    language: str
    sentences: int
    standings: Mapping[str, tuple[Standing, ...]]
    gaps: tuple[Gap, ...]
    disagreements: tuple[Disagreement, ...]


def rank(clips: Sequence[Clip], language: str, *, alpha: float = 0.05) -> Ranking:
    """Ranks systems by every predictor on the sentences that all of them speak.

    Repeats of a sentence are averaged. Intervals come from drawing sentences again, the same ones
    for all systems; those of gaps are widened (Bonferroni) so that all of them hold together with
    1 - alpha, and noise alone is seldom called a disagreement. No order is one of naturalness.

    Args:
        clips: Of one language.
        language: That language.
        alpha: Error probability.

    Raises:
        InputError: `ranking_languages` for clips in another language; `ranking_few` for fewer than
            two systems, or no shared sentence.
    """
    others = sorted({clip.language or "–" for clip in clips} - {language})
    if others:
        raise InputError("ranking_languages", found=", ".join(others), wanted=language)
    systems = sorted({clip.system for clip in clips})
    said = {system: {c.sentence for c in clips if c.system == system} for system in systems}
    shared = sorted(set.intersection(*said.values())) if said else []
    if len(systems) < 2 or not shared:
        raise InputError("ranking_few", found=len(systems), shared=len(shared))
    metrics = [key for key in RANKED if all(key in clip.scores for clip in clips)]
    standings, gaps = {}, []
    together = alpha / max(1, len(metrics) * math.comb(len(systems), 2))
    for metric in metrics:
        table = _table(clips, systems, shared, metric)
        columns = np.column_stack([table, np.ones(len(shared))])
        drawn = resampling.draws(columns)[:, :-1] / len(shared)
        standings[metric] = _standings(systems, table, drawn, alpha)
        gaps += [
            _gap(
                metric=metric,
                systems=systems,
                pair=pair,
                table=table,
                drawn=drawn,
                alpha=together,
            )
            for pair in combinations(range(len(systems)), 2)
        ]
    return Ranking(language, len(shared), standings, tuple(gaps), _disagreements(gaps))


def _table(
    clips: Sequence[Clip], systems: Sequence[str], shared: Sequence[str], metric: str
) -> resampling.Floats:
    """Mean score of each sentence by each system, shape [sentences, systems]."""
    found: dict[tuple[str, str], list[float]] = {}
    for clip in clips:
        found.setdefault((clip.sentence, clip.system), []).append(clip.scores[metric])
    return np.array([[np.mean(found[key, system]) for system in systems] for key in shared])


def _standings(
    systems: Sequence[str], table: resampling.Floats, drawn: resampling.Floats, alpha: float
) -> tuple[Standing, ...]:
    every = [
        Standing(system, float(table[:, i].mean()), *interval(drawn[:, i], len(table), alpha))
        for i, system in enumerate(systems)
    ]
    return tuple(sorted(every, key=lambda one: -one.value))


def _gap(
    *,
    metric: str,
    systems: Sequence[str],
    pair: tuple[int, int],
    table: resampling.Floats,
    drawn: resampling.Floats,
    alpha: float,
) -> Gap:
    a, b = pair
    if table[:, a].mean() < table[:, b].mean():
        a, b = b, a
    low, high = interval(drawn[:, a] - drawn[:, b], len(table), alpha)
    value = float((table[:, a] - table[:, b]).mean())
    return Gap(metric, systems[a], systems[b], value, low, high)


def _disagreements(gaps: Sequence[Gap]) -> tuple[Disagreement, ...]:
    clear = [gap for gap in gaps if gap.clear]
    return tuple(
        Disagreement(first, second)
        for first, second in combinations(clear, 2)
        if (first.better, first.worse) == (second.worse, second.better)
    )


def interval(values: resampling.Floats, drawn: int, alpha: float) -> tuple[float, float]:
    """Returns quantiles of draws, spread as Student's distribution is wider than the normal.

    T. Hesterberg, "What teachers should know about the bootstrap", The American Statistician 69,
    2015, section 5. Without bounds where fewer than three sentences were drawn.

    Args:
        values: The draws.
        drawn: Sentences behind each.
        alpha: Error probability.
    """
    if drawn < 3:
        return -math.inf, math.inf
    spread = math.sqrt(drawn / (drawn - 1)) * float(stdtrit(drawn - 1, 1 - alpha / 2))
    low, high = np.quantile(values, (float(ndtr(-spread)), 1 - float(ndtr(-spread))))
    return float(low), float(high)
