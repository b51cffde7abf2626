"""A quality study while it grows, saved after every batch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from vozmetro.measure.quality_records import Clip, QualityStudy, SpeechItem, System
from vozmetro.measure.records import Failure, Status, Subject
from vozmetro.measure.schedule import Listener
from vozmetro.measure.storage import QUALITY_FILE, save


@dataclass
class Growing:
    """A study while it grows.

    Attributes:
        record: What was known when it began.
        items: Its items, completed as their sound is made.
        systems: By position.
        human: The recordings themselves, beside voices.
        judge: What listened to the voices.
        out: Where it is saved after every batch.
        listen: Told about progress.
    """

    record: QualityStudy
    items: list[SpeechItem]
    systems: list[System]
    out: Path
    listen: Listener
    human: list[Clip] = field(default_factory=list)
    judge: Subject | None = None

    def now(self, status: Status, failure: Failure | None = None) -> QualityStudy:
        """Returns the record as of now."""
        return self.record.model_copy(
            update={
                "status": status,
                "items": list(self.items),
                "systems": list(self.systems),
                "human": list(self.human),
                "judge": self.judge,
                "failure": failure,
            }
        )

    def save(self, status: Status = "running", failure: Failure | None = None) -> QualityStudy:
        """Saves the record as of now, and returns it."""
        found = self.now(status, failure)
        save(found, self.out / QUALITY_FILE)
        return found
