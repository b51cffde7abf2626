"""A measured subject, with all that a page has on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vozmetro.judge.comparison import Comparison
from vozmetro.report.checklist import side
from vozmetro.report.formatting import subject_name
from vozmetro.report.html.text import Text, same, tidy
from vozmetro.report.quality_judged import Beside
from vozmetro.report.template import Judged


@dataclass(frozen=True)
class Subject:
    """A run with all that the page has on it.

    Attributes:
        judged: The run and its verdict.
        comparisons: Of the page; those with this subject count.
        beside: Records on quality.
        key: Starts the ids of its sections.
    """

    judged: Judged
    comparisons: Sequence[Comparison]
    beside: Beside
    key: str

    @property
    def mine(self) -> list[Comparison]:
        """Comparisons with this subject."""
        return [found for found in self.comparisons if side(self.judged.run, found)]

    @property
    def name(self) -> Text:
        """What to call it."""
        return same(tidy(subject_name(self.judged.run)))
