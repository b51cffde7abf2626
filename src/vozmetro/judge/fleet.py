"""What a fleet's results mean: a verdict for each kind of machine, and what does not fit together.

Pure. Every machine is judged by itself, as by `bench`; nothing is averaged over machines.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from vozmetro.judge.checks import Status
from vozmetro.judge.decision import Decision
from vozmetro.judge.differences import Unlike, digest, environments
from vozmetro.judge.interval import Interval
from vozmetro.judge.levels import level
from vozmetro.judge.ratio import ratio_test
from vozmetro.measure.quality_records import QualityStudy
from vozmetro.measure.records import Run
from vozmetro.resampling import holm

ALPHA = 0.05
CheapestBy = Literal["price", "cores", ""]


@dataclass(frozen=True)
class Missing:
    """Why there is no result: a code of the catalogue's errors, and its fields."""

    code: str
    fields: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Placed:
    """One subject on one machine.

    Attributes:
        machine_class: Kind of machine.
        place: Which of that kind, from 1.
        subject: The plan's words.
        run: What was measured; None where nothing was.
        decision: Its verdict; None where nothing was measured.
        study: How well it hears, where that was asked and came out.
        missing: Why something is missing.
    """

    machine_class: str
    place: int
    subject: str
    run: Run | None = None
    decision: Decision | None = None
    study: QualityStudy | None = None
    missing: tuple[Missing, ...] = ()

    @property
    def status(self) -> Status:
        """The verdict; undecided where nothing was measured."""
        return self.decision.status if self.decision else "undecided"


@dataclass(frozen=True)
class Disagreement:
    """Two machines of one kind that do not measure the same.

    Attributes:
        subject: What both measured.
        a: The first one's place.
        b: The second one's.
        ratio: P50 of `b` / P50 of `a` with its interval.
        files: Whether they even measured different files.
    """

    subject: str
    a: int
    b: int
    ratio: Interval
    files: bool


@dataclass(frozen=True)
class ClassVerdict:
    """One kind of machine.

    Attributes:
        name: The plan's.
        price: The plan's.
        placed: All results, in the order of the plan.
        disagreements: Between its machines.
        unlike: What differs between its machines themselves, the first and any other.
    """

    name: str
    price: float | None
    placed: tuple[Placed, ...]
    disagreements: tuple[Disagreement, ...] = ()
    unlike: tuple[Unlike, ...] = ()

    def of(self, subject: str) -> Status:
        """Returns the verdict on a subject: as good as on the worst of the machines."""
        states = {one.status for one in self.placed if one.subject == subject}
        return next(state for state in ("fail", "undecided", "pass") if state in states)

    @property
    def subjects(self) -> tuple[str, ...]:
        """What was to be measured, in the order of the plan."""
        return tuple(dict.fromkeys(one.subject for one in self.placed))

    @property
    def status(self) -> Status:
        """`pass` if some subject passes on every machine, `fail` if all fail."""
        states = {self.of(subject) for subject in self.subjects}
        return next(state for state in ("pass", "undecided", "fail") if state in states)

    @property
    def cores(self) -> int | None:
        """Most cores that a process may use on one of its machines; None if unknown."""
        runs = [one.run for one in self.placed if one.run]
        return max((run.environment.cores_allowed for run in runs), default=None)


@dataclass(frozen=True)
class FleetVerdict:
    """What a plan came to.

    Attributes:
        classes: In the order of the plan.
        cheapest: The kind that passes and costs least; empty where none passes.
        by: What "least" was measured in.
    """

    classes: tuple[ClassVerdict, ...]
    cheapest: str
    by: CheapestBy

    @property
    def status(self) -> Status:
        """`pass` if every kind of machine passes, `fail` if one fails."""
        states = {one.status for one in self.classes}
        return next(state for state in ("fail", "undecided", "pass") if state in states)


def fleet_verdict(
    placed: Sequence[Placed], prices: dict[str, float | None], alpha: float = ALPHA
) -> FleetVerdict:
    """Judges a fleet.

    Args:
        placed: At least one for each kind of machine.
        prices: Of each kind, in the order of the plan.
        alpha: Of one disagreement found where there is none, over all pairs of machines of a kind.
    """
    classes = []
    for name, price in prices.items():
        mine = tuple(one for one in placed if one.machine_class == name)
        found = disagreements(mine, alpha)
        classes.append(ClassVerdict(name, price, mine, found, _unlike(mine)))
    passing = [one for one in classes if one.status == "pass"]
    if passing and all(one.price is not None for one in passing):
        best = min(passing, key=lambda one: one.price or 0.0)
        return FleetVerdict(tuple(classes), best.name, "price")
    if passing:
        best = min(passing, key=lambda one: one.cores or 0)
        return FleetVerdict(tuple(classes), best.name, "cores")
    return FleetVerdict(tuple(classes), "", "")


def disagreements(placed: Sequence[Placed], alpha: float = ALPHA) -> tuple[Disagreement, ...]:
    """Returns the pairs of machines whose P50 differs by more than runs differ by themselves.

    Each machine measured a subject once, so that the spread from run to run is assumed
    (`interval.ASSUMED_SPREAD`); over all pairs Holm's correction.
    """
    tested = []
    for subject in dict.fromkeys(one.subject for one in placed):
        mine = [one for one in placed if one.subject == subject and one.run and one.run.samples]
        for a, b in itertools.combinations(mine, 2):
            assert a.run and b.run  # noqa: S101
            items = frozenset(s.item for s in a.run.samples) & {s.item for s in b.run.samples}
            levels = level(a.run, "p50", items), level(b.run, "p50", items)
            files = digest(a.run) != digest(b.run)
            if levels[0] is not None and levels[1] is not None:
                found = ratio_test([levels[1]], [levels[0]], alpha=alpha)
                p = 2 * min(found.p_above, found.p_below, 0.5)
                tested.append((Disagreement(subject, a.place, b.place, found.ratio, files), p))
    adjusted = holm([p for _, p in tested])
    return tuple(
        one for (one, _), p in zip(tested, adjusted, strict=True) if p <= alpha or one.files
    )


def _unlike(placed: Sequence[Placed]) -> tuple[Unlike, ...]:
    first: dict[int, Run] = {}
    for one in placed:
        if one.run:
            first.setdefault(one.place, one.run)
    runs = list(first.values())
    found: list[Unlike] = []
    for run in runs[1:]:
        found += [one for one in environments(runs[0], run) if one not in found]
    return tuple(found)
