"""What a study of depths comes to: each stage at full depth, their sum, memory, and a verdict."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vozmetro.judge.budget import Budget
from vozmetro.judge.checks import Check, Status
from vozmetro.judge.depths import Fit, fit
from vozmetro.judge.stationarity import Floats, autocorrelation
from vozmetro.judge.statistics import Interval, percentile
from vozmetro.measure.depth_records import DepthPart, DepthStudy, DepthTask
from vozmetro.measure.records import Note

Kind = Literal["first_token", "per_token", "call", "first_audio"]

ANSWER_TOKENS = 64
"""Prompt that stands for a spoken question of some 3 s: 39 tokens of audio, and the turn's frame.
The verdict is about the measured length nearest to it."""
ANSWER_S = 3.0
"""Audio of that question, in seconds."""
WAITED_TOKENS = (1, 4)
"""Tokens of text that the thinker is ahead of the talker when the first sound is made."""
RAM_MARGIN = 0.3
"""What loading needs is an estimate from the files; measured peaks lay up to 25 % below it."""
_DOUBTFUL = ("nan_output",)
_SPEAKING = ("talker · ", "code_predictor · ", "code2wav · ")


@dataclass(frozen=True)
class Figure:
    """One time at full depth, in milliseconds.

    Attributes:
        name: The stage, equal at all depths.
        kind: `first_token` (prompt to first token), `per_token` (each later one), `call`, or
            `first_audio` (the sum of the stages up to the first sound).
        tokens: Length of the prompt, 0 for none; of a sum, tokens that the thinker is ahead.
        seconds: Audio that goes in or comes out, in seconds.
        points: Median by depth, for depths below the full one.
        fit: The line through them; None where no depth below the full one was measured.
        measured: Median at full depth with its interval; None where that was not measured.
    """

    name: str
    kind: Kind
    tokens: int
    seconds: float
    points: Mapping[int, float]
    fit: Fit | None
    measured: Interval | None

    @property
    def extrapolated(self) -> bool:
        """Whether nobody has measured it."""
        return self.measured is None

    @property
    def value(self) -> float:
        """The measured one where there is one, else the extrapolated one."""
        if self.measured is not None:
            return self.measured.value
        return math.nan if self.fit is None else self.fit.value

    @property
    def low(self) -> float | None:
        """Lower end of its interval, None where that is not resolved."""
        if self.measured is not None:
            return self.measured.low
        return None if self.fit is None else self.fit.low

    @property
    def high(self) -> float | None:
        """Upper end of its interval, None where that is not resolved."""
        if self.measured is not None:
            return self.measured.high
        return None if self.fit is None else self.fit.high

    @property
    def error(self) -> float | None:
        """Extrapolated over measured, less 1; None where only one of them is known."""
        if self.measured is None or self.fit is None:
            return None
        return self.fit.value / self.measured.value - 1

    @property
    def held(self) -> bool | None:
        """Whether the measured median lies in the interval of the extrapolation."""
        if self.measured is None or self.fit is None:
            return None
        return self.fit.low <= self.measured.value <= self.fit.high

    @property
    def spread(self) -> float | None:
        """The larger half of the extrapolation's interval over its value; None without one."""
        if self.fit is None or not self.fit.value > 0:
            return None
        return max(self.fit.high - self.fit.value, self.fit.value - self.fit.low) / self.fit.value


@dataclass(frozen=True)
class DepthReport:
    """What a study comes to.

    Attributes:
        figures: Every stage at full depth, in the order of the tasks.
        first_audio: The sums, for each of WAITED_TOKENS; empty for a model that does not speak.
        depths: Layers that were measured below the full depth.
        rounds: Complete rounds that it rests on.
        bytes: Size of the files at full depth, extrapolated where they were not made.
        ram: Bytes that the full depth is expected to need.
        available: Bytes that the machine could give when the study began.
        probe_gbs: Median memory bandwidth beside the samples, GB/s; None where it was not read.
        probe_range: Lowest and highest of them.
        subject: What the verdict is about.
        checks: Latency (P50) and RAM against the budget.
        status: `fail` if a gating check fails, else `undecided` if one is, else `pass`.
        notes: What a reader must know.
    """

    figures: tuple[Figure, ...]
    first_audio: tuple[Figure, ...]
    depths: tuple[int, ...]
    rounds: int
    bytes: float
    ram: float
    available: int
    probe_gbs: float | None
    probe_range: tuple[float, float] | None
    subject: Figure
    checks: tuple[Check, ...]
    status: Status
    notes: tuple[Note, ...]

    @property
    def fits(self) -> bool:
        """Whether the full depth would fit in this machine's memory."""
        return self.ram <= self.available

    @property
    def extrapolated(self) -> bool:
        """Whether anything that the verdict rests on was not measured."""
        return self.subject.extrapolated


