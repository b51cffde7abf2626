"""Which measured subject takes which part in the pipeline. Nothing that was not measured does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from vozmetro.judge import advice
from vozmetro.judge.checks import Status
from vozmetro.judge.decision import Decision
from vozmetro.measure.records import Run

Reason = Literal["dummy", "suspect", "failed", "part", "graph", "slower", "no_cascade"]
"""Why a run takes no part: random weights; an output that proves nothing; a measurement that
failed; speech to text or text to speech alone; a bare graph; another one of its kind is faster; a
language model without a cascade to speak through."""

_STATUSES = ("pass", "undecided", "fail")


@dataclass(frozen=True)
class Judged:
    """A run and its verdict."""

    run: Run
    decision: Decision

    @property
    def p50_ms(self) -> float:
        """Median latency on the subject's own clock, in ms."""
        return self.decision.check("p50").value


@dataclass(frozen=True)
class Roles:
    """Who does what.

    Attributes:
        winner: The best run of all kinds, by verdict, then scenario, then latency; its scenario is
            that of the measurement.
        fast: The best cascade (FAST, the default); None where none can be served.
        swap: The other cascades, the faster first.
        language: The best language model (QUALITY), with `fast`'s speech.
        left_out: The rest, and why.
    """

    winner: Judged
    fast: Judged | None
    swap: tuple[Judged, ...]
    language: Judged | None
    left_out: tuple[tuple[Judged, Reason], ...]

    @property
    def status(self) -> Status:
        """The verdict; none where the winner itself can take no part."""
        return "undecided" if _unfit(self.winner) else self.winner.decision.status


def assign(found: Sequence[Judged]) -> Roles:
    """Gives each run its part.

    Args:
        found: At least one; of the same subject the one measured last counts.
    """
    latest: dict[str, Judged] = {}
    for one in sorted(found, key=lambda one: one.run.created):
        latest[one.run.settings.subject] = one
    ranked = sorted(latest.values(), key=_rank)
    left_out = [(one, reason) for one in ranked if (reason := _unfit(one))]
    fit = [one for one in ranked if not _unfit(one)]
    cascades = [one for one in fit if one.run.subject.kind == "cascade"]
    models = [one for one in fit if one.run.subject.kind == "lm"]
    if not cascades:
        left_out += [(one, "no_cascade") for one in models]
        models = []
    left_out += [(one, "slower") for one in models[1:]]
    return Roles(
        winner=(cascades or fit or ranked)[0],
        fast=cascades[0] if cascades else None,
        swap=tuple(sorted(cascades[1:], key=lambda one: one.p50_ms)),
        language=models[0] if models else None,
        left_out=tuple(left_out),
    )


def _rank(one: Judged) -> tuple[int, str, float, str]:
    scenario = {"A": "1", "C": "2", "B": "3"}.get(one.decision.scenario or "", "4")
    status = _STATUSES.index(one.decision.status)
    return status, scenario, one.p50_ms, one.run.settings.subject


def _unfit(one: Judged) -> Reason | None:
    """Returns why a run can take no part, whatever the others are."""
    run = one.run
    if run.status == "failed" or not run.samples:
        return "failed"
    if run.subject.weights == "dummy":
        return "dummy"
    if advice.suspect_codes(run):
        return "suspect"
    if run.subject.kind in ("stt", "tts"):
        return "part"
    return "graph" if run.subject.kind == "graph" else None
