"""A corpus divided into parts, the same ones every time, without a list of it in memory."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from vozmetro.errors import InputError
from vozmetro.measure.quality_records import CLEAN
from vozmetro.measure.records import Record
from vozmetro.measure.storage import write_atomic, writing
from vozmetro.resampling import LEAST_SPEAKERS
from vozmetro.speech.manifest import Source

PLAN_FILE = "plan.json"
MOST_SHARDS = 100_000
MOST_UTTERANCES, LEAST_UTTERANCES = 400, 50
"""Utterances of a part where nobody says how many parts: what the loss of a machine costs."""
LEAST_PARTS, GOOD_PARTS = 4, 50
"""Parts for each worker: so many that a slow one does not keep all others waiting at the end."""
_BUFFERED = 100_000
"""Lines held before they are written to their parts."""

Sources = Callable[[], Iterable[Source]]
"""Gives the utterances of a corpus from the first to the last, each time it is called."""


class Plan(Record):
    """How a corpus is divided, and what for; nobody may go on under another.

    Attributes:
        by: What stays together.
        shards: Parts, the last one of sounds without speech.
        corpus_sha256: As in `Shards`.
        utterances: In all parts, sounds without speech not counted.
        languages: Of those, in order.
        sizes: Utterances of each part.
        subjects: Digests of each subject's files, in their order.
        options: What else an outcome hangs on, by name.
    """

    schema_version: Literal[1] = 1
    by: Literal["speaker", "utterance"]
    shards: int
    corpus_sha256: str
    utterances: int
    languages: list[str]
    sizes: list[int]
    subjects: list[list[str]] = Field(default_factory=list)
    options: dict[str, str] = Field(default_factory=dict)

    def key_of(self, number: int) -> str:
        """Returns a digest that tells this plan from every other, and its subjects apart.

        Args:
            number: Of the subject.
        """
        return hashlib.sha256(f"{number}\n{self.model_dump_json()}".encode()).hexdigest()


class Piece(Record):
    """One utterance of a part, or one sound without speech; a line of the part's file.

    Attributes:
        id: Its name.
        condition: `clean`, `silence` or `noise`.
        audio: Its file, as every machine finds it; empty for sounds without speech.
        text: What is said.
        language: ISO 639 code, empty where unknown.
        speaker: Who speaks, empty where unknown.
        corpus: Where it is from.
        synthetic: A machine speaks.
        seconds: Of sounds without speech; 0 for a recording, whose header tells.
    """

    id: str
    condition: str = CLEAN
    audio: str = ""
    text: str = ""
    language: str = ""
    speaker: str = ""
    corpus: str = ""
    synthetic: bool = False
    seconds: float = 0.0


@dataclass
class Census:
    """What one look at every utterance tells.

    Attributes:
        utterances: How many.
        languages: Of those.
        few: By language, names of speakers, ten at most.
    """

    utterances: int = 0
    languages: set[str] = field(default_factory=set)
    few: dict[str, set[str]] = field(default_factory=dict)
    _sum: int = 0
    _names: array[int] = field(default_factory=lambda: array("Q"))

    def add(self, source: Source) -> None:
        """Counts one more."""
        line = json.dumps([source.id, str(source.audio), source.text, source.language,
                           source.speaker])  # fmt: skip
        # Added up, so that the order of a manifest's lines does not matter.
        self._sum += int.from_bytes(hashlib.sha256(line.encode()).digest())
        self._names.append(_number(source.id))
        self.utterances += 1
        self.languages.add(source.language)
        known = self.few.setdefault(source.language, set())
        if source.speaker and len(known) < LEAST_SPEAKERS:
            known.add(source.speaker)

    @property
    def by(self) -> Literal["speaker", "utterance"]:
        """What has to stay together: speakers, where an interval may draw them."""
        return "speaker" if len(set().union(*self.few.values())) >= LEAST_SPEAKERS else "utterance"

    @property
    def sha256(self) -> str:
        """As `Shards.corpus_sha256`."""
        return f"{self._sum % (1 << 256):064x}"

    def twice(self) -> int | None:
        """Returns the number of a name that comes twice; None for none."""
        numbers = np.sort(np.frombuffer(self._names, np.uint64)) if self._names else np.zeros(0)
        same = np.flatnonzero(numbers[1:] == numbers[:-1])
        return int(numbers[same[0]]) if len(same) else None


def _number(name: str) -> int:
    """Sixty-four bits that stand for a name."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])


def take_census(sources: Sources, spec: str) -> Census:
    """Looks at every utterance once; 8 bytes of each stay in memory.

    Args:
        sources: The corpus.
        spec: What named it, for errors.

    Raises:
        InputError: `corpus_empty`, or `corpus_duplicate`.
    """
    found = Census()
    for source in sources():
        found.add(source)
    if not found.utterances:
        raise InputError("corpus_empty", path=spec)
    twice = found.twice()
    if twice is not None:
        name = next(one.id for one in sources() if _number(one.id) == twice)
        raise InputError("corpus_duplicate", id=name, path=spec)
    return found


