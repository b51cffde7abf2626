"""The guide's validation checklist, ticked from the evidence in a run."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from vozmetro.judge.comparison import Comparison
from vozmetro.judge.decision import Decision
from vozmetro.judge.statistics import RunSummary
from vozmetro.measure.records import Note, Run
from vozmetro.report.formatting import failing_gates, metric_value, pair_names
from vozmetro.report.quality_judged import Beside, same_subject
from vozmetro.units import GB

LEAST_ITERATIONS = 20
"""Runs of each input that the guide asks for."""

_UNDATED = ("decision.timeline_open", "decision.timeline_blocked", "decision.timeline_b_parts")
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


@dataclass(frozen=True)
class Box:
    """One box of the checklist.

    Attributes:
        key: `report.check_<key>` of the catalogues.
        fields: Placeholders of its words.
        ticked: Whether the run holds the evidence.
        reason: The evidence, or what is missing: a code `report.why_<...>`.
    """

    key: str
    fields: dict[str, str]
    ticked: bool
    reason: Note


def _why(code: str, **fields: object) -> Note:
    texts = {name: str(value) for name, value in fields.items()}
    return Note(code=f"report.why_{code}", fields=texts)


def checklist(
    run: Run,
    summary: RunSummary,
    decision: Decision,
    comparisons: Sequence[Comparison] = (),
    beside: Beside | None = None,
) -> list[Box]:
    """Returns the guide's eight boxes in its order.

    Args:
        run: What was measured.
        summary: Its statistics.
        decision: Its verdict.
        comparisons: Those in the same report; the ones with this subject count.
        beside: Records on quality in the same report; those of this subject count.
    """
    p50, ram = decision.check("p50"), decision.check("ram")
    mine = [found for found in comparisons if side(run, found)]
    other = other_subject(run, mine[0]) if mine else ""
    return [
        Box("model", {"format": run.subject.format}, *_model(run)),
        Box("iterations", {}, *_iterations(run)),
        Box("comparison", {"other": other}, *_comparison(mine)),
        Box("ram", {"limit": f"{ram.limit / GB:g}"}, *_ram(summary, decision)),
        Box("p50", {"limit": f"{p50.limit:g}"}, *_p50(decision)),
        Box("audio", {}, *_audio(run, beside or Beside())),
        Box("decision", {}, *_decision(decision)),
        Box("timeline", {}, *_timeline(decision)),
    ]


def side(run: Run, comparison: Comparison) -> Literal["a", "b"] | None:
    """Returns which side of a comparison this run's subject is; None if it is neither."""
    a, b = comparison.record.a, comparison.record.b
    if run.id in (a.id, b.id):
        return "a" if run.id == a.id else "b"
    # A comparison measures its subjects anew: the same name and files are the same subject.
    if _same(a, run):
        return "a"
    return "b" if _same(b, run) else None


def other_subject(run: Run, comparison: Comparison) -> str:
    """Returns the name of what this run's subject was compared with; empty if it was not."""
    a, b = pair_names(comparison.record)
    return {"a": b, "b": a, None: ""}[side(run, comparison)]


def _same(one: Run, other: Run) -> bool:
    return one.subject.name == other.subject.name and one.subject.files == other.subject.files


Evidence = tuple[bool, Note]


def _model(run: Run) -> Evidence:
    files = run.subject.files
    if not files:
        return False, _why("model_none")
    unproven = [file.path for file in files if not _SHA256.fullmatch(file.sha256)]
    if unproven:
        return False, _why("model_hash", file=unproven[0])
    if run.subject.weights == "dummy":
        return False, _why("model_dummy")
    return True, _why("model_ok", n=len(files))


def _iterations(run: Run) -> Evidence:
    counts = Counter(sample.item for sample in run.samples)
    fewest = min((counts[item.id] for item in run.items), default=0)
    if fewest < LEAST_ITERATIONS:
        return False, _why("iterations_few", n=fewest)
    return True, _why("iterations_ok", n=fewest)


def _comparison(comparisons: Sequence[Comparison]) -> Evidence:
    if not comparisons:
        return False, _why("comparison_none")
    if comparisons[0].record.unfair:
        return False, _why("comparison_unfair")
    return True, _why("comparison_ok", n=comparisons[0].pairs)


def _ram(summary: RunSummary, decision: Decision) -> Evidence:
    if summary.peak_rss <= 0:
        return False, _why("ram_none")
    check = decision.check("ram")
    return True, _why("ram_ok", value=metric_value("ram", check.value), state=check.status)


def _p50(decision: Decision) -> Evidence:
    check = decision.check("p50")
    value = metric_value("p50", check.value, "")
    if check.status == "undecided":
        return False, _why("p50_open", value=value, needed=check.runs_needed or "")
    return True, _why("p50_ok", value=value, state=check.status)


def _audio(run: Run, beside: Beside) -> Evidence:
    if run.subject.kind == "lm":
        return False, _why("audio_text")
    real = {
        (judged.study.items[index].language, judged.study.items[index].id)
        for judged in beside.studies
        for one in judged.systems
        if same_subject(one.system.subject, run.subject)
        for index in (*(h.item for h in one.system.heard), *(c.item for c in one.system.clips))
        if not judged.study.items[index].synthetic
    }
    if real:
        return True, _why("audio_studied", n=len(real))
    measured = {sample.item for sample in run.samples}
    spoken = sum(item.source == "corpus" and item.id in measured for item in run.items)
    return (True, _why("audio_ok", n=spoken)) if spoken else (False, _why("audio_none"))


def _decision(decision: Decision) -> Evidence:
    if decision.status == "undecided":
        return False, _why("decision_open")
    others = [check.metric for check in failing_gates(decision) if check.metric != "p50"]
    if decision.scenario is None or others:
        names = others or [check.metric for check in failing_gates(decision)]
        return True, _why("decision_gate", names=",".join(names))
    return True, _why("decision_ok", letter=decision.scenario)


def _timeline(decision: Decision) -> Evidence:
    # The sentence itself says why there is no date.
    return decision.timeline.code not in _UNDATED, decision.timeline
