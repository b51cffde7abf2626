"""What `vozmetro roofline` leaves behind: floors, and the ceilings that they come from.

The schema's version is that of all records.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from vozmetro.measure.records import SCHEMA_VERSION, Note, Record

ROOFLINE_FILE = "roofline.json"

Bound = Literal["memory", "compute"]
Unit = Literal["inference", "prefill", "decode"]


class Machine(Record):
    """What the machine did at best, in the same session as the subject.

    Attributes:
        cpu: Its name.
        threads: Threads that it was measured with.
        bandwidth: Best bytes a second read.
        bandwidth_median: Median bytes a second read.
        bandwidths: Bytes a second of every repeat.
        cache_bytes: Caches of all cores; 0 where the system does not tell.
        operations: Best operations a second by arithmetic; two for each multiply-add.
        sizes: The same by arithmetic and by size of the product, `MxKxN`.
        others: Cores that other processes used right before, the most of several looks.
        cores: Cores that might have been used; 0 in records that do not tell.
    """

    cpu: str = ""
    threads: int
    bandwidth: float
    bandwidth_median: float
    bandwidths: list[float] = Field(default_factory=list)
    cache_bytes: int = 0
    operations: dict[str, float] = Field(default_factory=dict)
    sizes: dict[str, dict[str, float]] = Field(default_factory=dict)
    others: float = 0.0
    cores: int = 0


class Step(Record):
    """One kind of step within an item.

    Attributes:
        name: `inference`, `encoder`, `prefill`, `decode`...
        times: How often it is done.
        bytes: Bytes that it must read.
        macs: Multiply-adds by arithmetic.
        memory_ms: Least ms for reading.
        compute_ms: Least ms for computing.
        floor_ms: The larger of the two, once.
    """

    name: str
    times: float
    bytes: int
    macs: dict[str, int]
    memory_ms: float
    compute_ms: float
    floor_ms: float


class Floor(Record):
    """One item: a length of audio, a prompt, a token.

    Attributes:
        item: As in the run.
        unit: What one floor is for: `inference`, `prefill` (one prompt), `decode` (one token).
        length: Seconds of audio, or tokens.
        steps: What it consists of.
        bytes: Bytes that must be read, all steps together.
        macs: Multiply-adds by arithmetic, all steps together.
        floor_ms: Least ms.
        bound: What the floor comes from, for most of its time.
        measured_ms: Median of the samples, None without any.
        samples: How many there are.
        ratio: Measured over floor; None without samples or without a floor.
        bandwidth: Bytes a second that the measured time amounts to.
    """

    item: str
    unit: Unit = "inference"
    length: float = 0.0
    steps: list[Step]
    bytes: int
    macs: dict[str, int]
    floor_ms: float
    bound: Bound
    measured_ms: float | None = None
    samples: int = 0
    ratio: float | None = None
    bandwidth: float | None = None


class Claim(Record):
    """The sentence that settles arguments, as its fields.

    Attributes:
        bound: `memory`: none is faster that reads its bytes at the bandwidth measured; `compute`:
            none is with kernels like those measured.
        subject: Name of the model.
        precision: Of its weights; the claim holds for no other.
        item: What it is about.
        unit: As in `Floor`.
        floor_ms: The least ms.
        bytes: Bytes that must be read.
        macs: Multiply-adds.
        bandwidth: Bytes a second taken.
        rate: Operations a second taken, weighted by kind; None where memory bounds.
        threads: Threads.
    """

    bound: Bound
    subject: str
    precision: str
    item: str
    unit: Unit
    floor_ms: float
    bytes: int
    macs: int
    bandwidth: float
    rate: float | None
    threads: int


class Roofline(Record):
    """A subject's floors on one machine. `roofline.json`.

    Attributes:
        id: Unique name.
        created: UTC, ISO 8601.
        vozmetro: Version.
        subject: Name as the user gave it.
        precision: Label of its weights.
        weights: `dummy` where they are random.
        parameters: Their number, None where that is unknown.
        files: SHA-256 by file name.
        architecture: What the file says it is, e.g. `qwen3-vl-4b`; empty where it does not.
        machine: Its ceilings.
        items: A floor for each item.
        claim: The sentence's fields; None where there is no floor, or the machine was busy.
        notes: Codes of the catalogues' `notes.` section.
        versions: Of the packages that matter.
        run: Id of the run that the samples come from; empty where nothing was measured.
        command: The command line.
    """

    schema_version: Literal[4] = SCHEMA_VERSION
    type: Literal["roofline"] = "roofline"
    id: str
    created: str
    vozmetro: str
    subject: str
    precision: str
    weights: Literal["real", "dummy"] = "real"
    parameters: int | None = None
    files: dict[str, str] = Field(default_factory=dict)
    architecture: str = ""
    machine: Machine
    items: list[Floor]
    claim: Claim | None = None
    notes: list[Note] = Field(default_factory=list)
    versions: dict[str, str] = Field(default_factory=dict)
    run: str = ""
    command: list[str] = Field(default_factory=list)