def shards_for(asked: int | None, utterances: int, workers: int) -> int:
    """Returns how many parts a corpus has, sounds without speech not counted.

    Args:
        asked: By the user; None for nothing.
        utterances: Of the corpus.
        workers: That hear at the same time.

    Raises:
        InputError: `shards_range`.
    """
    if asked is not None:
        if not 1 <= asked <= MOST_SHARDS:
            raise InputError("shards_range", given=asked, most=MOST_SHARDS)
        return asked
    wanted = max(
        LEAST_PARTS * workers,
        min(GOOD_PARTS * workers, utterances // LEAST_UTTERANCES),
        -(-utterances // MOST_UTTERANCES),
    )
    return max(1, min(wanted, utterances, MOST_SHARDS))


def shard_of(source: Source, by: Literal["speaker", "utterance"], shards: int) -> int:
    """Returns the part that an utterance belongs to; nothing but its own name decides.

    Args:
        source: The utterance.
        by: What stays together.
        shards: Parts.
    """
    named = by == "speaker" and source.speaker
    key = f"speaker {source.speaker}" if named else f"utterance {source.id}"
    return _number(key) % shards


def divide(
    sources: Sources,
    census: Census,
    shards: int,
    folder: Path,
    *,
    unspoken: Sequence[Piece],
    subjects: Sequence[Sequence[str]],
    options: Mapping[str, str],
) -> Plan:
    """Writes the parts of a corpus into a folder: whole, or not at all.

    Args:
        sources: The corpus.
        census: What is known of it.
        shards: Parts; one more is added for sounds without speech, if there are any.
        folder: Where to; it must not exist.
        unspoken: Sounds without speech.
        subjects: As in `Plan`.
        options: As in `Plan`.

    Raises:
        OutputError: `unwritable` or `disk_full`.
    """
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        for left in folder.parent.glob(f".{folder.name}.*"):
            shutil.rmtree(left, ignore_errors=True)
        beside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        sizes = _written(sources, census.by, shards, beside)
        if unspoken:
            sizes.append(len(unspoken))
            lines = [f"{piece.model_dump_json()}\n" for piece in unspoken]
            (beside / part_name(shards)).write_text("".join(lines), encoding="utf-8")
    plan = Plan(
        by=census.by,
        shards=len(sizes),
        corpus_sha256=census.sha256,
        utterances=census.utterances,
        languages=sorted(census.languages),
        sizes=sizes,
        subjects=[sorted(one) for one in subjects],
        options=dict(options),
    )
    write_atomic(beside / PLAN_FILE, plan.model_dump_json(indent=1).encode())
    with writing(folder):
        beside.chmod(0o755)
        beside.rename(folder)
    return plan


def _written(
    sources: Sources, by: Literal["speaker", "utterance"], shards: int, folder: Path
) -> list[int]:
    """Writes the parts; returns how many utterances each has."""
    sizes = [0] * shards
    for block in _blocks(sources, by, shards):
        for number, lines in block.items():
            sizes[number] += len(lines)
            with (folder / part_name(number)).open("a", encoding="utf-8") as out:
                out.writelines(lines)
    return sizes


def _blocks(
    sources: Sources, by: Literal["speaker", "utterance"], shards: int
) -> Iterator[dict[int, list[str]]]:
    """Yields lines by part, not many at once."""
    block: dict[int, list[str]] = {}
    held = 0
    for source in sources():
        line = piece_of(source).model_dump_json() + "\n"
        block.setdefault(shard_of(source, by, shards), []).append(line)
        held += 1
        if held == _BUFFERED:
            yield block
            block, held = {}, 0
    yield block


def piece_of(source: Source) -> Piece:
    """Returns an utterance as its part's file holds it."""
    return Piece(
        id=source.id,
        # Workers have another working folder.
        audio=str(source.audio.absolute()),
        text=source.text,
        language=source.language,
        speaker=source.speaker,
        corpus=source.corpus,
        synthetic=source.synthetic,
    )


def part_name(number: int) -> str:
    """Returns the name of a part's file."""
    return f"{number:06d}.jsonl"


def part_number(path: str) -> int:
    """Returns the part that a file is of."""
    return int(Path(path).stem)


def pieces(data: bytes) -> list[Piece]:
    """Returns what a part's file holds."""
    return [Piece.model_validate_json(line) for line in data.splitlines() if line]


def load_plan(folder: Path) -> Plan | None:
    """Returns the plan that a folder holds; None where there is none.

    Raises:
        InputError: `run_unreadable`.
    """
    path = folder / PLAN_FILE
    if not path.is_file():
        return None
    try:
        return Plan.model_validate_json(path.read_bytes())
    except (OSError, ValueError) as error:
        detail = str(error).splitlines()[0]
        raise InputError("run_unreadable", path=path, detail=detail) from error


def changes(plan: Plan, census: Census, **now: Any) -> dict[str, bool]:
    """Returns what is no longer as a plan says, by name: `corpus`, `model`, `options`.

    Args:
        plan: What was.
        census: The corpus now.
        **now: `subjects` and `options` as in `Plan`.
    """
    return {
        "corpus": census.sha256 != plan.corpus_sha256,
        "model": [sorted(one) for one in now["subjects"]] != plan.subjects,
        "options": dict(now["options"]) != plan.options,
    }
