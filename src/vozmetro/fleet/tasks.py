"""The parts of a plan, and the folder in which each result stands once."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vozmetro.errors import InputError
from vozmetro.fleet.plan import Plan, Stage
from vozmetro.measure.quality_records import QualityStudy
from vozmetro.measure.records import Run
from vozmetro.measure.storage import (
    QUALITY_FILE,
    RUN_FILE,
    load,
    load_quality,
    save,
    write_atomic,
)

PLAN_FILE, FAILED_FILE = "plan.json", "failed.json"
DEAF = "fleet_deaf"
"""Code of what is settled without a result: only what listens is scored."""
_FILES: Mapping[Stage, str] = {"bench": RUN_FILE, "quality": QUALITY_FILE}


@dataclass(frozen=True, order=True)
class Task:
    """One subject on one machine.

    Attributes:
        machine_class: Name of the kind of machine.
        place: Which of the machines of this kind, from 1.
        subject: The plan's words.
        stage: `bench` measures, `quality` scores.
    """

    machine_class: str
    place: int
    subject: str
    stage: Stage

    @property
    def folder(self) -> str:
        """Where its result stands, relative to the fleet's folder."""
        slug = re.sub(r"[^a-z0-9.]+", "-", self.subject.lower()).strip("-.")[:60]
        mark = hashlib.sha256(self.subject.encode()).hexdigest()[:6]
        return f"{self.machine_class}/{self.place}/{slug}-{mark}"


@dataclass(frozen=True)
class Failed:
    """Why there is no result.

    Attributes:
        code: Of the catalogue's errors.
        fields: Its fields.
    """

    code: str
    fields: dict[str, str] = field(default_factory=dict)


Outcome = Run | QualityStudy | Failed


def tasks(plan: Plan) -> list[Task]:
    """Returns all that a plan asks for; what is measured before what is scored."""
    stages: tuple[Stage, ...] = ("bench", "quality") if plan.quality else ("bench",)
    return [
        Task(name, place, subject, stage)
        for name, machine in plan.classes.items()
        for place in range(1, machine.nodes + 1)
        for stage in stages
        for subject in plan.subjects
    ]


class Results:
    """A fleet's folder: each task's result stands there once, written as a whole."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder, self._plan = folder, plan

    def claim(self) -> None:
        """Takes the folder for this plan, or goes on with it.

        Raises:
            InputError: `fleet_other_plan` where results of another plan lie there, `out_taken`
                where something else does.
            OutputError: It cannot be written to.
        """
        path = self.folder / PLAN_FILE
        if path.is_file():
            try:
                known = json.loads(path.read_bytes())["digest"]
            except (OSError, ValueError, KeyError, TypeError):
                known = ""
            if known != self._plan.digest:
                raise InputError("fleet_other_plan", path=self.folder)
            return
        if self.folder.is_dir() and any(self.folder.iterdir()):
            raise InputError("out_taken", path=self.folder)
        told = {"digest": self._plan.digest, "plan": self._plan.model_dump(mode="json")}
        write_atomic(path, json.dumps(told, indent=1).encode())

    def outcome(self, task: Task) -> Outcome | None:
        """Returns a task's result; None where it has none yet.

        Raises:
            InputError: A record that lies there cannot be read.
        """
        folder = self.folder / task.folder
        if (folder / _FILES[task.stage]).is_file():
            if task.stage == "quality":
                return load_quality(folder / QUALITY_FILE)
            found = load(folder / RUN_FILE)
            if not isinstance(found, Run):
                raise InputError("run_unreadable", path=folder, detail=f"type: {found.type}")
            return found
        failed = folder / f"{task.stage}-{FAILED_FILE}"
        if failed.is_file():
            told = json.loads(failed.read_bytes())
            return Failed(str(told["code"]), {k: str(v) for k, v in told["fields"].items()})
        return None

    def keep(self, task: Task, outcome: Outcome) -> bool:
        """Writes a result; returns False where there is one already, which then stays."""
        known = self.outcome(task)
        if known is not None and not isinstance(known, Failed):
            return False
        folder = self.folder / task.folder
        failed = folder / f"{task.stage}-{FAILED_FILE}"
        if isinstance(outcome, Failed):
            text = json.dumps({"code": outcome.code, "fields": outcome.fields}, indent=1)
            write_atomic(failed, text.encode())
        else:
            save(outcome, folder / _FILES[task.stage])
            failed.unlink(missing_ok=True)
        return True

    def missing(self) -> list[Task]:
        """Returns the tasks without a result; those that failed are among them."""
        found = {task: self.outcome(task) for task in tasks(self._plan)}
        return [
            task
            for task, one in found.items()
            if one is None or (isinstance(one, Failed) and one.code != DEAF)
        ]
