"""A model at several depths in one worker: its parts, what is timed of them, and the loop."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from vozmetro.errors import VozmetroError
from vozmetro.measure.components import LANGUAGE_PARTS, Stage, stages
from vozmetro.measure.depth_records import DepthPart, DepthStudy, DepthTask
from vozmetro.measure.live import HANG_S, new_sample, new_session, origin_ns, with_block
from vozmetro.measure.process import WorkerProcess
from vozmetro.measure.records import Failure, FileInfo, Note, Status
from vozmetro.measure.schedule import BLOCK_S, Listener, Outcome, Progress
from vozmetro.measure.subject import vocabulary_bounds
from vozmetro.measure.workload import WorkItem, from_prompts
from vozmetro.models import dummy_name
from vozmetro.models.dummy_name import Dummy
from vozmetro.models.resolve import ModelRef, resolve

DEPTHS = (1, 2, 4, 8)
"""Layers that a study measures unless told otherwise: a fourth depth narrows the interval much."""
_WARMUP_PASSES = 2
_MODULE = "vozmetro.measure.depth_worker"


@dataclass(frozen=True)
class Part:
    """One graph to load: its record, its model, and whether it is called with prompts."""

    record: DepthPart
    model: ModelRef

    @property
    def language(self) -> bool:
        """Whether it is called as a language model."""
        return self.record.component in LANGUAGE_PARTS

    def as_json(self) -> dict[str, Any]:
        """Returns the message for the worker."""
        path = self.model.path
        vocabulary = {} if self.language else vocabulary_bounds(path)
        return {"path": str(path), "language": self.language, "vocabulary": vocabulary}


@dataclass(frozen=True)
class Task:
    """One thing to time: its record, and the message for the worker."""

    record: DepthTask
    message: dict[str, Any]


def build(dummy: Dummy, depths: Sequence[int], full: bool, listen: Listener) -> list[Part]:
    """Makes everything that a study loads, or finds it made.

    Args:
        dummy: The model.
        depths: Layers of its main stack, each a graph of its own.
        full: Whether to make it at its full depth too.
        listen: Told about progress.

    Returns:
        The main stack by depth; then the other components, which are small enough to be whole.

    Raises:
        ModelError: They cannot be written or read.
    """

    def told(component: str, made: int, total: int) -> None:
        listen(Progress("building", f"{dummy.name} {component}", made, total))

    found = []
    for layers in [*sorted(depths), *([dummy.full_layers] if full else [])]:
        whole = layers == dummy.full_layers
        graphs = dummy_name.built(dummy, [dummy.stack], None if whole else layers, told)
        model = resolve(str(graphs[dummy.stack]))
        found.append(part(dummy.stack, layers, dummy.full_layers, model))
    others = [component for component in dummy.components if component != dummy.stack]
    if others:
        for component, path in dummy_name.built(dummy, others, None, told).items():
            # Their layers are theirs alone: nothing of them is cut.
            found.append(part(component, 0, 0, resolve(str(path))))
    return found


def part(component: str, layers: int, full_layers: int, model: ModelRef) -> Part:
    """Returns a part with its record."""
    record = DepthPart(
        id=f"{component}/{layers}" if layers else component,
        component=component,
        layers=layers,
        full_layers=full_layers,
        parameters=model.inspection.parameters,
        expected_ram=model.inspection.expected_ram,
        files=[
            FileInfo(path=str(path), bytes=size, sha256=digest)
            for path, size, digest in model.files
        ],
    )
    return Part(record, model)


def tasks(
    parts: Sequence[Part], prompt_tokens: Sequence[int], new_tokens: int, seed: int
) -> list[Task]:
    """Returns what a round times: each prompt on each depth, each stage of the other parts.

    Args:
        parts: What is loaded, in order.
        prompt_tokens: Lengths of the prompts.
        new_tokens: Tokens given for each, the first one included.
        seed: Seeds prompts and noise; equal for all depths.
    """
    found = []
    prompts = from_prompts(prompt_tokens, new_tokens, seed)
    for index, one in enumerate(parts):
        if one.language:
            found += [_prompt(index, one.record, item) for item in prompts]
        else:
            found += [
                _stage(index, one.record, stage, seed) for stage in stages(one.record.component)
            ]
    return found


def _prompt(index: int, one: DepthPart, item: WorkItem) -> Task:
    record = DepthTask(
        id=f"{one.id} · {item.id}",
        part=one.id,
        stage=f"{one.component} · {item.id}",
        tokens=item.tokens,
        new_tokens=item.new_tokens,
    )
    return Task(record, {"part": index, "item": item.as_json()})


def _stage(index: int, one: DepthPart, stage: Stage, seed: int) -> Task:
    what = stage.name.partition(" · ")[2]
    record = DepthTask(
        id=f"{one.id} · {what}",
        part=one.id,
        stage=stage.name,
        seconds=stage.seconds,
        repeats=len(stage.calls),
    )
    return Task(record, {"part": index, "stage": stage.as_json(), "seed": seed})


class LiveStudy:
    """A study being measured; the record of it grows in `study()`.

    Args:
        base: The study so far: new and empty, or one to resume.
        parts: What to load.
        work: What to time, in the order of the record's tasks.
    """

    def __init__(self, base: DepthStudy, parts: Sequence[Part], work: Sequence[Task]) -> None:
        self._base = base
        self._parts = parts
        self._work = work
        self._worker: WorkerProcess | None = None
        self._sessions = list(base.sessions)
        self._samples = list(base.samples)
        self._load_ms = [one.load_ms for one in base.parts]
        self._cache_bytes = [one.cache_bytes for one in base.tasks]
        self._labels = list(base.subject.engines)
        self._bad: dict[str, None] = {}
        self._notes = list(base.notes)
        self._round_s = 0.0
        self._origin_ns = origin_ns(base.created)

    @property
    def rounds(self) -> int:
        """Complete rounds so far."""
        return len(self._samples) // len(self._work)

    def measure(self, save: Callable[[Status], None], listen: Listener) -> Outcome:
        """Measures until the rounds asked for are done, the time ends, an error or Ctrl-C.

        Args:
            save: Called after each block.
            listen: Told about progress between blocks.

        Raises:
            VozmetroError: It failed before the first block was kept.
            KeyboardInterrupt: Ctrl-C before the first block was kept.
        """
        name = self._base.subject.name
        settings = self._base.settings
        try:
            listen(Progress("loading", name))
            self._open()
            began = perf_counter()
            while self.rounds < settings.iterations:
                if self._samples and perf_counter() - began > settings.max_time_s:
                    fields = {"limit": f"{settings.max_time_s:g}", "rounds": str(self.rounds)}
                    self._notes.append(Note(code="max_time_reached", fields=fields))
                    break
                left = (settings.iterations - self.rounds) * self._round_s
                listen(Progress("measuring", name, self.rounds, settings.iterations, left))
                self._block()
                save("running")
        except (VozmetroError, KeyboardInterrupt) as error:
            if not self._samples:
                raise
            if isinstance(error, KeyboardInterrupt):
                return Outcome("interrupted")
            return Outcome("failed", Failure(code=error.code, fields=error.fields))
        finally:
            self.close()
        return Outcome("complete")

    def close(self) -> None:
        """Ends the worker, if there is one."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    def _open(self) -> None:
        settings = self._base.settings
        self._worker = worker = WorkerProcess(_MODULE)
        imported = worker.ask("import", limit_s=HANG_S, threads=settings.threads)
        self._labels = imported["labels"]
        loaded = worker.ask(
            "load",
            limit_s=HANG_S,
            threads=settings.threads,
            device=settings.device,
            parts=[one.as_json() for one in self._parts],
        )
        self._load_ms = loaded["load_ms"]
        worker.ask("tasks", limit_s=HANG_S, tasks=[one.message for one in self._work])
        warm = worker.ask("warmup", limit_s=HANG_S, passes=_WARMUP_PASSES)
        self._round_s = warm["wall_ms"] / 1000
        self._sessions.append(new_session(imported, loaded, warm, sum(self._load_ms)))

    def _block(self) -> None:
        """Times some rounds, at least one, each a shuffle of all the tasks."""
        if self._worker is None:
            raise RuntimeError("the study is not open")
        settings, first = self._base.settings, self.rounds
        count = max(1, min(int(BLOCK_S / max(1e-9, self._round_s)), settings.iterations - first))
        order: list[int] = []
        for number in range(first, first + count):
            shuffled = list(range(len(self._work)))
            random.Random(f"{settings.seed}/{number}").shuffle(shuffled)  # noqa: S311
            order += shuffled
        probe = settings.threads if settings.device == "cpu" else 0
        reply = self._worker.ask("block", limit_s=HANG_S, order=order, probe=probe)
        memory = self._worker.ask("memory", limit_s=HANG_S)
        self._keep(reply, memory, first)

    def _keep(self, reply: dict[str, Any], memory: dict[str, Any], first: int) -> None:
        number = self._samples[-1].block + 1 if self._samples else 0
        session, width = len(self._sessions) - 1, len(self._work)
        self._samples += [
            new_sample(
                raw,
                self._origin_ns,
                item=self._work[raw["item"]].record.id,
                session=session,
                block=number,
                round_=first + position // width,
            )
            for position, raw in enumerate(reply["samples"])
        ]
        for index, size in reply["cache_bytes"].items():
            self._cache_bytes[int(index)] = size
        self._bad.update(dict.fromkeys(self._work[index].record.id for index in reply["bad"]))
        cpu_ms, wall_ms = (
            sum(raw[key] for raw in reply["samples"]) for key in ("cpu_ms", "wall_ms")
        )
        self._round_s = wall_ms / 1000 * width / len(reply["samples"])
        self._sessions[-1] = with_block(self._sessions[-1], memory, cpu_ms, wall_ms)

    def study(self, status: Status, failure: Failure | None = None) -> DepthStudy:
        """Returns the record as of now."""
        notes = list(self._notes)
        if self._bad:
            notes.append(Note(code="nan_output", fields={"items": ", ".join(self._bad)}))
        loaded = zip(self._base.parts, self._load_ms, strict=True)
        held = zip(self._base.tasks, self._cache_bytes, strict=True)
        return self._base.model_copy(
            update={
                "status": status,
                "subject": self._base.subject.model_copy(update={"engines": self._labels}),
                "parts": [one.model_copy(update={"load_ms": ms}) for one, ms in loaded],
                "tasks": [one.model_copy(update={"cache_bytes": size}) for one, size in held],
                "sessions": list(self._sessions),
                "samples": list(self._samples),
                "notes": notes,
                "failure": failure,
            }
        )