def depth_report(study: DepthStudy, budget: Budget | None = None) -> DepthReport:
    """Reads a study; only its complete rounds count.

    Args:
        study: What was measured.
        budget: The limits; the study's own by default.

    Raises:
        InputError: `depths_few`, where fewer depths were measured than tell a line from a curve.
    """
    budget = budget or Budget.from_mapping(study.settings.budget)
    table = _Table(study)
    figures = _figures(study, table)
    sums = _first_audio(study, table)
    subject = sums[0] if sums else _nearest(figures)
    ram = _at_full(study, lambda one: float(one.expected_ram))
    checks = (_latency(subject, budget, table.rounds), _memory(ram, budget))
    probes = [one.probe_gbs for one in study.samples if one.probe_gbs is not None]
    cut = {one.layers for one in study.parts if one.layers < one.full_layers}
    return DepthReport(
        figures=tuple(figures),
        first_audio=tuple(sums),
        depths=tuple(sorted(cut)),
        rounds=table.rounds,
        bytes=_at_full(study, lambda one: float(sum(file.bytes for file in one.files))),
        ram=ram,
        available=study.environment.ram_available,
        probe_gbs=float(np.median(probes)) if probes else None,
        probe_range=(min(probes), max(probes)) if probes else None,
        subject=subject,
        checks=checks,
        status=_status(study, checks),
        notes=tuple(_notes(study, [*figures, *sums])),
    )


class _Table:
    """Values of every task and kind by round, complete rounds only, shape [R] each."""

    def __init__(self, study: DepthStudy) -> None:
        by_round: dict[int, dict[str, tuple[float, float]]] = {}
        for sample in study.samples:
            values = (sample.ms, sample.parts.get("per_token", math.nan))
            by_round.setdefault(sample.round, {})[sample.item] = values
        whole = [
            by_round[number]
            for number in sorted(by_round)
            if len(by_round[number]) == len(study.tasks)
        ]
        self.rounds = len(whole)
        self._values = {
            task.id: np.array([values[task.id] for values in whole]).reshape(-1, 2)
            for task in study.tasks
        }

    def of(self, task: DepthTask, kind: Kind) -> Floats:
        """Returns a task's times in ms."""
        found: Floats = self._values[task.id][:, 1 if kind == "per_token" else 0]
        return found


Series = dict[int, Floats]


def _figures(study: DepthStudy, table: _Table) -> list[Figure]:
    parts = {one.id: one for one in study.parts}
    found = []
    for name, mine in _by_stage(study).items():
        kinds: list[Kind] = ["first_token"] if mine[0].tokens else ["call"]
        if mine[0].new_tokens > 1:
            kinds.append("per_token")
        for kind in kinds:
            series = {parts[task.part].layers: table.of(task, kind) for task in mine}
            full = parts[mine[0].part].full_layers
            found.append(
                _figure(name, kind, series, full, tokens=mine[0].tokens, seconds=mine[0].seconds)
            )
    return found


def _figure(
    name: str, kind: Kind, series: Series, full: int, *, tokens: int, seconds: float
) -> Figure:
    below = {depth: values for depth, values in series.items() if depth < full}
    return Figure(
        name=name,
        kind=kind,
        tokens=tokens,
        seconds=seconds,
        points={depth: float(np.median(values)) for depth, values in sorted(below.items())},
        fit=fit({depth: list(values) for depth, values in below.items()}, full) if below else None,
        measured=_median(series[full]) if full in series else None,
    )


def _median(values: Floats) -> Interval:
    """The median with its interval; rounds that resemble their neighbours count for less."""
    _, tau = autocorrelation((values - np.median(values))[np.newaxis])
    return percentile(values, 0.5, tau=float(tau[0]))


def _by_stage(study: DepthStudy) -> dict[str, list[DepthTask]]:
    found: dict[str, list[DepthTask]] = {}
    for task in study.tasks:
        found.setdefault(task.stage, []).append(task)
    return found


