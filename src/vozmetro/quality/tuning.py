"""Which way of running a model is the fastest that hears as well: from a study of all of them.

What each change gains is measured beside what it was said to gain; a change that costs words is
left out, and so is one of which the words that it costs cannot be told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vozmetro.measure.quality_records import CLEAN, QualityStudy
from vozmetro.quality.merging import EVERY_LANGUAGE
from vozmetro.quality.summary import (
    Row,
    SystemQuality,
    pairs,
    study_takes,
    summarize,
)
from vozmetro.resampling import Difference

NARROW = "rate8k"
ALLOWED, ALLOWED_HIGH = 0.005, 0.015
"""WER that a change may cost (half a point), and upper end of its interval."""


@dataclass(frozen=True)
class Change:
    """Something that is tried.

    Attributes:
        words: The subject with it.
        against: The subject without it, that its gain is told by.
        tip: Key of its name in the catalogues' `tune.` section; empty for none of its own.
        expected: Gain that the guide expects, as the least and most share of the latency that goes
            away; None where it expects none.
    """

    words: str
    against: str
    tip: str = ""
    expected: tuple[float, float] | None = None


@dataclass(frozen=True)
class Gain:
    """Share of the latency that goes away: `1 - after / before`, with its 95 % interval.

    Attributes:
        value: Of the median ratio over utterances.
        low: Lower end.
        high: Upper end.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Tried:
    """What a change did.

    Attributes:
        change: The change.
        p50_ms: Median latency in ms.
        gain: Against the subject without it; None where there is nothing to compare.
        wer: WER of all utterances as recorded.
        cost: WER against the baseline; None for the baseline.
        allowed: Whether it costs no more words than allowed, as far as can be told.
    """

    change: Change
    p50_ms: float
    gain: Gain | None
    wer: float
    cost: Difference | None
    allowed: bool


@dataclass(frozen=True)
class Tuning:
    """What was tried and what is best.

    Attributes:
        baseline: Whose words the others are held against.
        tried: Every change in the order of the study.
        narrow: What 8 kHz gains and costs with the best one; None where it was not tried.
        best: The fastest that is allowed; None if none is.
    """

    baseline: str
    tried: tuple[Tried, ...]
    narrow: Tried | None
    best: Tried | None


def tuning(
    study: QualityStudy,
    changes: Sequence[Change],
    *,
    allowed: float = ALLOWED,
    allowed_high: float = ALLOWED_HIGH,
) -> Tuning:
    """Reads a study of changes; its first subject is the baseline.

    Args:
        study: With a subject for each change, named as the change's words.
        changes: What was tried.
        allowed: WER that a change may cost, as a fraction.
        allowed_high: Upper end of the interval of that.
    """
    systems = [
        summarize(one.subject.name, study_takes(study, number))
        for number, one in enumerate(study.systems)
    ]
    known = {one.name: one for one in systems if one.row()}
    costs = {
        pair.b: pair.difference
        for pair in pairs([one for one in systems if one.row()])
        if pair.condition == CLEAN and pair.language in (EVERY_LANGUAGE, _only(systems[0]))
    }

    def judged(change: Change, row: Row, before: Row | None, cost: Difference | None) -> Tried:
        told = cost is not None and cost.value <= allowed and cost.high <= allowed_high
        fits = told or change.words == systems[0].name
        gain = _gain(before, row) if before is not None and before is not row else None
        return Tried(change, float(np.median(row.ms)), gain, row.wer.value, cost, fits)

    tried = []
    for change in changes:
        if change.words not in known:
            continue
        row, mate = known[change.words].row(), known.get(change.against)
        if row is not None:
            before = mate.row() if mate else None
            tried.append(judged(change, row, before, costs.get(change.words)))
    fit = [one for one in tried if one.allowed]
    best = min(fit, key=lambda one: one.p50_ms, default=None)
    narrow = None
    if best is not None and (thin := known[best.change.words].row(NARROW)) is not None:
        change = Change(best.change.words, best.change.words, "narrow", (0.15, 0.25))
        wide = known[best.change.words].row()
        narrow = judged(change, thin, wide, _cost(wide, thin))
    return Tuning(systems[0].name, tuple(tried), narrow, best)


def _only(system: SystemQuality) -> str:
    row = system.row()
    return row.language if row else ""


def _gain(before: Row, after: Row) -> Gain:
    """Paired by utterance: the median of the ratios, its interval by drawing utterances."""
    known = {take.item.id: float(np.median(take.ms)) for take in before.takes}
    ratios = np.array([
        np.log(np.median(take.ms) / known[take.item.id])
        for take in after.takes
        if take.item.id in known
    ])  # fmt: skip
    rng = np.random.default_rng(0)
    drawn = np.median(rng.choice(ratios, (2000, len(ratios))), axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Gain(*(float(1 - np.exp(one)) for one in (np.median(ratios), high, low)))


def _cost(wide: Row | None, thin: Row) -> Difference | None:
    if wide is None:
        return None
    both = [
        SystemQuality(name, (Row(row.language, CLEAN, row.takes),))
        for name, row in (("wide", wide), ("thin", thin))
    ]
    return next((pair.difference for pair in pairs(both)), None)
