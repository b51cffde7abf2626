"""Word errors of many utterances as whole numbers that add up, in any order and any division.

The sums of errors, words, their squares and their products are all that the variance of a ratio
needs (W. G. Cochran, "Sampling Techniques", 3rd edition 1977, section 2.11). Python's integers have
no end, so that nothing is rounded before the last division.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from scipy.special import stdtrit

from vozmetro.measure.quality_records import CLEAN, ErrorCounts, ErrorSums, Merged
from vozmetro.quality.hallucination import has_loop
from vozmetro.quality.wer import Scored, Transcribed, score
from vozmetro.resampling import LEAST_SPEAKERS, Estimate, exact_ends
from vozmetro.speech.normalize import normalize

EVERY_LANGUAGE = "*"
"""Stands for all languages together; an unknown one is empty."""
MOST_LATENCIES = 1000
"""Latencies that are kept of many utterances."""


@dataclass(frozen=True)
class Counted:
    """One utterance that was heard.

    Attributes:
        id: Its name; the digest of it says whether its latency is kept.
        text: What was said.
        output: What was heard.
        language: ISO 639 code, empty where unknown.
        speaker: Who speaks, empty where unknown.
        seconds: Length.
        ms: Latency.
    """

    id: str
    text: str
    output: str
    language: str
    speaker: str
    seconds: float
    ms: float


@dataclass(frozen=True)
class Counts:
    """Utterances with their errors.

    Attributes:
        rows: Those whose reference has words, in their order.
        folded: Their errors where accents do not count; None for no row.
        exact: Their errors where they do.
        merged: Sums by language, all languages together among them.
    """

    rows: tuple[Counted, ...]
    folded: Scored | None
    exact: Scored | None
    merged: tuple[Merged, ...]


def count(heard: Sequence[Counted]) -> Counts:
    """Returns the errors of utterances, one by one and summed.

    An utterance whose reference has no word is left out, as everywhere else.

    Args:
        heard: The utterances. Where speakers matter, all utterances of a speaker must be here.
    """
    rows = tuple(one for one in heard if normalize(one.text, one.language))
    if not rows:
        return Counts((), None, None, ())
    said = [Transcribed(one.text, one.output, one.language, one.speaker) for one in rows]
    folded, exact = score(said, accents=False), score(said, accents=True)
    groups = [EVERY_LANGUAGE, *sorted({one.language for one in rows})]
    return Counts(
        rows, folded, exact, tuple(_merged(group, rows, folded, exact) for group in groups)
    )


def _merged(language: str, rows: Sequence[Counted], folded: Scored, exact: Scored) -> Merged:
    index = [at for at, one in enumerate(rows) if language in {EVERY_LANGUAGE, one.language}]
    mine = [rows[at] for at in index]
    names = {one.speaker for one in mine if one.speaker}
    return Merged(
        language=language,
        condition=CLEAN,
        utterances=len(mine),
        nameless=sum(not one.speaker for one in mine),
        speakers=sorted(names)[:LEAST_SPEAKERS],
        folded=_counts(folded, index),
        exact=_counts(exact, index),
        loops=sum(has_loop(one.output, one.text) for one in mine),
        audio_ms=sum(round(1000 * one.seconds) for one in mine),
        computing_us=sum(round(1000 * one.ms) for one in mine),
        latencies=_fewest({digest(one.id): one.ms for one in mine}),
    )


def digest(name: str) -> str:
    """Returns sixteen hexadecimal digits that stand for a name."""
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def _fewest(latencies: dict[str, float]) -> dict[str, float]:
    """The first ones by digest: a part that neither order nor division changes."""
    return {key: latencies[key] for key in sorted(latencies)[:MOST_LATENCIES]}


def _counts(scored: Scored, index: Sequence[int]) -> ErrorCounts:
    errors, words = scored.errors[index], scored.words[index]
    people: dict[str, tuple[int, int]] = {}
    for at, wrong, said in zip(index, errors.tolist(), words.tolist(), strict=True):
        name = scored.speakers[at]
        if name:
            before = people.get(name, (0, 0))
            people[name] = (before[0] + wrong, before[1] + said)
    columns = {
        name: int(getattr(scored, name)[index].sum())
        for name in ("substitutions", "deletions", "insertions", "words", "char_errors", "chars")
    }
    return ErrorCounts(
        **columns,
        by_utterance=sums(zip(errors.tolist(), words.tolist(), strict=True)),
        by_speaker=sums(people.values()),
    )


def sums(units: Iterable[tuple[int, int]]) -> ErrorSums:
    """Returns the sums over units.

    Args:
        units: Errors and words of each.
    """
    totals = [0] * 6
    for wrong, said in units:
        each = (1, wrong, said, wrong * wrong, said * said, wrong * said)
        totals = [total + one for total, one in zip(totals, each, strict=True)]
    return ErrorSums(**dict(zip(ErrorSums.model_fields, totals, strict=True)))


def merge(parts: Iterable[Merged]) -> list[Merged]:
    """Returns the sums of parts by language and condition, all languages together first.

    The order of the parts does not matter, and neither does how utterances were divided among
    them, as long as no speaker is in two.

    Args:
        parts: Of any languages and conditions.
    """
    found: dict[tuple[str, str], Merged] = {}
    for part in parts:
        key = (part.condition, part.language)
        found[key] = _added(found[key], part) if key in found else part
    return [found[key] for key in sorted(found, key=_order)]


def _order(key: tuple[str, str]) -> tuple[bool, str, bool, bool, str]:
    condition, language = key
    return (condition != CLEAN, condition, language != EVERY_LANGUAGE, language != "es", language)


def _added(a: Merged, b: Merged) -> Merged:
    return Merged(
        language=a.language,
        condition=a.condition,
        utterances=a.utterances + b.utterances,
        nameless=a.nameless + b.nameless,
        # The first of both are the first of all.
        speakers=sorted({*a.speakers, *b.speakers})[:LEAST_SPEAKERS],
        folded=_added_counts(a.folded, b.folded),
        exact=_added_counts(a.exact, b.exact),
        loops=a.loops + b.loops,
        audio_ms=a.audio_ms + b.audio_ms,
        computing_us=a.computing_us + b.computing_us,
        latencies=_fewest({**a.latencies, **b.latencies}),
    )


def _added_counts(a: ErrorCounts, b: ErrorCounts) -> ErrorCounts:
    found: dict[str, int | ErrorSums] = {}
    for name in ErrorCounts.model_fields:
        one, other = getattr(a, name), getattr(b, name)
        if isinstance(one, ErrorSums):
            found[name] = ErrorSums(
                **{key: getattr(one, key) + getattr(other, key) for key in ErrorSums.model_fields}
            )
        else:
            found[name] = one + other
    return ErrorCounts(**found)  # type: ignore[arg-type]


def people_drawn(merged: Merged) -> int:
    """Returns the speakers that an interval rests on; 0 where it rests on utterances.

    The rule of `resampling.rate`: ten known speakers or more, and no utterance without one.
    """
    clustered = len(merged.speakers) >= LEAST_SPEAKERS and not merged.nameless
    return merged.folded.by_speaker.units if clustered else 0


def merged_rate(merged: Merged, counts: ErrorCounts, *, alpha: float = 0.05) -> Estimate:
    """Returns the pooled rate with its interval, from sums alone.

    The interval is that of a ratio of two sums, with Student's quantiles, and never narrower than
    the exact one for as many words: what `resampling.rate` gives by drawing, for many utterances.

    Args:
        merged: The utterances.
        counts: Its `folded` or `exact`.
        alpha: Error probability of the interval.

    Raises:
        ValueError: No words.
    """
    people = people_drawn(merged)
    total = counts.by_speaker if people else counts.by_utterance
    errors, words, units = total.errors, total.words, total.units
    if words <= 0:
        raise ValueError("no words")
    value = errors / words
    low, high = -math.inf, math.inf
    if units > 1:
        ratio = Fraction(errors, words)
        spread = (
            total.errors_squared
            - 2 * ratio * total.errors_words
            + ratio * ratio * total.words_squared
        )
        variance = float(spread * Fraction(units, units - 1) / (words * words))
        half = float(stdtrit(units - 1, 1 - alpha / 2)) * math.sqrt(max(0.0, variance))
        low, high = value - half, value + half
    least, most = exact_ends(min(errors, words), words, alpha)
    return Estimate(value, max(0.0, min(low, least)), max(high, most), merged.utterances, people)


def with_rest(kept: Scored | None, counts: ErrorCounts) -> Scored:
    """Returns errors whose last row is all that the rows before it leave of the counts.

    Args:
        kept: Errors of some of the utterances, one by one.
        counts: Of all utterances.
    """
    names = ("substitutions", "deletions", "insertions", "words", "char_errors", "chars")
    columns = {}
    for name in names:
        own = np.zeros(0, np.int64) if kept is None else getattr(kept, name)
        columns[name] = np.append(own, getattr(counts, name) - int(own.sum()))
    return Scored(**columns, speakers=(*(() if kept is None else kept.speakers), ""))