def _first_audio(study: DepthStudy, table: _Table) -> list[Figure]:
    """Adds the stages up to the first sound, round by round, and reads the sums at full depth.

    The sum of medians would be much the same; but the interval of a sum needs its stages together.
    """
    stages = _by_stage(study)
    listening = [task for task in study.tasks if task.seconds == ANSWER_S and not task.tokens]
    speaking = [stages[name][0] for start in _SPEAKING for name in stages if name.startswith(start)]
    lengths = {task.tokens for task in study.tasks if task.new_tokens > 1}
    if not listening or len(speaking) < len(_SPEAKING) or not lengths:
        return []
    tokens = _nearest_length(lengths)
    parts = {one.id: one for one in study.parts}
    thinking = [task for task in study.tasks if task.tokens == tokens]
    full = parts[thinking[0].part].full_layers
    around = sum((table.of(task, "call") for task in [listening[0], *speaking]), np.zeros(()))
    found = []
    for ahead in WAITED_TOKENS:
        series = {
            parts[task.part].layers: around
            + table.of(task, "first_token")
            + ahead * table.of(task, "per_token")
            for task in thinking
        }
        name = f"first audio · {ahead}"
        found.append(_figure(name, "first_audio", series, full, tokens=ahead, seconds=ANSWER_S))
    return found


def _nearest_length(lengths: set[int]) -> int:
    return min(lengths, key=lambda tokens: (abs(math.log(tokens / ANSWER_TOKENS)), tokens))


def _nearest(figures: Sequence[Figure]) -> Figure:
    """The time to the first token of the prompt that the verdict is about."""
    prompts = [one for one in figures if one.kind == "first_token"]
    tokens = _nearest_length({one.tokens for one in prompts})
    return next(one for one in prompts if one.tokens == tokens)


def _at_full(study: DepthStudy, value: Callable[[DepthPart], float]) -> float:
    """Adds up over components what each has at full depth, by a line where it was not made."""
    total = 0.0
    for component in dict.fromkeys(one.component for one in study.parts):
        mine = [one for one in study.parts if one.component == component]
        whole = [one for one in mine if one.layers == one.full_layers]
        if whole:
            total += value(whole[0])
        elif len(mine) > 1:
            slope, start = np.polyfit([one.layers for one in mine], [*map(value, mine)], 1)
            total += float(start + slope * mine[0].full_layers)
    return total


def _latency(subject: Figure, budget: Budget, rounds: int) -> Check:
    limit, low, high = budget.p50_ms, subject.low, subject.high
    # A line through what lies on none tells nothing about its end.
    bent = subject.extrapolated and subject.fit and "depths_not_linear" in subject.fit.warnings
    status: Status = "undecided"
    if bent:
        pass
    elif high is not None and high < limit:
        status = "pass"
    elif low is not None and low > limit:
        status = "fail"
    return Check(
        metric="p50",
        limit=limit,
        value=subject.value,
        low=low,
        high=high,
        status=status,
        gates="p50" in budget.gates,
        e_value=None,
        runs_used=float(rounds),
        runs_needed=None,
    )


def _memory(ram: float, budget: Budget) -> Check:
    low, high = (1 - RAM_MARGIN) * ram, (1 + RAM_MARGIN) * ram
    status: Status = "undecided"
    if high < budget.ram_bytes:
        status = "pass"
    elif low > budget.ram_bytes:
        status = "fail"
    return Check(
        metric="ram",
        limit=budget.ram_bytes,
        value=ram,
        low=low,
        high=high,
        status=status,
        gates="ram" in budget.gates,
        e_value=None,
        runs_used=1.0,
        runs_needed=None,
    )


def _status(study: DepthStudy, checks: Sequence[Check]) -> Status:
    gating = [check.status for check in checks if check.gates]
    if "fail" in gating:
        return "fail"
    if "undecided" in gating or not gating:
        return "undecided"
    # As in `decision`: what failed or is doubtful may count against a model, never for it.
    doubtful = study.status == "failed" or any(note.code in _DOUBTFUL for note in study.notes)
    return "undecided" if doubtful else "pass"


def _notes(study: DepthStudy, figures: Sequence[Figure]) -> list[Note]:
    """Returns what a reader must know, in order of weight."""
    found = [*study.notes]
    if any(one.extrapolated for one in figures):
        depths = ", ".join(
            str(depth) for depth in sorted({depth for one in figures for depth in one.points})
        )
        fields = {"depths": depths, "full": str(study.full_layers)}
        found.append(Note(code="extrapolated", fields=fields))
    found.append(Note(code="dummy_weights"))
    for code in ("depths_not_linear", "depths_far"):
        doubtful = [one for one in figures if one.fit and code in one.fit.warnings]
        if doubtful and doubtful[0].fit is not None:
            worst = min(one.fit.r2 for one in doubtful if one.fit is not None)
            fields = {
                "stages": ", ".join(dict.fromkeys(one.name for one in doubtful)),
                "r2": f"{worst:.4f}",
                "reach": f"{doubtful[0].fit.reach:.1f}",
            }
            found.append(Note(code=code, fields=fields))
    if any(one.kind == "first_audio" for one in figures):
        found.append(Note(code="first_audio_sum"))
    else:
        found.append(Note(code="language_stage"))
    return found
