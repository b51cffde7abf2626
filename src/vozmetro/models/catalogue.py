"""The models known by name, read from `catalogue.toml`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal

Task = Literal["graph", "stt", "tts", "lm"]


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
class HubPlace:
    """Where a hub has a model.

    Attributes:
        repo: `OWNER/NAME`.
        revision: A commit, or a tag.
        allow_patterns: What is fetched of it.
    """

    repo: str
    revision: str
    allow_patterns: tuple[str, ...]


@dataclass(frozen=True)
class Entry:
    """A model of the catalogue.

    Attributes:
        name: What the user types.
        task: `graph`, `stt`, `tts` or `lm` (language model).
        engine: Registry name of the engine that runs it.
        path: What the engine is given: a name among `files`, or `.` for their folder.
        languages: ISO 639 codes that it serves.
        licence: SPDX identifier of the weights' licence.
        source: Where the weights come from.
        extra: The extra of vozmetro that installs it.
        files: Everything that makes the model. Of a model on a hub, sizes and hashes are known
            here (`bytes` 0 and `sha256` empty where they are not) or when it is fetched.
        options: Engine options, as text.
        hub: Where a hub has it; None for models that come as data packages.
        converted_from: The model whose weights it has, written as ONNX on first use; else empty.
            Files, languages, licence and source are that model's.
        precision: How a converted model stores its weights.
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
    hub: HubPlace | None = None
    converted_from: str = ""
    precision: Literal["fp32", "int8", "int4"] = "fp32"

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
    raw_by_name = {raw["name"]: raw for raw in table["models"]}
    entries = (
        # What a converted model does not say itself is as in the model it is made from.
        _entry({**raw_by_name.get(raw.get("converted_from"), {}), **raw}, versions)
        for raw in table["models"]
    )
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
        hub=_hub(raw["hub"]) if "hub" in raw else None,
        converted_from=raw.get("converted_from", ""),
        precision=raw.get("precision", "fp32"),
    )


def _hub(raw: Mapping[str, Any]) -> HubPlace:
    return HubPlace(raw["repo"], raw["revision"], tuple(raw["allow_patterns"]))


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
        for part in raw.get("parts", ())
    )
    return ModelFile(raw["name"], raw.get("bytes", 0), raw.get("sha256", ""), parts)
