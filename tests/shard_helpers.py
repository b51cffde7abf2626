"""A corpus of many short recordings, and a subject that hears them at no cost."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from vozmetro.assess.shard_hearing import Ear
from vozmetro.assess.shard_worker import Job, Part, PartWorker
from vozmetro.audio import Waveform
from vozmetro.errors import MeasurementError
from vozmetro.measure.records import Subject
from vozmetro.measure.subject import resolve_subject
from vozmetro.measure.workload import WorkItem

NAME = "whisper-tiny-en"
"""What the subject is called; nothing of it but its files' digests is used."""
WORDS = ("one", "two", "house", "open", "door", "please", "number", "press", "again", "extension")


def make_corpus(
    folder: Path, count: int, *, speakers: int = 0, seconds: float = 0.05, shuffle: int = 0
) -> Path:
    """Writes recordings of noise with texts of their own, and a manifest of them.

    Args:
        folder: Where to.
        count: Recordings.
        speakers: People who say them; 0 for nobody known.
        seconds: Length of each.
        shuffle: Seed of the order of the manifest's lines; 0 for none.
    """
    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(7)
    lines = []
    for number in range(count):
        name = f"clip-{number:04d}.wav"
        noise = np.random.default_rng(number).normal(0, 0.05, int(16_000 * seconds))
        soundfile.write(folder / name, noise.astype(np.float32), 16_000)
        text = " ".join(draw.choices(WORDS, k=draw.randint(1, 9)))
        speaker = f"person {draw.randrange(speakers)}" if speakers else ""
        lines.append({"audio": name, "text": text, "language": "en", "speaker": speaker})
    if shuffle:
        random.Random(shuffle).shuffle(lines)
    listed = folder / "manifest.jsonl"
    listed.write_text("\n".join(json.dumps(one) for one in lines) + "\n", encoding="utf-8")
    return folder


def heard_as(item: WorkItem) -> str:
    """Returns what the subject hears: the text with some words wrong, always the same ones."""
    told = []
    for at, word in enumerate(item.text.split()):
        draw = hashlib.sha256(f"{item.id} {at} {word}".encode()).digest()[0]
        told += (
            [] if draw < 15 else ["other"] if draw < 40 else [word, word] if draw < 50 else [word]
        )
    return " ".join(told)


class FakeEar:
    """Hears by `heard_as`, and does what the names of recordings say.

    Attributes:
        alive: Decoded recordings in memory, at this moment.
        peak: The most of them so far.
        alive_s: Their length together, in seconds.
        peak_s: The most of that so far.
        opened: How often one was loaded.
    """

    alive, peak, opened = 0, 0, 0
    alive_s, peak_s = 0.0, 0.0

    def __init__(self, bad: dict[str, str] | None = None, subject: Subject | None = None) -> None:
        FakeEar.opened += 1
        self.subject = subject or resolve_subject(NAME).record(["fake 1"], [{}], {}, None)
        self.load_ms = 1.0
        self.peak_rss = 1000
        self._bad = bad or {}
        self._calls: dict[str, int] = {}

    def _decoded(self, item: WorkItem) -> Waveform:
        waveform = item.audio()
        seconds = waveform.seconds
        FakeEar.alive += 1
        FakeEar.alive_s += seconds
        FakeEar.peak = max(FakeEar.peak, FakeEar.alive)
        FakeEar.peak_s = max(FakeEar.peak_s, FakeEar.alive_s)

        def gone() -> None:
            FakeEar.alive -= 1
            FakeEar.alive_s -= seconds

        weakref.finalize(waveform.samples, gone)
        return waveform

    def hear(self, items: Sequence[WorkItem], limit_s: float = 0.0) -> list[tuple[str, float]]:
        """Returns words and latencies, or fails as the names say."""
        waveforms = [self._decoded(item) for item in items]
        for item in items:
            kind = self._bad.get(Path(item.paths[0]).stem if item.paths else "", "")
            times = self._calls[item.id] = self._calls.get(item.id, 0) + 1
            if kind == "crashes":
                raise MeasurementError("worker_died", status=-11, detail="Segmentation fault")
            if kind == "hangs":
                raise MeasurementError("worker_timeout", op="block", limit=f"{limit_s:g}")
            if kind == "raises":
                raise MeasurementError("model_failed", detail="RuntimeError: no")
            if kind == "slow" and len(items) > 1:
                raise MeasurementError("worker_timeout", op="block", limit=f"{limit_s:g}")
            if kind == "once" and times == 1 and len(items) > 1:
                raise MeasurementError("worker_killed", pid=1)
        return [
            (heard_as(item), 1.0 + len(waveform.samples) % 7)
            for item, waveform in zip(items, waveforms, strict=True)
        ]

    def close(self) -> None:
        """Nothing to end."""


def here(
    *,
    bad: dict[str, str] | None = None,
    order: int = 0,
    stop_after: int | None = None,
    ear: Callable[[Job], Ear] | None = None,
    seen: list[int] | None = None,
) -> Callable[[Job, Sequence[Path], int], Iterator[Part]]:
    """Returns what hears parts in this process, in a mixed order.

    Args:
        bad: By name of a recording, what happens to it.
        order: Seed of the order.
        stop_after: Parts after which the user interrupts.
        ear: What hears; None for `FakeEar`.
        seen: Gets the numbers of the parts that were asked for.
    """  # fmt: skip

    def run(job: Job, files: Sequence[Path], _: int) -> Iterator[Part]:
        worker = PartWorker(replace(job, open_ear=ear or (lambda _: FakeEar(bad))))
        mixed = random.Random(order).sample(list(files), len(files))
        if seen is not None:
            seen.extend(int(path.stem) for path in files)
        for done, path in enumerate(mixed):
            if done == stop_after:
                raise KeyboardInterrupt
            yield worker.hear(int(path.stem), path.read_bytes())
        worker.close()

    return run


class LocalEar(FakeEar):
    """The same for `study.quality`."""

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()


def open_marking(job: Job) -> FakeEar:
    """Loads a subject whose every utterance leaves the process's number in a folder; for Ray.

    Where a file `kill-NAME` is there, that recording ends its worker; `lose-NAME` ends the whole
    node, as if its machine had lost power. Both once.
    """
    return MarkingEar(Path(os.environ["VOZMETRO_TEST_MARKS"]))


class MarkingEar(FakeEar):
    """As `open_marking` says."""

    def __init__(self, marks: Path) -> None:
        super().__init__()
        self._marks = marks

    def hear(self, items: Sequence[WorkItem], limit_s: float = 0.0) -> list[tuple[str, float]]:
        for item in items:
            name = Path(item.paths[0]).stem if item.paths else "none"
            with (self._marks / name).open("a", encoding="utf-8") as out:
                out.write(f"{os.getpid()}\n")
            for kind in ("kill", "lose"):
                deadly = self._marks / f"{kind}-{name}"
                if deadly.exists():
                    deadly.unlink()
                    if kind == "lose":
                        # A worker's parent is the raylet of its node.
                        os.kill(os.getppid(), signal.SIGKILL)
                    os.kill(os.getpid(), signal.SIGKILL)
        return super().hear(items, limit_s)
