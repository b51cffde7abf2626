"""The models known by name, read from `catalogue.toml`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal

Task = Literal["graph", "stt", "tts"]


@dataclass(frozen=True)
class Part:
    """A file of a data package.

    Attributes:
        package: Distribution name on PyPI.
        version: The version whose files were checked.
        path: Below site-packages, with `/`.
        bytes: Size.
        sha256: In hexadecimal.
    """

    package: str
    version: str
    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class ModelFile:
    """A file of a model: its parts joined in order. Size in bytes, SHA-256 in hexadecimal."""

    name: str
    bytes: int
    sha256: str
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Entry:
    """A model of the catalogue.

    Attributes:
        name: What the user types.
        task: `graph`, `stt` or `tts`.
        engine: Registry name of the engine that runs it.
        path: What the engine is given: a name among `files`, or `.` for their folder.
        languages: ISO 639 codes that it serves.
        licence: SPDX identifier of the weights' licence.
        source: Where the weights come from.
        extra: The extra of vozmetro that installs it.
        files: Everything that makes the model.
        options: Engine options, as text.
    """

    name: str
    task: Task
    engine: str
    path: str
    languages: tuple[str, ...]
    licence: str
    source: str
    extra: str
    files: tuple[ModelFile, ...]
    options: Mapping[str, str]

    @property
    def packages(self) -> tuple[str, ...]:
        """The data packages it comes from, as pip requirements, in order of use."""
        pins = (f"{part.package}=={part.version}" for file in self.files for part in file.parts)
        return tuple(dict.fromkeys(pins))

    @property
    def bytes(self) -> int:
        """Total size of the files."""
        return sum(file.bytes for file in self.files)


@cache
def catalogue() -> Mapping[str, Entry]:
    """Returns the catalogue by name, in the order of the TOML."""
    text = resources.files(__package__).joinpath("catalogue.toml").read_text(encoding="utf-8")
    table = tomllib.loads(text)
    versions: dict[str, str] = table["packages"]
    entries = (_entry(raw, versions) for raw in table["models"])
    return {entry.name: entry for entry in entries}


def _entry(raw: Mapping[str, Any], versions: Mapping[str, str]) -> Entry:
    return Entry(
        name=raw["name"],
        task=raw["task"],
        engine=raw["engine"],
        path=raw["path"],
        languages=tuple(raw["languages"]),
        licence=raw["licence"],
        source=raw["source"],
        extra=raw["extra"],
        files=tuple(_file(file, versions) for file in raw["files"]),
        options=raw.get("options", {}),
    )


def _file(raw: Mapping[str, Any], versions: Mapping[str, str]) -> ModelFile:
    parts = tuple(
        # A part without a size of its own is the whole file.
        Part(
            package=part["package"],
            version=versions[part["package"]],
            path=part["path"],
            bytes=part.get("bytes", raw["bytes"]),
            sha256=part.get("sha256", raw["sha256"]),
        )
        for part in raw["parts"]
    )
    return ModelFile(raw["name"], raw["bytes"], raw["sha256"], parts)
