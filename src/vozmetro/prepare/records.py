"""What a conversion or a quantization leaves beside the model: versioned JSON.

It says what came in, what went out, how, and how far the result is from its source, so that a file
found years later can be traced and made again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict

from vozmetro import packages
from vozmetro.measure.storage import write_atomic

SCHEMA_VERSION: Literal[1] = 1
FILE = "conversion.json"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")


def _number(value: object) -> object:
    return math.nan if value is None else value


Error = Annotated[float, BeforeValidator(_number)]
"""JSON has no NaN and no infinity: they are written as null, and read as NaN."""


class File(_Record):
    """A file by its name in the model's folder, its size in bytes, and SHA-256."""

    name: str
    bytes: int
    sha256: str


class Parity(_Record):
    """How far a converted model is from its source, on the same input.

    Attributes:
        reference: What ran the source: `faster-whisper float32`, `transformers float32`.
        versions: Versions of what ran it.
        input: What both were given, in words.
        max_error: Largest absolute difference of any output compared.
        relative_error: Frobenius norm of the difference over that of the reference.
        utterances: Utterances transcribed by both; 0 where no words come out.
        identical: How many of them with the same tokens.
        differing: Utterances with other tokens, by identifier.
        layers: Layers compared, where it was not the whole model; 0 for the whole.
    """

    reference: str
    versions: dict[str, str] = {}
    input: str
    max_error: Error
    relative_error: Error
    utterances: int = 0
    identical: int = 0
    differing: list[str] = []
    layers: int = 0


class Conversion(_Record):
    """One conversion or quantization. Times in seconds.

    Attributes:
        kind: `conversion` or `quantization`.
        created: UTC, ISO 8601.
        vozmetro: Version that did it.
        command: Command line.
        versions: Versions of the packages that took part.
        source: Files that came in.
        output: Files that went out.
        scheme: How weights are stored: precision, block, bits.
        seconds: Wall time of the writing alone.
        peak_rss: Highest resident memory of the process that wrote, in bytes.
        parity: None where it was not asked for (`--no-parity`).
        optimization: What `--optimize` gained, as measured; empty where it was not asked for.
        report: Details of a quantization; of a conversion only why it was not compared.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    type: Literal["conversion"] = "conversion"
    kind: Literal["conversion", "quantization"] = "conversion"
    created: str
    vozmetro: str
    command: list[str]
    versions: dict[str, str]
    source: list[File]
    output: list[File]
    scheme: dict[str, str]
    seconds: float
    peak_rss: int
    parity: Parity | None = None
    optimization: dict[str, Any] = {}
    report: dict[str, Any] = {}


def now() -> str:
    """Returns the time as records write it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def versions_of(names: Iterable[str]) -> dict[str, str]:
    """Returns the versions of those of the packages that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def described(files: Sequence[Path]) -> list[File]:
    """Returns files with their sizes and hashes."""
    return [
        File(name=path.name, bytes=path.stat().st_size, sha256=packages.sha256(path))
        for path in files
    ]


def record_path(model: Path) -> Path:
    """Returns where the record of a model lies: in its folder, or beside its `.onnx`."""
    return model / FILE if model.is_dir() else model.with_name(f"{model.stem}.{FILE}")


def save(record: Conversion, model: Path) -> Path:
    """Writes the record beside the model and returns its path.

    Raises:
        OutputError: `unwritable` or `disk_full`.
    """
    path = record_path(model)
    write_atomic(path, record.model_dump_json(indent=1).encode())
    return path
