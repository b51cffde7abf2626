"""One subject in its worker: opened, warmed up, asked for blocks, and written down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from time import perf_counter_ns
from typing import Any

from vozmetro.measure.outputs import input_notes, output_notes, turn_notes
from vozmetro.measure.process import WorkerProcess
from vozmetro.measure.records import (
    Failure,
    Item,
    Memory,
    Note,
    ResolvedInput,
    Run,
    Sample,
    Session,
    Status,
)
from vozmetro.measure.subject import Target, vocabulary_bounds
from vozmetro.measure.workload import WorkItem
from vozmetro.units import MB

# Warm-up: each item once, and then repeats of one, end after that many seconds.
WARMUP_PASS_MAX_S, WARMUP_MAX_S = 60.0, 10.0
WARMUP_TURNS_MAX_S = 10.0
"""The same for turns, which take as long as somebody speaks."""
IDLE_GAP_S, IDLE_COUNT = 1.0, 3
# A single load, warm-up or block that takes longer than this hangs.
HANG_S = 1800.0
MEMORY_BOUND_BYTES = 64 * MB
"""A language model with more weights than this waits for memory, not for the processor."""
# A model faster than this finds its data thrown out of the caches by the other one's block.
_SETTLE_BELOW_MS = 100.0

Reply = Mapping[str, Any]
"""What a worker answered."""


@dataclass(frozen=True)
class Block:
    """Samples of one block and what came out, not yet written down."""

    samples: list[Sample]
    walls_ms: list[float]
    looks: dict[str, tuple[str, str, int]]
    bad: list[str]
    memory: dict[str, Any]


def origin_ns(created: str) -> int:
    """Returns the clock's reading when a record was created; a resumed one counts on from it."""
    passed = (datetime.now(UTC) - datetime.fromisoformat(created)).total_seconds()
    return perf_counter_ns() - round(passed * 1e9)


def new_session(imported: Reply, loaded: Reply, warm: Reply, load_ms: float) -> Session:
    """Returns what a worker told while it came up, `load_ms` for all that it loaded."""
    phases = {"start": imported, "loaded": loaded, "warm": warm}
    return Session(
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        load_ms=load_ms,
        import_ms=imported["import_ms"],
        first_ms=warm["first_ms"],
        warmup_ms=warm["warmup_ms"],
        warmup_sufficient=warm["sufficient"],
        memory={name: Memory(**reply["memory"]) for name, reply in phases.items()},
    )


def new_sample(
    raw: Reply, origin: int, *, item: str, session: int, block: int, round_: int
) -> Sample:
    """Returns the record of one sample as the worker told it."""
    return Sample(
        item=item,
        session=session,
        block=block,
        round=round_,
        at_s=round((raw["start_ns"] - origin) / 1e9, 6),
        ms=raw["ms"],
        cpu_ms=raw["cpu_ms"],
        parts=raw["parts"],
        probe_gbs=raw["probe_gbs"],
    )


def with_block(last: Session, memory: Reply, cpu_ms: float, wall_ms: float) -> Session:
    """Returns the session with what a block more took."""
    return last.model_copy(
        update={
            "memory": {**last.memory, "end": Memory(**memory["memory"])},
            "peak_rss": memory["peak_rss"],
            "cpu_s": last.cpu_s + cpu_ms / 1000,
            "wall_s": last.wall_s + wall_ms / 1000,
        }
    )


