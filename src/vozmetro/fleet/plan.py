"""`PLAN.toml`: what is measured on which kinds of machine. Read strictly."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from vozmetro.errors import InputError
from vozmetro.judge.budget import Budget
from vozmetro.planning import Options

MOST_BYTES = 1 << 20
"""Bytes of the largest plan that is read."""
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
"""What a machine class may be called: it names a folder."""

Words = Annotated[str, Field(min_length=1, max_length=1000)]
Stage = Literal["bench", "quality"]


class _Table(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid", strict=True)


class MachineClass(_Table):
    """One kind of machine.

    Attributes:
        labels: Labels that a Ray node of this kind has, all of them.
        nodes: Machines of this kind to measure on.
        price: What one costs, in any currency; None where it does not count.
    """

    labels: dict[Words, Words] = {}
    nodes: int = Field(default=1, ge=1, le=1000)
    price: float | None = Field(default=None, gt=0, allow_inf_nan=False, strict=False)


class Plan(_Table):
    """What to measure, and where.

    Attributes:
        name: For people.
        subjects: As `bench` takes them.
        classes: Kinds of machine by name.
        corpus: As `--corpus`; None for synthetic audio.
        quality: Corpus on which subjects that listen are scored too; None for no scoring.
        quality_limit: Most utterances of it.
        shared: Whether all machines find models and corpora at the same paths; then none travels.
        audio_seconds: As `--audio-seconds`.
        iterations: As `--iterations`.
        until: As `--until`.
        max_time_s: As `--max-time`.
        threads: As `--threads`; None for what each machine allows.
        languages: Of the corpora.
        limit: Most utterances of `corpus`.
        seed: As `--seed`.
        turns: As `--turns`.
        hangover_s: As `--hangover`, in seconds.
        budget: A budget's tables.
    """

    name: Words
    subjects: tuple[Words, ...] = Field(min_length=1, max_length=100, strict=False)
    classes: dict[str, MachineClass] = Field(min_length=1, max_length=100)
    corpus: Words | None = None
    quality: Words | None = None
    quality_limit: int | None = Field(default=None, ge=1)
    shared: bool = False
    audio_seconds: tuple[float, ...] = Field(default=(), max_length=100, strict=False)
    iterations: int = 20
    until: Literal["decided", "iterations"] = "decided"
    max_time_s: float = Field(default=600.0, gt=0, le=86_400, strict=False)
    threads: int | None = None
    languages: tuple[Words, ...] = Field(default=(), max_length=100, strict=False)
    limit: int | None = Field(default=None, ge=1)
    seed: int = 0
    turns: bool = False
    hangover_s: float | None = Field(default=None, strict=False)
    budget: dict[str, Any] = {}

    @model_validator(mode="after")
    def _sound(self) -> Plan:
        for name in self.classes:
            if not NAME.fullmatch(name):
                raise ValueError(f"classes.{name[:60]!r}: a-z 0-9 _ -")
        if len(set(self.subjects)) < len(self.subjects):
            raise ValueError("subjects: each once")
        return self

    @property
    def digest(self) -> str:
        """SHA-256 of what the plan asks for; prices and names do not count."""
        asked = self.model_dump(mode="json", exclude={"name", "classes"})
        classes = {name: one.model_dump(exclude={"price"}) for name, one in self.classes.items()}
        text = json.dumps({**asked, "classes": classes}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def options(self) -> Options:
        """Returns how each subject is measured.

        Raises:
            InputError: `budget_invalid`.
        """
        return Options(
            iterations=self.iterations,
            corpus=self.corpus,
            audio_seconds=self.audio_seconds,
            threads=self.threads,
            budget=Budget.from_mapping(self.budget),
            until=self.until,
            max_time_s=self.max_time_s,
            languages=self.languages,
            limit=self.limit,
            seed=self.seed,
            turns=self.turns,
            hangover_s=self.hangover_s,
        )


def load(path: Path) -> Plan:
    """Reads a plan.

    Raises:
        InputError: `file_missing`, `fleet_plan` with the place and what is wrong, and what
            `Options.settings` raises.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InputError("fleet_plan", path=path, detail=f"> {MOST_BYTES >> 20} MiB")
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError("file_missing", path=path) from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError("fleet_plan", path=path, detail=error) from error
    try:
        plan = Plan.model_validate(table)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        detail = f"{where}: {first['msg']}".removeprefix(": ").replace("Value error, ", "")
        raise InputError("fleet_plan", path=path, detail=detail) from error
    # Each value in its range, before any machine is asked for.
    plan.options().settings(plan.subjects[0])
    return plan
