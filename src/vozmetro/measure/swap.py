"""Measures what it costs to put one subject in the place of another.

Four processes, because a process remembers its highest memory: each subject alone, both together,
and one in which they take each other's place, as in a server that has room for one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from vozmetro.measure.live import HANG_S, WARMUP_MAX_S, WARMUP_PASS_MAX_S
from vozmetro.measure.process import WorkerProcess
from vozmetro.measure.subject import Target, vocabulary_bounds
from vozmetro.measure.swap_records import SwapIn, SwapSide
from vozmetro.measure.workload import WorkItem

MODULE = "vozmetro.measure.swap_worker"
Told = Callable[[str], None]
"""Told which step begins."""


@dataclass(frozen=True)
class Plan:
    """What is measured, and how often.

    Attributes:
        targets: Both subjects.
        work: Items, the same for both.
        threads: Threads of each model.
        rounds: Times that each item is timed once warm.
        swaps: Times that each takes the other's place.
        together: Whether both fit in memory.
    """

    targets: tuple[Target, Target]
    work: Sequence[WorkItem]
    threads: int
    rounds: int
    swaps: int
    together: bool


@dataclass(frozen=True)
class Measured:
    """Both sides, and the memory of what they have in common."""

    a: SwapSide
    b: SwapSide
    both_peak_rss: int | None
    swap_peak_rss: int


class _Room:
    """One process, and the subjects in it."""

    def __init__(self, plan: Plan, worker: WorkerProcess) -> None:
        self._plan, self._worker = plan, worker

    def ask(self, op: str, who: int, **fields: Any) -> dict[str, Any]:
        return self._worker.ask(op, limit_s=HANG_S, who="ab"[who], **fields)

    def imported(self, who: int) -> float:
        engines = [model.engine for model in self._plan.targets[who].models]
        return float(self.ask("import", who, engines=engines)["import_ms"])

    def loaded(self, who: int) -> dict[str, Any]:
        """Loads a subject and makes its items ready."""
        target = self._plan.targets[who]
        graph = target.kind == "graph"
        reply = self.ask(
            "load",
            who,
            kind=target.kind,
            threads=self._plan.threads,
            parts=[{"path": str(one.path), "options": one.options} for one in target.models],
            shapes={},
            vocabulary=vocabulary_bounds(target.models[0].path) if graph else {},
        )
        self.ask("items", who, items=[item.as_json() for item in self._plan.work])
        return reply

    def warm(self, who: int) -> float:
        """Runs every item; returns the first inference in ms."""
        reply = self.ask("warmup", who, max_s=WARMUP_MAX_S, pass_max_s=WARMUP_PASS_MAX_S)
        return float(reply["first_ms"])

    def round(self, who: int) -> list[float]:
        """Times every item once."""
        order = list(range(len(self._plan.work)))
        reply = self.ask("block", who, order=order, settle=1, probe=0)
        return [float(sample["ms"]) for sample in reply["samples"]]

    def first(self, who: int) -> float:
        """Times the first item, of whatever nothing has run yet."""
        reply = self.ask("block", who, order=[0], settle=0, probe=0)
        return float(reply["samples"][0]["ms"])

    def peak(self) -> int:
        return int(self._worker.ask("memory", limit_s=HANG_S)["peak_rss"])


def measure(plan: Plan, told: Told = lambda _: None) -> Measured:
    """Measures both subjects alone, together where they fit, and in each other's place.

    Args:
        plan: What, and how often.
        told: Told which step begins: `A`, `B`, `A + B` or `A ⇄ B`.

    Raises:
        MeasurementError: A model failed.
        MissingExtraError: An engine is not installed.
    """
    alone = []
    for who in (0, 1):
        told("AB"[who])
        alone.append(_alone(plan, who))
    steady = [one.steady_ms for one in alone]
    both_peak = None
    if plan.together:
        told("A + B")
        steady, both_peak = _together(plan)
    told("A ⇄ B")
    swaps, swap_peak = _swapped(plan)
    a, b = (
        side.model_copy(update={"steady_ms": steady[who], "swaps": swaps[who]})
        for who, side in enumerate(alone)
    )
    return Measured(a, b, both_peak, swap_peak)


def _alone(plan: Plan, who: int) -> SwapSide:
    target = plan.targets[who]
    with WorkerProcess(MODULE) as worker:
        room = _Room(plan, worker)
        import_ms = room.imported(who)
        loaded = room.loaded(who)
        first_ms = room.warm(who)
        rounds = 1 if plan.together else plan.rounds
        steady = [ms for _ in range(rounds) for ms in room.round(who)]
        dummy = any(model.inspection.weights == "dummy" for model in target.models)
        return SwapSide(
            subject=target.name,
            kind=target.kind,
            weights="dummy" if dummy else "real",
            expected_ram=target.expected_ram,
            import_ms=import_ms,
            load_ms=loaded["load_ms"],
            first_ms=first_ms,
            loaded_rss=loaded["memory"]["rss"],
            peak_rss=room.peak(),
            steady_ms=steady,
            swaps=[],
        )


def _together(plan: Plan) -> tuple[list[list[float]], int]:
    """Returns latencies of both by turns (A B B A), and the peak."""
    with WorkerProcess(MODULE) as worker:
        room = _Room(plan, worker)
        for who in (0, 1):
            room.imported(who)
            room.loaded(who)
            room.warm(who)
        steady: list[list[float]] = [[], []]
        for number in range(plan.rounds):
            for who in (0, 1) if number % 2 == 0 else (1, 0):
                steady[who] += room.round(who)
        return steady, room.peak()


def _swapped(plan: Plan) -> tuple[list[list[SwapIn]], int]:
    """Returns what each swap took, by the subject that came in, and the peak."""
    with WorkerProcess(MODULE) as worker:
        room = _Room(plan, worker)
        # Libraries stay, whoever is in memory.
        for who in (0, 1):
            room.imported(who)
        room.loaded(0)
        room.warm(0)
        found: list[list[SwapIn]] = [[], []]
        for number in range(2 * plan.swaps):
            goes, comes = number % 2, 1 - number % 2
            dropped = room.ask("drop", goes)
            # What was dropped knows no libraries any more.
            room.imported(comes)
            loaded = room.loaded(comes)
            found[comes].append(
                SwapIn(
                    drop_ms=dropped["drop_ms"],
                    load_ms=loaded["load_ms"],
                    first_ms=room.first(comes),
                )
            )
        return found, room.peak()
