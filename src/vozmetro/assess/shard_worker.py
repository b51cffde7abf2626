"""What a worker of a divided study is given, and what it gives back for each part."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Literal

from vozmetro.assess.shard_files import about_outcomes, to_bytes
from vozmetro.assess.shard_hearing import LIMIT_S, Ear, Listener
from vozmetro.assess.shard_plan import pieces
from vozmetro.assess.worker import StudyWorker
from vozmetro.errors import ModelError, VozmetroError
from vozmetro.measure import environment
from vozmetro.measure.subject import resolve_subject
from vozmetro.speech.normalize import normalizer_name


@dataclass(frozen=True)
class Job:
    """What a worker needs to know of a study; it travels to other machines.

    Attributes:
        words: What names the subject.
        name: What to call it.
        digests: Of its files: another machine must hold the same.
        threads: Threads of its engines.
        device: Where it runs.
        seed: Of sounds without speech.
        key: Digest of the plan.
        limit_s: Longest that one utterance may take, in seconds.
        open_ear: Loads the subject; None for `StudyWorker`.
    """

    words: str
    name: str
    digests: tuple[str, ...]
    threads: int
    device: Literal["cpu", "cuda"]
    seed: int
    key: str
    limit_s: float = LIMIT_S
    open_ear: Callable[[Job], Ear] | None = None


@dataclass(frozen=True)
class Part:
    """What came of one part.

    Attributes:
        shard: Its number.
        data: A Parquet file; empty where it failed.
        code: Why the study cannot go on, a code of `errors.`; empty where it can.
        fields: Of the sentence.
    """

    shard: int
    data: bytes = b""
    code: str = ""
    fields: tuple[tuple[str, str], ...] = ()


class PartWorker:
    """Hears parts, with one subject that is loaded once.

    Args:
        job: The study.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._listener = Listener(self._open, job.limit_s, job.seed)
        self._cpu = environment.read().cpu

    def close(self) -> None:
        """Ends the subject's process."""
        self._listener.close()

    def hear(self, shard: int, data: bytes) -> Part:
        """Returns the results of one part.

        Args:
            shard: Its number.
            data: Its utterances, as their file holds them.
        """
        try:
            return Part(shard, self._heard(shard, data))
        except VozmetroError as error:
            return Part(shard, b"", error.code, tuple(sorted(error.fields.items())))

    def _heard(self, shard: int, data: bytes) -> bytes:
        start = time.perf_counter()
        given = pieces(data)
        ear = self._listener.ear
        outcomes = self._listener.hear(given)
        # It may have been loaded again in between.
        ear = self._listener.ear if self._listener.is_open else ear
        about, table = about_outcomes(
            outcomes,
            shard=shard,
            key=self._job.key,
            subject=ear.subject,
            load_ms=ear.load_ms,
            peak_rss=ear.peak_rss,
            cpu=self._cpu,
            vozmetro=version("vozmetro"),
            normalizers={
                code: normalizer_name(code) for code in sorted({one.language for one in given})
            },
            wall_s=time.perf_counter() - start,
        )
        return to_bytes(about, outcomes, table)

    def _open(self) -> Ear:
        job = self._job
        if job.open_ear is not None:
            return job.open_ear(job)
        target = resolve_subject(job.words, job.name, job.device)
        found = sorted(digest for model in target.models for _, _, digest in model.files)
        if tuple(found) != job.digests:
            raise ModelError("shard_model", name=job.name)
        # Warmed up by its first utterance: of hundreds, one slow one does not change the median.
        return StudyWorker(target, job.threads, warm_up=False)
