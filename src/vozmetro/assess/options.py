"""How a quality study is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from vozmetro.errors import InputError
from vozmetro.judge.budget import Budget
from vozmetro.measure import environment
from vozmetro.measure.quality_records import CLEAN, QualitySettings
from vozmetro.measure.records import Device
from vozmetro.planning import corpus_from_anywhere, from_anywhere

MOST_REPEATS = 20
"""Most times that a voice says each text."""


@dataclass(frozen=True)
class QualityOptions:
    """How to study; every field has the default of the command line.

    Attributes:
        corpus: Names, folders or manifests, joined by commas; see `speech.corpus.load_corpus`.
        languages: Languages of the corpus to keep; empty for all that the subjects know.
        limit: Most utterances to take.
        conditions: Conditions beside `clean`, joined by commas, as `speech.conditions.parse` reads.
        judge: What listens to voices; empty for nothing.
        repeats: Times that a voice says each text.
        baseline: The subject that others are compared with; empty for the first.
        threads: Threads of an engine; None for the cores that this process may use.
        device: Where to run: `cpu` or `cuda`.
        seed: Of noise, rooms and draws.
        budget: The limits.
        command: Command line for the report.
    """

    corpus: str
    languages: Sequence[str] = ()
    limit: int | None = None
    conditions: str = CLEAN
    judge: str = ""
    repeats: int = 1
    baseline: str = ""
    threads: int | None = None
    device: Device = "cpu"
    seed: int = 0
    budget: Budget = field(default_factory=Budget)
    command: Sequence[str] = ()

    def named(self, subjects: Sequence[str]) -> list[str]:
        """Returns the user's words for the subjects, the baseline among them."""
        paths = [from_anywhere(name) for name in subjects]
        missing = self.baseline and from_anywhere(self.baseline) not in paths
        return [self.baseline, *subjects] if missing else list(subjects)

    def settings(self, subjects: Sequence[str], conditions: Sequence[str]) -> QualitySettings:
        """Returns the record of these options.

        Args:
            subjects: The words that name them.
            conditions: Names as parsed.

        Raises:
            InputError: `subject_twice`, `threads_range` or `repeats_range`.
        """
        named = [from_anywhere(name) for name in self.named(subjects)]
        if len(set(named)) != len(named):
            raise InputError("subject_twice", names=", ".join(named))
        threads = self.threads if self.threads is not None else environment.cores_allowed()
        if not 1 <= threads <= 1024:
            raise InputError("threads_range", given=threads)
        if not 1 <= self.repeats <= MOST_REPEATS:
            raise InputError("repeats_range", given=self.repeats, most=MOST_REPEATS)
        return QualitySettings(
            subjects=named,
            baseline=from_anywhere(self.baseline) if self.baseline else "",
            corpus=corpus_from_anywhere(self.corpus),
            languages=list(self.languages),
            limit=self.limit,
            conditions=list(conditions),
            judge=from_anywhere(self.judge) if self.judge else "",
            repeats=self.repeats,
            threads=threads,
            device=self.device,
            seed=self.seed,
            budget=self.budget.to_mapping(),
            command=list(self.command),
        )
