"""The parts of a plan, and the folder in which each result stands once."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError

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

PLAN_FILE, FAILED_FILE, MACHINES_FILE = "plan.json", "failed.json", "machines.json"
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
    def place_of_plan(self) -> Place:
        """The machine for which it is."""
        return self.machine_class, self.place

    @property
    def folder(self) -> str:
        """Where its result stands, relative to the fleet's folder."""
        slug = re.sub(r"[^a-z0-9.]+", "-", self.subject.lower()).strip("-.")[:60]
        mark = hashlib.sha256(self.subject.encode()).hexdigest()[:6]
        return f"{self.machine_class}/{self.place}/{slug}-{mark}"


class Failed(BaseModel):
    """Why there is no result.

    Attributes:
        code: Of the catalogue's errors.
        fields: Its fields.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid", strict=True)
    code: str
    fields: dict[str, str] = {}


Outcome = Run | QualityStudy | Failed
Place = tuple[str, int]
"""A machine of the plan: its class, and which of them, from 1."""


def settled(outcome: Outcome | None) -> bool:
    """Whether nothing is left to do for a task; what failed or broke off is tried again."""
    if isinstance(outcome, Failed):
        return outcome.code == DEAF
    return outcome is not None and outcome.status == "complete"


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

    def claim(self, versions: Mapping[str, str]) -> None:
        """Takes the folder for this plan, or goes on with it.

        Args:
            versions: What results hang on beside the plan, by name: digests of models and speech,
                the version of vozmetro.

        Raises:
            InputError: `fleet_other_plan` where results of another plan lie there,
                `fleet_changed` where they are of other files or versions, `out_taken` where
                something else lies there.
            OutputError: It cannot be written to.
        """
        path = self.folder / PLAN_FILE
        if path.is_file():
            try:
                told = json.loads(path.read_bytes())
                known, before = told["digest"], dict(told["versions"])
            except (OSError, ValueError, KeyError, TypeError):
                known, before = "", {}
            if known != self._plan.digest:
                raise InputError("fleet_other_plan", path=self.folder)
            changed = [name for name, one in versions.items() if before.get(name) != one]
            if changed:
                raise InputError("fleet_changed", path=self.folder, what=", ".join(changed))
            return
        if self.folder.is_dir() and any(self.folder.iterdir()):
            raise InputError("out_taken", path=self.folder)
        plan = self._plan.model_dump(mode="json")
        told = {"digest": self._plan.digest, "versions": dict(versions), "plan": plan}
        write_atomic(path, json.dumps(told, indent=1).encode())

    def machine(self, place: Place) -> str | None:
        """Returns the machine on which a place's results were measured; None for none yet."""
        return self._machines().get(_name(place))

    def remember(self, place: Place, machine: str) -> None:
        """Keeps which machine a place is: its other results must come from the same one."""
        known = self._machines()
        if known.get(_name(place)) != machine:
            told = json.dumps({**known, _name(place): machine}, indent=1)
            write_atomic(self.folder / MACHINES_FILE, told.encode())

    def _machines(self) -> dict[str, str]:
        path = self.folder / MACHINES_FILE
        try:
            return {str(k): str(v) for k, v in json.loads(path.read_bytes()).items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, AttributeError) as error:
            raise InputError("run_unreadable", path=path, detail=error) from error

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
            try:
                return Failed.model_validate_json(failed.read_bytes())
            except (OSError, ValidationError) as error:
                detail = str(error).splitlines()[0]
                raise InputError("run_unreadable", path=failed, detail=detail) from error
        return None

    def keep(self, task: Task, outcome: Outcome) -> bool:
        """Writes a result; returns False where there is one already, which then stays."""
        known = self.outcome(task)
        if settled(known) or (
            isinstance(outcome, Failed) and isinstance(known, Run | QualityStudy)
        ):
            return False
        folder = self.folder / task.folder
        failed = folder / f"{task.stage}-{FAILED_FILE}"
        if isinstance(outcome, Failed):
            write_atomic(failed, outcome.model_dump_json(indent=1).encode())
        else:
            save(outcome, folder / _FILES[task.stage])
            failed.unlink(missing_ok=True)
        return True

    def missing(self) -> list[Task]:
        """Returns the tasks that are not settled."""
        return [task for task in tasks(self._plan) if not settled(self.outcome(task))]


def _name(place: Place) -> str:
    return f"{place[0]}/{place[1]}"
