"""Two subjects side by side: the per-pair ratio, its interval and the recommendation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vozmetro.judge.advice import LABELS, short_name, suspect_codes
from vozmetro.judge.budget import Budget
from vozmetro.judge.decision import Decision, judge
from vozmetro.judge.stationarity import Floats, autocorrelation
from vozmetro.judge.statistics import (
    Interval,
    RunSummary,
    percentile,
    samples_to_resolve,
    summarize_run,
)
from vozmetro.measure.quality_records import Figure
from vozmetro.measure.records import ComparisonRecord, Note, Run
from vozmetro.units import ms, percent

ComparisonVerdict = Literal["a_faster", "b_faster", "no_difference_shown"]


@dataclass(frozen=True)
class Comparison:
    """Which of the two is faster, and by how much.

    Attributes:
        record: What was measured.
        a: Summary of the first subject.
        b: Summary of the second.
        decision_a: Verdict on the first.
        decision_b: Verdict on the second.
        ratio: Median per-pair latency ratio A / B with its 95 % interval; NaN without pairs.
        pairs: Pairs that it rests on.
        verdict: `no_difference_shown` where the interval includes 1 or is not resolved.
        recommendation: Codes `decision.<key>` with their fields.
    """

    record: ComparisonRecord
    a: RunSummary
    b: RunSummary
    decision_a: Decision
    decision_b: Decision
    ratio: Interval
    pairs: int
    verdict: ComparisonVerdict
    recommendation: tuple[Note, ...]


def compare_record(
    record: ComparisonRecord,
    budget: Budget | None = None,
    figures: Sequence[Sequence[Figure]] = ((), ()),
) -> Comparison:
    """Judges two runs that were measured side by side.

    Args:
        record: Both runs; their samples pair up by item and round.
        budget: The limits; the guide's by default.
        figures: What is known of the quality of A and of B.
    """
    budget = budget or Budget()
    ratios = log_ratios(record.a, record.b)
    ratio = median_ratio(ratios)
    decision_a = judge(record.a, budget, figures[0])
    decision_b = judge(record.b, budget, figures[1])
    verdict = _verdict(ratio)
    return Comparison(
        record=record,
        a=summarize_run(record.a),
        b=summarize_run(record.b),
        decision_a=decision_a,
        decision_b=decision_b,
        ratio=ratio,
        pairs=len(ratios),
        verdict=verdict,
        recommendation=_recommendation(record, decision_a, decision_b, verdict, ratio),
    )


def log_ratios(a: Run, b: Run) -> Floats:
    """Returns log(A / B) of each pair with the same item and round, in the order taken by A."""
    other = {(sample.item, sample.round): sample.ms for sample in b.samples}
    pairs = [
        (sample.ms, other[sample.item, sample.round])
        for sample in a.samples
        if (sample.item, sample.round) in other
    ]
    return np.array([math.log(left / right) for left, right in pairs], float)


def median_ratio(ratios: Floats) -> Interval:
    """Returns the median ratio with its order-statistic interval.

    Pairs that resemble their neighbours count for less, as in a verdict. There is no early part to
    leave out: both sides of a pair were measured moments apart.

    Args:
        ratios: Log ratios in the order taken, shape [N].
    """
    if not len(ratios):
        return Interval(math.nan, None, None, samples_to_resolve(0.5))
    _, tau = autocorrelation((ratios - np.median(ratios))[np.newaxis])
    found = percentile(ratios, 0.5, float(tau[0]))
    return Interval(
        value=math.exp(found.value),
        low=None if found.low is None else math.exp(found.low),
        high=None if found.high is None else math.exp(found.high),
        n_needed=found.n_needed,
    )


def _verdict(ratio: Interval) -> ComparisonVerdict:
    if ratio.high is not None and ratio.high < 1:
        return "a_faster"
    if ratio.low is not None and ratio.low > 1:
        return "b_faster"
    return "no_difference_shown"


def _recommendation(
    record: ComparisonRecord,
    a: Decision,
    b: Decision,
    verdict: ComparisonVerdict,
    ratio: Interval,
) -> tuple[Note, ...]:
    language = _language_notes(record)
    # Spanish first: who does not speak it is out for most of these users, however fast.
    spanish = [note for note in language if note.code == "decision.rec_no_spanish"]
    names = _names(record)
    suspects = [
        Note(code="decision.rec_suspect", fields={"name": names[side]})
        for side, run in (("a", record.a), ("b", record.b))
        if suspect_codes(run)
    ]
    which = [_which(record, a, b, verdict)]
    if suspects and which[0].code == "decision.rec_undecided":
        # More runs would not make a suspect output better.
        which = []
    found = [*spanish, *suspects, *which, _speed(record, verdict, ratio)]
    found += [note for note in language if note not in spanish]
    if record.unfair:
        found.append(Note(code="decision.rec_unfair"))
    return tuple(found)


def _which(record: ComparisonRecord, a: Decision, b: Decision, verdict: ComparisonVerdict) -> Note:
    """Says which to use, by the verdict on each first and by speed second."""
    names = _names(record)
    passing = [side for side, one in (("a", a), ("b", b)) if one.status == "pass"]
    faster = {"a_faster": "a", "b_faster": "b"}.get(verdict)
    if len(passing) == 2 and faster is None:
        return Note(code="decision.rec_either", fields=names)
    if len(passing) == 2 and faster is not None:
        fields = {"name": names[faster], "other": names["b" if faster == "a" else "a"]}
        return Note(code="decision.rec_faster", fields=fields)
    if len(passing) == 1:
        side = passing[0]
        other, fate = ("b", b) if side == "a" else ("a", a)
        key = "rec_only" if fate.status == "fail" else "rec_only_decided"
        fields = {"name": names[side], "other": names[other], "failing": _failing(fate)}
        return Note(code=f"decision.{key}", fields=fields)
    if a.status == "fail" and b.status == "fail":
        fields = {**names, "failing_a": _failing(a), "failing_b": _failing(b)}
        return Note(code="decision.rec_neither", fields=fields)
    return Note(code="decision.rec_undecided", fields=names)


def _speed(record: ComparisonRecord, verdict: ComparisonVerdict, ratio: Interval) -> Note:
    """Says how the latencies compare, with the interval."""
    fields = {
        **_names(record),
        "change": percent(ratio.value, 1),
        "low": percent(ratio.low, 1),
        "high": percent(ratio.high, 1),
        "needed": str(ratio.n_needed or ""),
    }
    if not ratio.resolved:
        return Note(code="decision.rec_few_pairs", fields=fields)
    return Note(code=f"decision.rec_{verdict}", fields=fields)


def _names(record: ComparisonRecord) -> dict[str, str]:
    """Returns what to call the two: whole names where the short ones are equal."""
    a, b = short_name(record.a), short_name(record.b)
    if a == b:
        a, b = record.a.subject.name, record.b.subject.name
    return {"a": a, "b": b}


def _failing(decision: Decision) -> str:
    return ", ".join(
        f"{LABELS[check.metric]} {ms(check.value) if check.metric.startswith('p') else ''}".strip()
        for check in decision.checks
        if check.gates and check.status == "fail"
    )


def _language_notes(record: ComparisonRecord) -> list[Note]:
    """Says what one of them does not speak and the other does; no languages means any."""
    found = []
    names = _names(record)
    speaks = {"a": set(record.a.subject.languages), "b": set(record.b.subject.languages)}
    for one, other in (("a", "b"), ("b", "a")):
        own, theirs = speaks[one], speaks[other]
        if not own or own == theirs:
            continue
        fields = {"name": names[one], "other": names[other]}
        if "es" not in own and (not theirs or "es" in theirs):
            fields["languages"] = _listed(own)
            found.append(Note(code="decision.rec_no_spanish", fields=fields))
        elif theirs - own:
            fields["languages"] = _listed(theirs - own)
            found.append(Note(code="decision.rec_language", fields=fields))
    return found


def _listed(languages: set[str], most: int = 8) -> str:
    names = sorted(languages)
    return ", ".join(names[:most]) + (f" +{len(names) - most}" if len(names) > most else "")
