"""The process that loads one model at several depths and times them by turns.

`python -m vozmetro.measure.depth_worker`. It speaks as `worker` does. All parts share one pool of
threads: with a pool each, those that are not at work would spin against the one that is.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np

from vozmetro.engines.base import LanguageModel, LoadRequest
from vozmetro.measure.callers import LanguageModelCaller, Outcome
from vozmetro.measure.components import BoundGraph, Stage
from vozmetro.measure.memory import snapshot
from vozmetro.measure.meter import Meter
from vozmetro.measure.worker import Message, no_collection, run_worker, timed
from vozmetro.measure.workload import WorkItem
from vozmetro.units import NS_PER_MS

Task = Callable[[int], Outcome]


class DepthWorker:
    """State of the worker: all the parts, and what is timed of them."""

    def __init__(self) -> None:
        self._parts: list[Any] = []
        self._tasks: list[Task] = []
        self._looks: list[Callable[[Any], tuple[bool, int]]] = []
        self._meter = Meter()

    def handle(self, request: Message) -> Message:
        """Answers one request; the operation's name is in `op`."""
        operations: dict[str, Callable[[Message], Message]] = {
            "import": self._import,
            "load": self._load,
            "tasks": self._make,
            "warmup": self._warmup,
            "block": self._block,
            "memory": lambda _: self._meter.memory(),
        }
        return operations[request["op"]](request)

    def _import(self, request: Message) -> Message:
        from vozmetro.engines import registry
        from vozmetro.engines.onnx_graph import use_global_pool

        before = snapshot()
        start = perf_counter_ns()
        engine = registry.find("language-model")
        registry.import_modules(engine)
        # Before the first session, or it comes too late.
        use_global_pool(request["threads"])
        elapsed = (perf_counter_ns() - start) / NS_PER_MS
        label = registry.label(engine)
        return {"import_ms": elapsed, "memory": before, "labels": [label]}

    def _load(self, request: Message) -> Message:
        from vozmetro.engines import registry

        engine = registry.find("language-model")
        times = []
        for part in request["parts"]:
            options = {"provider": request["device"], "pool": "global"}
            asked = LoadRequest(Path(part["path"]), request["threads"], options)
            start = perf_counter_ns()
            if part["language"]:
                self._parts.append(LanguageModelCaller(_language_model(engine.load(asked))))
            else:
                self._parts.append(BoundGraph(asked, part["vocabulary"]))
            times.append((perf_counter_ns() - start) / NS_PER_MS)
        return {"load_ms": times, "memory": snapshot()}

    def _make(self, request: Message) -> Message:
        for task in request["tasks"]:
            part = self._parts[task["part"]]
            if isinstance(part, LanguageModelCaller):
                ready, _ = part.prepare(WorkItem.from_json(task["item"]))
                self._tasks.append(_bound(part.call, ready))
                self._looks.append(_prompt_look(part))
            else:
                bindings = part.bind(Stage.from_json(task["stage"]), task["seed"])
                self._tasks.append(_bound(part.run, bindings))
                self._looks.append(_graph_look)
        return {}

    def _timed(self, index: int) -> tuple[Message, Any]:
        return timed(index, self._tasks[index])

    def _warmup(self, request: Message) -> Message:
        """Runs every task that often. Runtimes plan memory the first time."""
        passes = [
            [self._timed(index)[0] for index in range(len(self._tasks))]
            for _ in range(request["passes"])
        ]
        every = [sample["ms"] for samples in passes for sample in samples]
        return {
            "first_ms": every[0],
            "warmup_ms": every[1:],
            "wall_ms": sum(sample["wall_ms"] for sample in passes[-1]),
            # Tasks differ, so that nothing can be seen to level off; each ran that often.
            "sufficient": True,
            "memory": snapshot(),
        }

    def _block(self, request: Message) -> Message:
        """Times the tasks in the order given, the memory's bandwidth read before each."""
        if request["probe"]:
            self._meter.start(request["probe"])
        samples: list[Message] = []
        last: dict[int, Any] = {}
        with no_collection():
            for index in request["order"]:
                gbs = self._meter.gbs()
                sample, output = self._timed(index)
                samples.append({**sample, "probe_gbs": gbs})
                last[index] = output
        looks = {index: self._looks[index](output) for index, output in last.items()}
        return {
            "samples": samples,
            "cache_bytes": {str(index): size for index, (_, size) in looks.items()},
            "bad": sorted(index for index, (finite, _) in looks.items() if not finite),
        }


def _language_model(loaded: Any) -> LanguageModel:
    model: LanguageModel = loaded
    return model


def _bound(call: Callable[[Any, int], Outcome], ready: Any) -> Task:
    return lambda start_ns: call(ready, start_ns)


def _prompt_look(part: LanguageModelCaller) -> Callable[[Any], tuple[bool, int]]:
    def look(output: Any) -> tuple[bool, int]:
        found = part.look(output)
        return found.finite, found.cache_bytes

    return look


def _graph_look(output: Any) -> tuple[bool, int]:
    floats = [one for one in output if one.dtype.kind == "f"]
    return all(bool(np.isfinite(one).all()) for one in floats), 0


if __name__ == "__main__":
    run_worker(DepthWorker().handle)