class LiveSubject:
    """A subject being measured; the record of it grows in `run()`.

    Args:
        target: The subject.
        work: Its items.
        base: The run so far: new and empty, or one to resume.
        shared: Whether another live worker takes turns with this one.
        worker: A process started ahead, so that it came up while the parent prepared.
    """

    def __init__(
        self,
        target: Target,
        work: Sequence[WorkItem],
        base: Run,
        *,
        shared: bool = False,
        worker: WorkerProcess | None = None,
    ) -> None:
        self._target = target
        self._work = work
        self._base = base
        self._shared = shared
        self._worker: WorkerProcess | None = None
        self._waiting = worker
        self._vocabulary = (
            vocabulary_bounds(target.models[0].path) if target.kind == "graph" else {}
        )
        self._items = {item.id: item for item in base.items}
        self._sessions = list(base.sessions)
        self._samples = list(base.samples)
        self._walls_ms = [sample.ms for sample in base.samples]
        self._warm_ms = 0.0
        self._digests: dict[str, str] = {}
        self._bad: dict[str, None] = {}
        self._silence_same = False
        self._subject = base.subject
        self.notes: list[Note] = list(base.notes)
        self._origin_ns = origin_ns(base.created)

    @property
    def name(self) -> str:
        """The user's words for the subject."""
        return self._target.name

    @property
    def item_count(self) -> int:
        """Items in a round."""
        return len(self._work)

    @property
    def rounds(self) -> int:
        """Complete rounds so far."""
        return len(self._samples) // len(self._work)

    @property
    def next_block(self) -> int:
        """Number of the next block; a resumed run counts on."""
        return self._samples[-1].block + 1 if self._samples else 0

    @property
    def sample_count(self) -> int:
        """Samples so far."""
        return len(self._samples)

    @property
    def sample_seconds(self) -> float:
        """Mean time of an inference: in the last round or, before any, in the warm-up."""
        times = self._walls_ms[-len(self._work) :] or [self._warm_ms]
        return sum(times) / len(times) / 1000

    def truncate(self, count: int) -> None:
        """Forgets the samples after the first `count`."""
        del self._samples[count:]
        del self._walls_ms[count:]

    def open(self) -> None:
        """Starts the worker: imports, loads, prepares the items, warms up."""
        self.close()
        self._worker = worker = self._waiting or WorkerProcess()
        self._waiting = None
        settings = self._base.settings
        engines = [model.engine for model in self._target.models]
        imported = worker.ask("import", limit_s=HANG_S, engines=engines)
        loaded = worker.ask(
            "load",
            limit_s=HANG_S,
            kind=self._target.kind,
            threads=settings.threads,
            parts=[
                {"path": str(model.path), "options": model.options} for model in self._target.models
            ],
            shapes=settings.shapes,
            vocabulary=self._vocabulary,
            hangover_s=settings.hangover_s,
        )
        prepared = worker.ask(
            "items", limit_s=HANG_S, items=[item.as_json() for item in self._work]
        )
        self._describe(imported, loaded, prepared)
        pass_max_s = WARMUP_PASS_MAX_S if settings.hangover_s is None else WARMUP_TURNS_MAX_S
        warm = worker.ask("warmup", limit_s=HANG_S, max_s=WARMUP_MAX_S, pass_max_s=pass_max_s)
        if self._target.kind in ("graph", "lm") or len(self._work) == 1:
            self._silence_same = worker.ask("silence", limit_s=HANG_S)["same"]
        self._warm_ms = warm["wall_ms"]
        self._sessions.append(new_session(imported, loaded, warm, loaded["load_ms"]))

    def _describe(self, imported: Any, loaded: Any, prepared: Any) -> None:
        claimed = self._base.settings.claimed_parameters
        self._subject = self._target.record(
            imported["labels"], imported["defaults"], loaded["input_dtypes"], claimed
        )
        for work, inputs in zip(self._work, prepared["inputs"], strict=True):
            resolved = [ResolvedInput(**one) for one in inputs]
            self._items[work.id] = work.record().model_copy(update={"inputs": resolved})

    def block(self, number: int, order: Sequence[int]) -> Block:
        """Times one block; nothing is written down before `keep`.

        Args:
            number: Number of the block.
            order: The items' indices in the order to run them, going on where the last round is.
        """
        if self._worker is None:
            raise RuntimeError("the subject is not open")
        fast = self.sample_seconds * 1000 < _SETTLE_BELOW_MS
        settle = int(self._shared and fast)
        reply = self._worker.ask(
            "block", limit_s=HANG_S, order=list(order), settle=settle, probe=self._probe
        )
        memory = self._worker.ask("memory", limit_s=HANG_S)
        done, session = len(self._samples), len(self._sessions) - 1
        samples = [
            new_sample(
                raw,
                self._origin_ns,
                item=self._work[raw["item"]].id,
                session=session,
                block=number,
                round_=(done + position) // len(self._work),
            )
            for position, raw in enumerate(reply["samples"])
        ]
        walls = [raw["wall_ms"] for raw in reply["samples"]]
        looks = {self._work[int(index)].id: tuple(look) for index, look in reply["looks"].items()}
        bad = [self._work[index].id for index in reply["bad"]]
        return Block(samples, walls, looks, bad, memory)

    @property
    def _probe(self) -> int:
        """Threads that read memory beside each sample; 0 where its speed is not what matters."""
        target = self._target
        bound = target.kind == "lm" and target.device == "cpu"
        large = target.weight_bytes >= MEMORY_BOUND_BYTES
        return self._base.settings.threads if bound and large else 0

    def keep(self, block: Block) -> None:
        """Writes a block down."""
        self._samples += block.samples
        self._walls_ms += block.walls_ms
        for item, (text, digest, cache) in block.looks.items():
            told = {"output": text, "cache_bytes": cache}
            self._items[item] = self._items[item].model_copy(update=told)
            self._digests[item] = digest
        self._bad.update(dict.fromkeys(block.bad))
        cpu_ms = sum(one.cpu_ms for one in block.samples)
        self._sessions[-1] = with_block(
            self._sessions[-1], block.memory, cpu_ms, sum(block.walls_ms)
        )

    def rest(self) -> None:
        """Times single inferences after silence."""
        if self._worker is None:
            return
        reply = self._worker.ask("idle", limit_s=HANG_S, gap_s=IDLE_GAP_S, count=IDLE_COUNT)
        self._sessions[-1] = self._sessions[-1].model_copy(
            update={"idle_ms": reply["idle_ms"], "idle_gap_s": IDLE_GAP_S}
        )

    def close(self) -> None:
        """Ends the worker, if there is one."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    def run(self, status: Status, failure: Failure | None = None) -> Run:
        """Returns the record as of now."""
        items: list[Item] = [self._items[work.id] for work in self._work]
        found = [
            *input_notes(self._target, items),
            *output_notes(self._target, items, self._digests, list(self._bad), self._silence_same),
        ]
        if self._base.settings.hangover_s is not None:
            found += turn_notes(self._samples)
        if self._sessions and not self._sessions[-1].warmup_sufficient:
            runs = len(self._sessions[-1].warmup_ms)
            found.append(Note(code="warmup_insufficient", fields={"runs": str(runs)}))
        # What was noted before a resume stays true of the samples from then.
        codes = {note.code for note in found}
        notes = [*(note for note in self.notes if note.code not in codes), *found]
        return self._base.model_copy(
            update={
                "status": status,
                "subject": self._subject,
                "items": items,
                "sessions": list(self._sessions),
                "samples": list(self._samples),
                "notes": notes,
                "failure": failure,
            }
        )
