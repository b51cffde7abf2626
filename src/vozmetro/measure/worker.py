"""The process that loads one subject and times it. `python -m vozmetro.measure.worker`.

It reads one JSON request a line from standard input and answers one JSON line on what was its
standard output; libraries that print are sent to standard error. It knows no statistics: it does
what it is told, one request at a time, and ends when its input ends.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter_ns, process_time_ns
from typing import IO, Any

from vozmetro.engines.base import Engine, LoadRequest
from vozmetro.errors import MeasurementError, MissingExtraError, VozmetroError
from vozmetro.measure.callers import Caller, Outcome, SynthesizerCaller, make
from vozmetro.measure.memory import snapshot
from vozmetro.measure.meter import Meter
from vozmetro.measure.workload import WorkItem
from vozmetro.units import NS_PER_MS

Message = dict[str, Any]

_WARMUP_LEAST, _WARMUP_WINDOW, _WARMUP_FLAT = 4, 8, 1.05


class Worker:
    """State of the worker: one subject, its prepared items."""

    def __init__(self) -> None:
        self._engines: list[Engine] = []
        self._caller: Caller | None = None
        self._ready: list[Any] = []
        self._middle = 0
        self._meter = Meter()

    def handle(self, request: Message) -> Message:
        """Answers one request; the operation's name is in `op`."""
        operations: dict[str, Callable[[Message], Message]] = {
            "import": self._import,
            "load": self._load,
            "items": self._items,
            "warmup": self._warmup,
            "block": self._block,
            "idle": self._idle,
            "silence": self._silence,
            "speak": self._speak,
            "memory": lambda _: self._meter.memory(),
        }
        return operations[request["op"]](request)

    def _import(self, request: Message) -> Message:
        from vozmetro.engines import registry

        before = snapshot()
        start = perf_counter_ns()
        self._engines = [registry.find(name) for name in request["engines"]]
        for engine in self._engines:
            registry.import_modules(engine)
        elapsed = (perf_counter_ns() - start) / NS_PER_MS
        labels = [registry.label(engine) for engine in self._engines]
        defaults = [dict(engine.defaults) for engine in self._engines]
        return {"import_ms": elapsed, "memory": before, "labels": labels, "defaults": defaults}

    def _load(self, request: Message) -> Message:
        requests = [
            LoadRequest(Path(part["path"]), request["threads"], part["options"])
            for part in request["parts"]
        ]
        start = perf_counter_ns()
        loaded = [engine.load(one) for engine, one in zip(self._engines, requests, strict=True)]
        elapsed = (perf_counter_ns() - start) / NS_PER_MS
        self._caller = make(
            request["kind"],
            loaded,
            request["shapes"],
            request["vocabulary"],
            request.get("hangover_s"),
        )
        inputs = getattr(loaded[0], "inputs", [])
        return {
            "load_ms": elapsed,
            "memory": snapshot(),
            "input_dtypes": {spec.name: spec.dtype for spec in inputs},
        }

    def _items(self, request: Message) -> Message:
        prepared = [self._subject.prepare(WorkItem.from_json(item)) for item in request["items"]]
        self._ready = [ready for ready, _ in prepared]
        # Of middle length: what is timed once or a few times is timed on this one.
        items = request["items"]
        by_length = sorted(
            range(len(prepared)), key=lambda i: (items[i]["seconds"], items[i]["tokens"])
        )
        self._middle = by_length[(len(by_length) - 1) // 2]
        return {"inputs": [[one._asdict() for one in inputs] for _, inputs in prepared]}

    @property
    def _subject(self) -> Caller:
        if self._caller is None:
            raise RuntimeError("no subject is loaded")
        return self._caller

    def _timed(self, index: int) -> tuple[Message, Any]:
        """Runs one item; returns the sample and the output."""
        ready, call = self._ready[index], self._subject.call
        return timed(index, lambda start_ns: call(ready, start_ns))

    def _warmup(self, request: Message) -> Message:
        """Runs every item once, then the middle one until its times stop falling.

        The first inference is apart. Every item runs, as far as `pass_max_s` seconds allow, because
        a runtime may plan memory anew for each input shape. Flat means: the fastest of the last
        runs is within 5 % of the fastest of those before.
        """
        first = self._timed(self._middle)[0]["ms"]
        begin = time.perf_counter()
        times, walls = [], []
        for index in range(len(self._ready)):
            sample, _ = self._timed(index)
            times.append(sample["ms"])
            walls.append(sample["wall_ms"])
            if time.perf_counter() - begin > request["pass_max_s"]:
                break
        deadline = time.perf_counter() + request["max_s"]
        repeats = [self._timed(self._middle)[0]["ms"]]
        while not (flat := _flat(repeats)) and time.perf_counter() < deadline:
            repeats.append(self._timed(self._middle)[0]["ms"])
        return {
            "first_ms": first,
            "warmup_ms": times + repeats,
            "wall_ms": sum(walls) / len(walls),
            "sufficient": flat,
            "memory": snapshot(),
        }

    def _block(self, request: Message) -> Message:
        """Times the items in the order given, after `settle` untimed calls of the first one.

        With `probe` threads, the memory's bandwidth is read before each.
        """
        samples: list[Message] = []
        outputs: dict[int, Any] = {}
        order: list[int] = request["order"]
        bad: set[int] = set()
        sane = self._subject.sane
        if request["probe"]:
            self._meter.start(request["probe"])
        with no_collection():
            for _ in range(request["settle"]):
                self._timed(order[0])
            # Between samples as little as can be: what runs here pushes the model's data out of
            # the caches. A quick check of every output; a thorough look at each item's last one.
            for index in order:
                gbs = self._meter.gbs()
                sample, output = self._timed(index)
                samples.append({**sample, "probe_gbs": gbs})
                outputs[index] = output
                if not sane(output):
                    bad.add(index)
        looks = {index: self._subject.look(output) for index, output in outputs.items()}
        bad.update(index for index, look in looks.items() if not look.finite)
        described = {
            str(index): [look.text, look.digest, look.cache_bytes] for index, look in looks.items()
        }
        return {"samples": samples, "looks": described, "bad": sorted(bad)}

    def _idle(self, request: Message) -> Message:
        """Times single inferences, each after `gap_s` seconds without work."""
        times = []
        for _ in range(request["count"]):
            time.sleep(request["gap_s"])
            times.append(self._timed(self._middle)[0]["ms"])
        return {"idle_ms": times}

    def _silence(self, _: Message) -> Message:
        """Runs the first item with its content taken out; says whether the output is the same."""
        subject = self._subject
        spoken = subject.look(subject.call(self._ready[0], perf_counter_ns()).output)
        try:
            outcome = subject.call(subject.silenced(self._ready[0]), perf_counter_ns())
        except Exception:
            # A model that refuses such input has looked at it.
            return {"same": False}
        return {"same": spoken.digest == subject.look(outcome.output).digest}

    def _speak(self, request: Message) -> Message:
        """Times one item of a voice, and writes what it said to `path`."""
        voice = self._subject
        if not isinstance(voice, SynthesizerCaller):
            raise RuntimeError("the subject is no voice")
        with no_collection():
            sample, output = self._timed(request["item"])
        if not voice.sane(output):
            raise MeasurementError("silent_voice", text=self._ready[request["item"]])
        return {**sample, "seconds": voice.write(output, Path(request["path"]))}


def timed(index: int, call: Callable[[int], Outcome]) -> tuple[Message, Any]:
    """Calls with the moment of the start; returns the sample of that item and the output."""
    cpu = process_time_ns()
    start = perf_counter_ns()
    outcome = call(start)
    wall = perf_counter_ns() - start
    cpu = process_time_ns() - cpu
    sample = {
        "item": index,
        "start_ns": start,
        "ms": (outcome.end_ns - (outcome.start_ns or start)) / NS_PER_MS,
        # A language model goes on after its clock has stopped.
        "wall_ms": wall / NS_PER_MS,
        "cpu_ms": cpu / NS_PER_MS,
        "parts": outcome.parts_ms,
    }
    return sample, outcome.output


@contextmanager
def no_collection() -> Iterator[None]:
    """Keeps the garbage collector out of what is timed."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _flat(repeats: list[float]) -> bool:
    """Whether the later half of the last repeats is no faster than the earlier, within 5 %."""
    if len(repeats) < _WARMUP_LEAST:
        return False
    recent = repeats[-_WARMUP_WINDOW:]
    half = len(recent) // 2
    return min(recent[:half]) <= _WARMUP_FLAT * min(recent[half:])


def _failure(error: BaseException) -> Message:
    if isinstance(error, MissingExtraError):
        return {"code": error.code, "fields": error.fields, "type": "missing_extra"}
    if isinstance(error, VozmetroError):
        return {"code": error.code, "fields": error.fields, "type": "known"}
    if isinstance(error, MemoryError):
        known = MeasurementError("out_of_memory")
    else:
        lines = str(error).strip().splitlines() or [""]
        known = MeasurementError("model_failed", detail=f"{type(error).__name__}: {lines[0][:300]}")
    return {"code": known.code, "fields": known.fields, "type": "known"}


def serve(
    requests: IO[str], replies: IO[str], handle: Callable[[Message], Message] | None = None
) -> None:
    """Answers requests until there are no more; by default as a `Worker`."""
    handle = handle or Worker().handle
    for line in requests:
        try:
            reply = handle(json.loads(line))
        except Exception as error:  # whatever a model raises must reach the parent
            reply = {"error": _failure(error)}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


def run_worker(handle: Callable[[Message], Message]) -> None:
    """Keeps standard output for replies alone and serves."""
    # Ctrl-C reaches the whole process group; the parent decides what happens to the worker.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    serve(sys.stdin, replies, handle)


if __name__ == "__main__":
    run_worker(Worker().handle)
