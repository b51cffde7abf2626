"""One subject of a quality study in its process: it hears batches of items, or speaks texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vozmetro.measure.live import HANG_S
from vozmetro.measure.process import WorkerProcess
from vozmetro.measure.records import Subject
from vozmetro.measure.subject import Target
from vozmetro.measure.workload import WorkItem

# A study times every utterance once; what follows the load is enough to plan memory and start
# threads, and a verdict on latency is `bench`'s.
_WARMUP_PASS_MAX_S, _WARMUP_MAX_S = 10.0, 3.0


@dataclass(frozen=True)
class Spoken:
    """One clip as the worker told it: its length in seconds, and its times in ms."""

    seconds: float
    ms: float
    first_audio_ms: float


class StudyWorker:
    """A subject that is loaded, in a process that `close` ends.

    Args:
        target: The subject.
        threads: Threads of its engines.
        warm_up: Whether to warm it up before it hears or speaks for the first time.

    Attributes:
        subject: Its record.
        pid: Of its process.
        load_ms: Loading it.
        peak_rss: Highest RSS so far, in bytes.
    """

    def __init__(self, target: Target, threads: int, *, warm_up: bool = True) -> None:
        self._target = target
        self._warm = not warm_up
        self._worker = WorkerProcess()
        try:
            imported = self._worker.ask(
                "import", limit_s=HANG_S, engines=[model.engine for model in target.models]
            )
            loaded = self._worker.ask(
                "load",
                limit_s=HANG_S,
                kind=target.kind,
                threads=threads,
                parts=[
                    {"path": str(model.path), "options": model.options} for model in target.models
                ],
                shapes={},
                vocabulary={},
            )
        except BaseException:
            self._worker.close()
            raise
        self.subject: Subject = target.record(
            imported["labels"], imported["defaults"], loaded["input_dtypes"], None
        )
        self.pid: int = self._worker.pid
        self.load_ms: float = loaded["load_ms"]
        self.peak_rss = 0

    def close(self) -> None:
        """Ends the process."""
        self._worker.close()

    def hear(self, items: Sequence[WorkItem], limit_s: float = HANG_S) -> list[tuple[str, float]]:
        """Returns the words of each item, and its latency in ms.

        Args:
            items: What to hear; all of it is in the process's memory at once.
            limit_s: Seconds after which the process is ended.

        Raises:
            MeasurementError: `worker_died`, `worker_killed`, `worker_timeout`, or the error that
                the model or the recording raised.
        """
        self._prepare(items, limit_s)
        reply = self._worker.ask(
            "block", limit_s=limit_s, order=list(range(len(items))), settle=0, probe=0
        )
        self.peak_rss = self._worker.ask("memory", limit_s=HANG_S)["peak_rss"]
        times = {raw["item"]: raw["ms"] for raw in reply["samples"]}
        return [(reply["looks"][str(index)][0], times[index]) for index in range(len(items))]

    def speak(self, items: Sequence[WorkItem], paths: Sequence[Path]) -> list[Spoken]:
        """Says the text of each item once, and writes the clips as WAV files."""
        self._prepare(items)
        found = []
        for index, path in enumerate(paths):
            told = self._worker.ask("speak", limit_s=HANG_S, item=index, path=str(path))
            found.append(Spoken(told["seconds"], told["ms"], told["parts"]["first_audio"]))
        self.peak_rss = self._worker.ask("memory", limit_s=HANG_S)["peak_rss"]
        return found

    def _prepare(self, items: Sequence[WorkItem], limit_s: float = HANG_S) -> None:
        if not self._warm:
            self._send(items[:2])
            self._worker.ask(
                "warmup", limit_s=HANG_S, max_s=_WARMUP_MAX_S, pass_max_s=_WARMUP_PASS_MAX_S
            )
            self._warm = True
        self._send(items, limit_s)

    def _send(self, items: Sequence[WorkItem], limit_s: float = HANG_S) -> None:
        self._worker.ask("items", limit_s=limit_s, items=[item.as_json() for item in items])
