"""The process that holds two subjects, or one in place of the other.

`python -m vozmetro.measure.swap_worker`. It speaks as `worker` does; `who` names the subject that a
request is for.
"""

from __future__ import annotations

import gc
from time import perf_counter_ns

from vozmetro.measure.meter import Meter
from vozmetro.measure.worker import Message, Worker, run_worker
from vozmetro.units import NS_PER_MS


class SwapWorker:
    """State of the process: the subjects that are in memory."""

    def __init__(self) -> None:
        self._held: dict[str, Worker] = {}
        self._meter = Meter()

    def handle(self, request: Message) -> Message:
        """Answers one request; the operation's name is in `op`."""
        if request["op"] == "memory":
            return self._meter.memory()
        who = request["who"]
        if request["op"] == "drop":
            start = perf_counter_ns()
            del self._held[who]
            # As the pipeline's router does before it loads something in its place.
            gc.collect()
            return {"drop_ms": (perf_counter_ns() - start) / NS_PER_MS}
        return self._held.setdefault(who, Worker()).handle(request)


if __name__ == "__main__":
    run_worker(SwapWorker().handle)
