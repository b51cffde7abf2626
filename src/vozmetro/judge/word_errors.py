"""Word errors as evidence: a rate with an interval that few utterances cannot fool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vozmetro.judge.evidence import Evidence, base_of, difference, why_unsound
from vozmetro.measure.records import ComparisonRecord, Run
from vozmetro.resampling import rate, rate_difference

Counts = Sequence[tuple[int, int]]
"""For each utterance of recorded speech: its word errors and the words of its reference."""


def from_errors(run: Run, counts: Counts, file: str = "") -> list[Evidence]:
    """Returns a run's WER in percent as evidence; none where no recorded speech has words.

    The interval is that of `resampling.rate`.

    Args:
        run: What was measured.
        counts: Of the items that are recorded speech.
        file: Where the run lies.
    """
    base = _quality_base(run, file)
    words = sum(said for _, said in counts)
    if not words:
        return []
    found = rate([wrong for wrong, _ in counts], [said for _, said in counts])
    return [
        replace(
            base,
            metric="wer",
            value=100 * found.value,
            low=100 * found.low,
            high=100 * found.high,
            n=len(counts),
        )
    ]


def from_error_pairs(
    record: ComparisonRecord, a: Counts, b: Counts, file: str = ""
) -> list[Evidence]:
    """Returns what a precision costs in WER, in percentage points, of the same utterances.

    Args:
        record: Both runs.
        a: Of the first subject's items that are recorded speech.
        b: Of the second's, in the same order.
        file: Where the record lies.
    """
    pair = difference(record.a.subject, record.b.subject)
    base = _quality_base(record.a, file)
    words = sum(said for _, said in a)
    if pair is None or not words or len(a) != len(b):
        return []
    what, swapped = pair
    before, after = (b, a) if swapped else (a, b)
    change = rate_difference(
        [wrong for wrong, _ in before], [wrong for wrong, _ in after], [said for _, said in a]
    )
    dummy = record.b.subject.weights == "dummy" or base.about.dummy
    return [
        replace(
            base,
            metric="wer_increase",
            value=100 * change.value,
            low=100 * change.low,
            high=100 * change.high,
            about=replace(base.about, dummy=dummy),
            source="comparison",
            id=record.id,
            n=len(a),
            pair=what,
            unsound="unfair" if record.unfair else base.unsound or why_unsound(record.b),
        )
    ]


def _quality_base(run: Run, file: str) -> Evidence:
    """The run's other evidence, for where it comes from; only recorded speech was counted."""
    return replace(base_of(run, file), synthetic=False, machine="")
