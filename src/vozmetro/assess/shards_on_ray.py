"""Parts of a corpus on the machines of a Ray cluster, through Ray Data.

The parts' files are read where the study was started, one after another as workers take them, and
results come back to it: only the recordings have to be where every machine finds them. Ray gives a
part that was lost with its machine to another one.
"""

from __future__ import annotations

import inspect
import json
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vozmetro.assess.shard_plan import part_number
from vozmetro.assess.shard_worker import Job, Part, PartWorker
from vozmetro.errors import InputError, MeasurementError

if TYPE_CHECKING:
    import pyarrow

_READERS = 2
"""Files that are read at the same time."""
_LOST_AT_START = 20
"""Workers that may be lost one after another while they start, before the study gives up."""


class RayPartWorker:
    """An actor of Ray Data: one row is one part.

    Args:
        job: The study.
    """

    def __init__(self, job: Job) -> None:
        self._worker = PartWorker(job)

    def __call__(self, batch: pyarrow.Table) -> pyarrow.Table:
        """Returns a row of results for each part.

        Args:
            batch: Columns `path` and `bytes`, as Ray Data reads files.
        """
        import pyarrow as pa

        done = [
            self._worker.hear(part_number(row["path"]), row["bytes"]) for row in batch.to_pylist()
        ]
        return pa.table(
            {
                "shard": [one.shard for one in done],
                "data": pa.array([one.data for one in done], pa.large_binary()),
                "code": [one.code for one in done],
                "fields": [json.dumps(dict(one.fields)) for one in done],
            }
        )

    def __del__(self) -> None:
        self._worker.close()


@contextmanager
def hushed() -> Iterator[None]:
    """Keeps what the core of Ray says while it starts from the terminal; errors are raised."""
    # Read when the core starts; it then warns of arguments that Ray Data itself made.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def workers_for(threads: int) -> int:
    """Returns the workers that the cluster's machines have processors for.

    Args:
        threads: Of each.

    Raises:
        InputError: `threads_cluster` where no machine has as many processors as one needs: Ray
            would wait for such a machine.
    """
    import ray

    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    processors = [int(node["Resources"].get("CPU", 0)) for node in nodes if node["Alive"]]
    workers = sum(count // threads for count in processors)
    if not workers:
        raise InputError("threads_cluster", given=threads, most=max(processors, default=0))
    return workers


def on_ray(job: Job, files: Sequence[Path], workers: int) -> Iterator[Part]:
    """Yields the results of parts as they are done, in any order.

    Args:
        job: The study. A connection to Ray must be held.
        files: Of the parts, in the order in which they begin.
        workers: That hear at the same time, each with `job.threads` processors.

    Raises:
        MeasurementError: `shard_failed` where Ray gives up.
    """
    import ray
    from ray.data import ActorPoolStrategy

    _configure()
    try:
        read = ray.data.read_binary_files(
            # A reader's working folder is where Ray was started.
            [str(path.absolute()) for path in files],
            include_paths=True,
            # One file a block, one block a task: a part comes home as soon as it is done.
            override_num_blocks=len(files),
            # They cost no processor, and so nothing else keeps them from starting all at once.
            concurrency=_READERS,
            **_read_here(),
        )
        heard = read.map_batches(
            RayPartWorker,
            batch_size=1,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=1),
            fn_constructor_kwargs={"job": job},
            num_cpus=job.threads,
        )
        for batch in heard.iter_batches(
            batch_size=None, batch_format="pyarrow", prefetch_batches=0
        ):
            yield from _parts(batch)
    except ray.exceptions.RayError as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise MeasurementError("shard_failed", detail=lines[-1][:300]) from error


def _read_here() -> dict[str, Any]:
    """Reading takes no processor from the workers, and happens where the parts' files lie."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    node = ray.get_runtime_context().get_node_id()
    if "label_selector" in inspect.signature(ray.data.read_binary_files).parameters:
        return {"num_cpus": 0, "label_selector": {"ray.io/node-id": node}}
    here = NodeAffinitySchedulingStrategy(node, soft=False)
    return {"ray_remote_args": {"num_cpus": 0, "scheduling_strategy": here}}


def _parts(batch: Any) -> Iterator[Part]:
    for row in batch.to_pylist():
        fields = tuple(sorted(json.loads(row["fields"]).items()))
        yield Part(row["shard"], row["data"], row["code"], fields)


def _configure() -> None:
    """No bars and messages of Ray's own, and patience: one part may take long."""
    from ray.data import DataContext

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = False
    # Not every version has all of them.
    for name, value in (
        ("print_on_execution_start", False),
        ("execution_no_progress_timeout_s", -1),
        ("max_consecutive_actor_init_deaths", _LOST_AT_START),
    ):
        if hasattr(context, name):
            setattr(context, name, value)
