"""Records of a study of depths: see `records` for what holds for all records."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from vozmetro.measure.records import (
    SCHEMA_VERSION,
    ComparisonRecord,
    Environment,
    Failure,
    FileInfo,
    Note,
    Record,
    Run,
    Sample,
    Session,
    Settings,
    Status,
    Subject,
)


class DepthPart(Record):
    """One graph of a study of depths; all of them are loaded at the same time.

    Attributes:
        id: Unique within the study, e.g. `thinker/4`.
        component: `model`, or the part of it, e.g. `thinker`, `audio_encoder`.
        layers: Layers of the main stack that it has; 0 for a part without it, which is whole.
        full_layers: Layers of the real one; more than `layers` where it has to be extrapolated.
        parameters: Weights in its files, None where unknown.
        expected_ram: Bytes that it is expected to need.
        files: What was loaded.
        load_ms: Loading it.
    """

    id: str
    component: str
    layers: int
    full_layers: int
    parameters: int | None = None
    expected_ram: int = 0
    files: list[FileInfo]
    load_ms: float = 0.0


class DepthTask(Record):
    """One thing that is timed of one part.

    Attributes:
        id: Unique within the study, e.g. `thinker/4 · 64 tokens`; `Sample.item` names it.
        part: `DepthPart.id`.
        stage: What is equal at all depths, e.g. `thinker · 64 tokens`.
        tokens: Length of the prompt; 0 for what takes none.
        new_tokens: Tokens given after it, the first one included.
        seconds: Audio that goes in or comes out, in seconds; 0 for none.
        repeats: Calls that follow one another in one sample.
        cache_bytes: Keys and values held in the end.
    """

    id: str
    part: str
    stage: str
    tokens: int = 0
    new_tokens: int = 0
    seconds: float = 0.0
    repeats: int = 1
    cache_bytes: int = 0


class DepthStudy(Record):
    """A model measured at several depths in one process, to tell its time at full depth.

    Attributes:
        subject: The model at its full depth; `files` and `expected_ram` stay empty, because it
            need not have been made.
        full_layers: Layers that it would have.
        parts: What was loaded, in order.
        tasks: What a round times, each once.
        samples: `item` is a `DepthTask.id`.
    """

    schema_version: Literal[4] = SCHEMA_VERSION
    type: Literal["depths"] = "depths"
    id: str
    created: str
    vozmetro: str
    status: Status
    subject: Subject
    full_layers: int
    settings: Settings
    environment: Environment
    parts: list[DepthPart]
    tasks: list[DepthTask]
    sessions: list[Session]
    samples: list[Sample]
    notes: list[Note] = Field(default_factory=list)
    failure: Failure | None = None


AnyRecord = Run | ComparisonRecord | DepthStudy
"""What a file can hold."""
