"""The gate of a build: is a model slower than it was, by more than runs differ by themselves?

A regression is shown where a one-sided test says that the ratio candidate / baseline is above
1 + tolerance; there is none of a size that matters where the whole interval is below 1 + detect.
Everything else is undecided. `docs/gate.md` has the simulation behind the defaults.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from vozmetro.errors import InputError
from vozmetro.judge.checks import Status
from vozmetro.judge.differences import Unlike, differences, machine, mismatches
from vozmetro.judge.interval import Interval
from vozmetro.judge.levels import in_turns, level, pair_levels
from vozmetro.judge.ratio import Design, RatioTest, ratio_test, runs_needed
from vozmetro.measure.records import ComparisonRecord, Run
from vozmetro.resampling import holm, rate_difference

Metric = Literal["p50", "p90", "p99", "load", "first", "peak_ram", "wer"]
METRICS: tuple[Metric, ...] = ("p50", "p90", "p99", "load", "first", "peak_ram", "wer")
DEFAULT_METRICS: tuple[Metric, ...] = ("p50",)
RUNS = 10
"""Pairs of runs, or runs a side, that the documentation asks for."""
TOLERANCE, DETECT = 0.01, 0.05
WER_DETECT = 0.02
"""Of the WER, in its own points: 0.02 are two words in a hundred."""
_TIMES = ("p50", "p90", "p99", "load", "first")


@dataclass(frozen=True)
class Plan:
    """What is asked of the gate.

    Attributes:
        metrics: What gates.
        tolerance: Worse by no more than this fraction is accepted; of the WER, in points.
        detect: Worse by this fraction must not pass unseen.
        alpha: 1 - confidence; of a false alarm over all metrics together, half of it.
        new_model: The model is what changed.
        unfair: Hold together what does not match, and say so.
    """

    metrics: tuple[Metric, ...] = DEFAULT_METRICS
    tolerance: float = TOLERANCE
    detect: float = DETECT
    alpha: float = 0.05
    new_model: bool = False
    unfair: bool = False


@dataclass(frozen=True)
class Words:
    """Word errors of the same utterances, baseline and candidate. All have the same length.

    Attributes:
        baseline: Errors in each.
        candidate: Errors in each.
        words: Of each reference.
        speakers: Who speaks; empty for unknown.
    """

    baseline: tuple[float, ...]
    candidate: tuple[float, ...]
    words: tuple[int, ...]
    speakers: tuple[str, ...] = ()


@dataclass(frozen=True)
class GateCheck:
    """One metric of the gate.

    Attributes:
        metric: Its name.
        baseline: Geometric mean over the baseline runs (ms, bytes); of the WER the rate.
        candidate: The same of the candidates.
        change: Ratio candidate / baseline with its interval; of the WER the difference.
        design: How runs were held together; `utterances` for the WER.
        spread: Run to run, as a fraction; 0 for the WER.
        p: One-sided p-value, after Holm's correction over the metrics.
        status: `fail` for a regression, `pass` where one that matters is ruled out.
        runs_needed: Runs a side that would settle it; None if settled or not foreseeable.
        machine: The fixed graph of the noise check tells of the machine what the metric tells of
            the model: that a regression is the model's is not shown.
    """

    metric: Metric
    baseline: float
    candidate: float
    change: Interval
    design: Design | Literal["utterances"]
    spread: float
    p: float
    status: Status
    runs_needed: int | None = None
    machine: bool = False


@dataclass(frozen=True)
class GateResult:
    """What the gate says.

    Attributes:
        status: `fail` if a metric fails, else `undecided` if one is, else `pass`.
        checks: One for each metric.
        candidates: Names of the candidate runs.
        baselines: Names of the baseline runs.
        subject: What was measured.
        machine: Where.
        threads: Of the engine.
        paired: Each candidate run has its own baseline run, made at the same time.
        changed: What differs between the first of both, for the reader.
        unfair: What does not match, where that was overridden.
        plan: What was asked.
    """

    status: Status
    checks: tuple[GateCheck, ...]
    candidates: tuple[str, ...]
    baselines: tuple[str, ...]
    subject: str
    machine: str
    threads: int
    paired: bool
    changed: tuple[Unlike, ...]
    unfair: tuple[Unlike, ...]
    plan: Plan


@dataclass(frozen=True)
class _Sides:
    """Runs held together: pairs where `paired`."""

    candidates: tuple[Run, ...]
    baselines: tuple[Run, ...]
    paired: bool
    records: tuple[ComparisonRecord, ...] = ()


def gate(
    candidates: Sequence[Run],
    baselines: Sequence[Run],
    plan: Plan | None = None,
    words: Words | None = None,
) -> GateResult:
    """Holds runs against earlier ones of the same thing.

    Runs that were made by turns (`levels.in_turns`) are held together in pairs.

    Args:
        candidates: Runs of what is to be let through.
        baselines: Runs of what it is held against.
        plan: What is asked.
        words: What both heard, for the metric `wer`.

    Raises:
        InputError: `gate_range`, `gate_incomplete`, `gate_same_run`, `gate_unlike`,
            `gate_no_items` or `gate_metric_unknown`.
    """
    plan = plan or Plan()
    both = {run.id for run in candidates} & {run.id for run in baselines}
    if both:
        raise InputError("gate_same_run", run=min(both))
    pairs = in_turns(candidates, baselines)
    if pairs:
        sides = _Sides(tuple(c for c, _ in pairs), tuple(b for _, b in pairs), True)
    else:
        sides = _Sides(tuple(candidates), tuple(baselines), False)
    return _gate(sides, plan, words)


def gate_comparisons(
    records: Sequence[ComparisonRecord], plan: Plan | None = None, words: Words | None = None
) -> GateResult:
    """Holds B of comparisons against A: both were measured by turns, so that the machine cancels.

    Args:
        records: Comparisons of the same two subjects.
        plan: What is asked; that the models differ is expected here.
        words: What both heard, for the metric `wer`.

    Raises:
        InputError: As for `gate`.
    """
    plan = replace(plan or Plan(), new_model=True)
    unfair = [note for record in records for note in record.unfair]
    if unfair and not plan.unfair:
        raise InputError("gate_unlike", what=unfair[0].code)
    sides = _Sides(
        tuple(one.b for one in records), tuple(one.a for one in records), True, tuple(records)
    )
    return _gate(sides, plan, words)


def _gate(sides: _Sides, plan: Plan, words: Words | None) -> GateResult:
    if not (0 <= plan.tolerance < plan.detect <= 10 and 0 < plan.alpha < 1):
        raise InputError("gate_range", tolerance=plan.tolerance, detect=plan.detect)
    every = (*sides.candidates, *sides.baselines)
    for run in every:
        if run.status != "complete" or not run.samples:
            raise InputError("gate_incomplete", run=run.id, status=run.status)
    unfair = _unlike(sides, plan)
    items = frozenset.intersection(
        *(frozenset(sample.item for sample in run.samples) for run in every)
    )
    if not items:
        raise InputError("gate_no_items")
    checks = [_check(sides, metric, plan, items, words) for metric in plan.metrics]
    adjusted = holm([one.p for one in checks])
    checks = [_judged(one, p, plan) for one, p in zip(checks, adjusted, strict=True)]
    states = {one.status for one in checks}
    order: tuple[Status, ...] = ("fail", "undecided", "pass")
    first, against = sides.candidates[0], sides.baselines[0]
    return GateResult(
        status=next(one for one in order if one in states),
        checks=tuple(checks),
        candidates=_names(sides, 0),
        baselines=_names(sides, 1),
        subject=first.subject.name,
        machine=machine(first),
        threads=first.settings.threads,
        paired=sides.paired,
        changed=tuple(differences(against, first)),
        unfair=unfair,
        plan=plan,
    )


def _names(sides: _Sides, side: int) -> tuple[str, ...]:
    if sides.records:
        return tuple(record.id for record in sides.records)
    return tuple(run.id for run in (sides.baselines if side else sides.candidates))


def _unlike(sides: _Sides, plan: Plan) -> tuple[Unlike, ...]:
    """Returns what does not match, across the sides and within each.

    Raises:
        InputError: `gate_unlike`, unless the plan overrides it.
    """
    first, against = sides.candidates[0], sides.baselines[0]
    found = mismatches(against, first, new_model=plan.new_model)
    # Runs of one side are repeats of the same thing, even where the model is what changed.
    for side in (sides.candidates, sides.baselines):
        for run in side[1:]:
            found += [one for one in mismatches(side[0], run) if one not in found]
    if found and not plan.unfair:
        what = "; ".join(f"{one.name}: {one.a or '–'} / {one.b or '–'}" for one in found[:4])
        raise InputError("gate_unlike", what=what)
    return tuple(found)


def _check(
    sides: _Sides, metric: Metric, plan: Plan, items: frozenset[str], words: Words | None
) -> GateCheck:
    if metric == "wer":
        return _check_words(words, plan)
    x, y = _levels(sides, metric, items)
    found = ratio_test(x, y, paired=sides.paired, tolerance=plan.tolerance, alpha=plan.alpha)
    return GateCheck(
        metric=metric,
        baseline=math.exp(sum(y) / len(y)),
        candidate=math.exp(sum(x) / len(x)),
        change=found.ratio,
        design=found.design,
        spread=found.spread,
        p=found.p_above,
        status="undecided",
        runs_needed=runs_needed(found, plan.tolerance, plan.detect, plan.alpha),
        machine=metric in _TIMES and not sides.records and _machine_slower(sides, plan),
    )


def _levels(
    sides: _Sides, metric: Metric | Literal["machine"], items: frozenset[str]
) -> tuple[list[float], list[float]]:
    """Returns the log levels of both sides.

    Raises:
        InputError: `gate_metric_unknown` where a run does not have the metric.
    """
    if sides.records:
        both = [pair_levels(record, metric) for record in sides.records]
        x = [one[1] for one in both if one is not None]
        y = [one[0] for one in both if one is not None]
        missing = len(x) < len(both)
    else:
        told = [[level(run, metric, items) for run in side]
                for side in (sides.candidates, sides.baselines)]  # fmt: skip
        missing = any(one is None for side in told for one in side)
        x, y = ([one for one in side if one is not None] for side in told)
    if missing:
        raise InputError("gate_metric_unknown", metric=metric)
    return x, y


def _machine_slower(sides: _Sides, plan: Plan) -> bool:
    """Whether the fixed graph of the noise check was slower beside the candidates too."""
    try:
        x, y = _levels(sides, "machine", frozenset())
    except InputError:
        return False
    found: RatioTest = ratio_test(x, y, paired=sides.paired, alpha=plan.alpha)
    return found.p_above <= plan.alpha / 2


def _check_words(words: Words | None, plan: Plan) -> GateCheck:
    if words is None or not sum(words.words):
        raise InputError("gate_metric_unknown", metric="wer")
    said = sum(words.words)
    found = rate_difference(
        words.baseline, words.candidate, words.words, words.speakers, alpha=plan.alpha
    )
    # The draws tell of no difference; a tolerance is beyond them only where the interval is.
    p = found.p / 2 if found.value > 0 else 1 - found.p / 2
    if found.low <= plan.tolerance:
        p = max(p, plan.alpha)
    return GateCheck(
        metric="wer",
        baseline=sum(words.baseline) / said,
        candidate=sum(words.candidate) / said,
        change=Interval(found.value, found.low, found.high),
        design="utterances",
        spread=0.0,
        p=p,
        status="undecided",
    )


def _judged(check: GateCheck, p: float, plan: Plan) -> GateCheck:
    high = check.change.high
    limit = max(WER_DETECT, plan.tolerance) if check.metric == "wer" else 1 + plan.detect
    if p <= plan.alpha / 2:
        status: Status = "undecided" if check.machine else "fail"
    else:
        status = "pass" if high is not None and high < limit else "undecided"
    needed = check.runs_needed if status == "undecided" else None
    machine = check.machine and status == "undecided" and p <= plan.alpha / 2
    return replace(check, p=p, status=status, runs_needed=needed, machine=machine)
