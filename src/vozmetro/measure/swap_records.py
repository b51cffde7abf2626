"""What `vozmetro swap` leaves behind: what one model costs in place of another.

The schema's version is that of all records.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from vozmetro.measure.records import SCHEMA_VERSION, Kind, Record
from vozmetro.measure.storage import read_raw, validated, write_atomic

SWAP_FILE = "swap.json"


class SwapIn(Record):
    """One subject put in place of the other, in a process that lives on. Times in ms.

    Attributes:
        drop_ms: Letting go of the other one.
        load_ms: Loading it, imports apart.
        first_ms: Its first inference.
    """

    drop_ms: float
    load_ms: float
    first_ms: float

    @property
    def ms(self) -> float:
        """All of it."""
        return self.drop_ms + self.load_ms + self.first_ms


class SwapSide(Record):
    """One of the two subjects.

    Attributes:
        subject: The words that name it, with absolute paths.
        kind: As in `Subject`.
        weights: `dummy` where they are random.
        expected_ram: Bytes that loading is expected to need.
        import_ms: Importing its libraries, in a fresh process.
        load_ms: Loading it there.
        first_ms: Its first inference there.
        loaded_rss: RSS of that process after loading, in bytes.
        peak_rss: The most that it had, after every item.
        steady_ms: Latencies once warm, in the order taken; the n-th of both subjects belong to the
            same item and the same round.
        swaps: Each time that it was put in place of the other.
    """

    subject: str
    kind: Kind
    weights: Literal["real", "dummy"] = "real"
    expected_ram: int
    import_ms: float
    load_ms: float
    first_ms: float
    loaded_rss: int
    peak_rss: int
    steady_ms: list[float]
    swaps: list[SwapIn]


class Swap(Record):
    """Two subjects, one of which is in memory. `swap.json`.

    Attributes:
        id: Unique name.
        created: UTC, ISO 8601.
        vozmetro: Version.
        cpu: Model name.
        threads: Threads of each model.
        items: Utterances, lengths or prompts that each round holds.
        rounds: Times that each of them was timed once warm.
        interleaved: Whether both were in memory and took turns while they were timed; where they
            do not fit together, one was timed after the other.
        a: The first subject.
        b: The second one.
        both_peak_rss: The most that a process with both had; None where they do not fit together.
        swap_peak_rss: The most that a process had in which they took each other's place.
        command: The command line.
    """

    schema_version: Literal[4] = SCHEMA_VERSION
    type: Literal["swap"] = "swap"
    id: str
    created: str
    vozmetro: str
    cpu: str
    threads: int
    items: int
    rounds: int
    interleaved: bool
    a: SwapSide
    b: SwapSide
    both_peak_rss: int | None = None
    swap_peak_rss: int
    command: list[str] = Field(default_factory=list)


def save(record: Swap, folder: Path) -> Path:
    """Writes `swap.json` into a folder, atomically, and returns its path.

    Raises:
        OutputError: `unwritable` or `disk_full`.
    """
    path = folder / SWAP_FILE
    write_atomic(path, record.model_dump_json(indent=1).encode())
    return path


def load(path: Path) -> Swap:
    """Reads what a swap costs.

    Args:
        path: `swap.json`, or the folder that holds it.

    Raises:
        InputError: `run_missing`, `run_unreadable` or `run_newer`.
    """
    path = path / SWAP_FILE if path.is_dir() else path
    return validated(Swap, read_raw(path, SCHEMA_VERSION), path)
