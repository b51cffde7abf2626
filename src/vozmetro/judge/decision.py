"""The verdict on a run: each limit's state, the scenario, and what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vozmetro.judge import advice
from vozmetro.judge.budget import PERCENTILES, Budget
from vozmetro.judge.checks import (
    Check,
    Scenario,
    Status,
    check_figures,
    check_item,
    check_percentile,
    check_ram,
    check_throughput,
    status_of,
)
from vozmetro.judge.rounds import Rounds, rounds_of, rounds_of_samples
from vozmetro.judge.stationarity import Stability, stability
from vozmetro.measure.quality_records import Figure
from vozmetro.measure.records import Note, Run

__all__ = ["Check", "Decision", "judge"]


@dataclass(frozen=True)
class Decision:
    """The verdict.

    Attributes:
        status: `fail` if a gating check fails, else `undecided` if one is, else `pass`.
        scenario: A, C or B by the P50; None while undecided and where the measurement failed.
        scenario_candidates: The scenarios still possible.
        checks: One for each metric, in the order of METRICS, then those of QUALITY_METRICS that
            the budget limits.
        per_item: P50 check for each item; reported, never gates.
        next_steps: Codes `decision.<key>` with their fields, without numbers or letters.
        headline: Code `decision.<key>`.
        timeline: Code `decision.<key>`.
        notes: Codes `notes.<key>`.
        runs_needed: Further runs that would settle the gating limits; None if settled or not
            foreseeable.
        confidence: 1 - alpha.
    """

    status: Status
    scenario: Scenario | None
    scenario_candidates: tuple[str, ...]
    checks: tuple[Check, ...]
    per_item: dict[str, Check]
    next_steps: tuple[Note, ...]
    headline: Note
    timeline: Note
    notes: tuple[Note, ...]
    runs_needed: int | None
    confidence: float

    def check(self, metric: str) -> Check:
        """Returns the check of a metric; StopIteration where the budget does not limit it."""
        return next(check for check in self.checks if check.metric == metric)


def judge(
    run_or_samples_ms: Run | Sequence[float],
    budget: Budget | None = None,
    figures: Sequence[Figure] = (),
) -> Decision:
    """Judges a run, or plain latencies, against a budget.

    Args:
        run_or_samples_ms: A run, or latencies in ms in the order taken. With plain latencies RAM
            is unknown and does not gate.
        budget: The limits; the guide's by default.
        figures: What is known of its quality, for those limits of the budget.

    Raises:
        InputError: `samples_invalid` for plain latencies that are none or not positive.
    """
    budget = budget or Budget()
    if isinstance(run_or_samples_ms, Run):
        run: Run | None = run_or_samples_ms
        rounds = rounds_of(run_or_samples_ms)
    else:
        run, rounds = None, rounds_of_samples(run_or_samples_ms)
    ms = rounds.ms[np.newaxis]
    how = stability(ms, rounds.order)
    checks = _checks(run, rounds, how, budget)
    checks += check_figures(budget, figures, run.subject.kind if run else "graph")
    slow = check_percentile(rounds.ms, how, budget, "p50", budget.slow_ms)
    candidates = _candidates(checks[0].status, slow.status)
    case = advice.Case(
        run=run,
        budget=budget,
        checks=checks,
        slow=slow,
        per_item=_per_item(run, rounds, how, budget),
        status=_status(run, checks),
        candidates=candidates,
        how=how,
        rounds=rounds,
    )
    return Decision(
        status=case.status,
        scenario=case.scenario,
        scenario_candidates=candidates,
        checks=checks,
        per_item=case.per_item,
        next_steps=advice.next_steps(case),
        headline=advice.headline(case),
        timeline=advice.timeline(case),
        notes=advice.notes(case),
        runs_needed=_runs_needed(checks),
        confidence=1 - budget.alpha,
    )


def _checks(run: Run | None, rounds: Rounds, how: Stability, budget: Budget) -> tuple[Check, ...]:
    checks = [
        check_percentile(rounds.ms, how, budget, metric, budget.limit(metric))
        for metric in PERCENTILES
    ]
    checks.append(check_throughput(rounds.ms, budget, run))
    checks.append(check_ram(run, budget))
    return tuple(checks)


def _per_item(run: Run | None, rounds: Rounds, how: Stability, budget: Budget) -> dict[str, Check]:
    if run is None or not rounds.ms.size:
        return {}
    settled = rounds.ms[int(how.start[0]) :]
    return {
        item: check_item(settled[:, column], budget) for column, item in enumerate(rounds.items)
    }


def _candidates(fast: Status, slow: Status) -> tuple[Scenario, ...]:
    """Returns the scenarios that the P50's tests against both limits leave, fastest first."""
    possible: tuple[Scenario, ...] = ("A", "C", "B")
    if fast == "pass":
        return ("A",)
    if fast == "fail":
        possible = ("C", "B")
    if slow == "pass":
        return tuple(letter for letter in possible if letter != "B")
    return ("B",) if slow == "fail" else possible


def _status(run: Run | None, checks: Sequence[Check]) -> Status:
    status = status_of(checks)
    if status != "pass":
        return status
    # What a failed measurement did show may count against the model, never for it; and a fast
    # answer that does not depend on what was said is no answer.
    doubtful = run is not None and (run.status == "failed" or advice.suspect_codes(run))
    return "undecided" if doubtful else "pass"


def _runs_needed(checks: Sequence[Check]) -> int | None:
    waiting = [check.runs_needed for check in checks if check.gates and check.status == "undecided"]
    known = [needed for needed in waiting if needed is not None]
    return max(known) if known and len(known) == len(waiting) else None
