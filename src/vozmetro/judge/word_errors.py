"""Word errors as evidence: a rate with an interval that few utterances cannot fool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.special import betaincinv

from vozmetro.judge.evidence import Evidence, base_of, difference, why_unsound
from vozmetro.judge.stationarity import Floats
from vozmetro.measure.records import ComparisonRecord, Run

RESAMPLES = 2000
Counts = Sequence[tuple[int, int]]
"""For each utterance of recorded speech: its word errors and the words of its reference."""


def from_errors(run: Run, counts: Counts, file: str = "") -> list[Evidence]:
    """Returns a run's WER in percent as evidence; none where no recorded speech has words.

    The interval is the wider, at each end, of two: utterances drawn again with repeats (M. Bisani
    and H. Ney, "Bootstrap estimates for confidence intervals in ASR performance evaluation",
    ICASSP 2004), since errors come in the same utterances; and Clopper and Pearson's exact one for
    as many words, since utterances without any error would leave the first one empty.

    Args:
        run: What was measured.
        counts: Of the items that are recorded speech.
        file: Where the run lies.
    """
    base = _quality_base(run, file)
    words = sum(said for _, said in counts)
    if not words:
        return []
    table = np.array(counts, float)
    drawn = _resampled(table)
    rates = 100 * drawn[:, 0] / drawn[:, 1]
    low, high = np.quantile(rates, (0.025, 0.975))
    least, most = _exact_ends(min(int(table[:, 0].sum()), words), words)
    rate = 100 * float(table[:, 0].sum()) / words
    found = replace(base, metric="wer", value=rate, n=len(counts))
    return [replace(found, low=min(float(low), least), high=max(float(high), most))]


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
    table = np.array(
        [(two - one, said) for (one, said), (two, _) in zip(before, after, strict=True)]
    )
    drawn = _resampled(table.astype(float))
    low, high = np.quantile(100 * drawn[:, 0] / drawn[:, 1], (0.025, 0.975))
    # Where no utterance changed, as many more words might still have shown a change.
    _, unseen = _exact_ends(0, words)
    change = 100 * float(table[:, 0].sum()) / words
    dummy = record.b.subject.weights == "dummy" or base.about.dummy
    return [
        replace(
            base,
            metric="wer_increase",
            value=change,
            low=min(float(low), change - unseen),
            high=max(float(high), change + unseen),
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


def _resampled(table: Floats) -> Floats:
    """Sums of the columns of `table` [N, 2] over N rows drawn with repeats: [RESAMPLES, 2]."""
    # A fixed seed: the same records must give the same verdict.
    random = np.random.default_rng(2004)
    times = random.multinomial(len(table), np.full(len(table), 1 / len(table)), RESAMPLES)
    drawn: Floats = times @ table
    return drawn[drawn[:, 1] > 0]


def _exact_ends(errors: int, words: int, alpha: float = 0.05) -> tuple[float, float]:
    """Clopper and Pearson's interval of a rate, in percent (Biometrika 26, 1934)."""
    low = 0.0 if not errors else float(betaincinv(errors, words - errors + 1, alpha / 2))
    high = 1.0 if errors == words else float(betaincinv(errors + 1, words - errors, 1 - alpha / 2))
    return 100 * low, 100 * high
