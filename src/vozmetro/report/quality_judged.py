"""Quality studies with what was made of them, and what is known of a subject's quality."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vozmetro.judge.budget import Budget
from vozmetro.judge.checks import Check, Status, check_figures, status_of
from vozmetro.judge.comparison import Comparison, compare_record
from vozmetro.judge.decision import Decision, judge
from vozmetro.measure.listening_records import ListeningRecord
from vozmetro.measure.quality_records import Figure, QualityStudy, System
from vozmetro.measure.records import ComparisonRecord, Run, Subject
from vozmetro.quality.summary import (
    Pair,
    SystemQuality,
    figures,
    pairs,
    run_takes,
    study_takes,
    summarize,
)
from vozmetro.units import file_name

MOS_SCALES = ("quality", "naturalness")
"""Scales of a listening test whose mean is called MOS; the last one asked counts."""


@dataclass(frozen=True)
class JudgedSystem:
    """One subject of a study.

    Attributes:
        system: What was kept.
        quality: How well it hears; None for a voice, and where nothing was heard.
        checks: The budget's quality limits.
        status: Of those that gate.
    """

    system: System
    quality: SystemQuality | None
    figures: tuple[Figure, ...]
    checks: tuple[Check, ...]
    status: Status

    @property
    def name(self) -> str:
        """The user's words for it."""
        return self.system.subject.name


@dataclass(frozen=True)
class JudgedStudy:
    """A study and its subjects."""

    study: QualityStudy
    systems: tuple[JudgedSystem, ...]
    pairs: tuple[Pair, ...]
    listening: tuple[ListeningRecord, ...] = ()

    @property
    def heard(self) -> list[SystemQuality]:
        """Subjects that heard something."""
        return [one.quality for one in self.systems if one.quality and one.quality.rows]


@dataclass(frozen=True)
class Beside:
    """Records on quality that are read beside measurements.

    Attributes:
        studies: Of words and voices, judged.
        listening: Of people's opinions.
    """

    studies: Sequence[JudgedStudy] = ()
    listening: Sequence[ListeningRecord] = ()

    @classmethod
    def of(
        cls, studies: Sequence[QualityStudy], listening: Sequence[ListeningRecord] = ()
    ) -> Beside:
        """Judges studies, once."""
        return cls([judged_study(study, listening) for study in studies], listening)


def judged_study(study: QualityStudy, listening: Sequence[ListeningRecord] = ()) -> JudgedStudy:
    """Returns a study with its statistics and verdicts.

    Args:
        study: What was kept.
        listening: What people said; of the same subjects it counts.
    """
    budget = Budget.from_mapping(study.settings.budget)
    names = [system.subject.name for system in study.systems]
    qualities = [
        summarize(name, study_takes(study, number), study.systems[number].merged)
        for number, name in enumerate(names)
    ]
    baseline = _baseline(study)
    heard = [one for one in qualities if one.rows]
    against: list[Pair] = []
    if len(heard) > 1 and qualities[baseline].rows:
        against = pairs(heard, heard.index(qualities[baseline]))
    systems = []
    for number, (system, quality) in enumerate(zip(study.systems, qualities, strict=True)):
        # Nobody is worse than himself: only where others were to be held against it.
        named = number == baseline and bool(study.settings.baseline) and len(heard) > 1
        told = tuple(figures(quality, against, is_baseline=named))
        told += tuple(opinions(system.subject, listening))
        checks = check_figures(budget, told, system.subject.kind)
        known = quality if quality.rows else None
        systems.append(JudgedSystem(system, known, told, checks, status_of(checks)))
    return JudgedStudy(study, tuple(systems), tuple(against), tuple(listening))


def _baseline(study: QualityStudy) -> int:
    words = study.settings.subjects
    return words.index(study.settings.baseline) if study.settings.baseline in words else 0


def run_quality(run: Run) -> SystemQuality | None:
    """Returns how well a measured run heard; None for what does not listen or random weights."""
    if run.subject.weights == "dummy":
        return None
    found = summarize(run.subject.name, run_takes(run))
    return found if found.rows else None


def known_figures(run: Run, beside: Beside | None = None) -> list[Figure]:
    """Returns what is known of a subject's quality: its own words, then studies of it, then people.

    Args:
        run: What was measured.
        beside: Other records; those of the same subject count, the last one most.
    """
    beside = beside or Beside()
    own = run_quality(run)
    known = {one.metric: one for one in (figures(own) if own else [])}
    for study in beside.studies:
        for one in study.systems:
            if same_subject(one.system.subject, run.subject):
                known |= {figure.metric: figure for figure in one.figures}
    known |= {one.metric: one for one in opinions(run.subject, beside.listening)}
    return list(known.values())


def opinions(subject: Subject, listening: Sequence[ListeningRecord]) -> list[Figure]:
    """Returns the mean opinion of a subject, by name; the last test that asked for it counts.

    Mean opinion scores come of absolute ratings alone.

    Args:
        subject: Whose.
        listening: Results of tests.
    """
    found = [
        Figure(metric="mos", value=one.value, low=one.low, high=one.high, n=one.ratings)
        for record in listening
        for one in record.systems
        if record.method == "acr"
        and one.scale in MOS_SCALES
        and one.name in listening_names(subject)
    ]
    return found[-1:]


def same_subject(one: Subject, other: Subject) -> bool:
    """Returns whether two records are of the same subject: its name and its files."""
    digests = [{file.sha256 for file in subject.files} for subject in (one, other)]
    return one.name == other.name and digests[0] == digests[1]


def listening_names(subject: Subject) -> set[str]:
    """Returns what a listening test may call a subject: its name, or its folder of clips."""
    return {
        subject.name,
        subject.name.removeprefix("piper:").removeprefix("piper-onnx:"),
        file_name(subject.name),
    }


def verdict(run: Run, beside: Beside | None = None) -> Decision:
    """Returns the verdict on a run, with what is known of its quality.

    Args:
        run: What was measured; its own budget counts.
        beside: Other records on quality.
    """
    budget = Budget.from_mapping(run.settings.budget)
    return judge(run, budget, known_figures(run, beside) if budget.quality else ())


def compared(record: ComparisonRecord, beside: Beside | None = None) -> Comparison:
    """Returns a comparison with its verdicts, with what is known of both subjects' quality.

    Each is the other's baseline.

    Args:
        record: What was measured.
        beside: Other records on quality.
    """
    budget = Budget.from_mapping(record.a.settings.budget)
    if not budget.quality:
        return compare_record(record, budget)
    known = [known_figures(run, beside) for run in (record.a, record.b)]
    for side, pair in enumerate(run_pairs(record)):
        told = pair.difference
        known[side].append(
            Figure(metric="wer_delta", value=told.value, low=told.low, high=told.high,
                   n=pair.utterances)
        )  # fmt: skip
    return compare_record(record, budget, known)


def run_pairs(record: ComparisonRecord) -> list[Pair]:
    """Returns A against B as its baseline, and B against A; empty where they did not hear."""
    heard = [run_quality(run) for run in (record.a, record.b)]
    a, b = heard
    if a is None or b is None:
        return []
    both = [pairs([b, a]), pairs([a, b])]
    return [found[0] for found in both if found]
