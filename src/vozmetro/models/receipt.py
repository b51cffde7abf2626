"""`fetch.json`: what was fetched into a folder, from where, and what every file must be.

Written when a fetch begins (`complete` false) and when it ends. A model below such a folder is
checked against it whenever it is loaded.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vozmetro import packages
from vozmetro.errors import ModelError
from vozmetro.models import safety

NAME = "fetch.json"
_SHA256 = r"^[0-9a-f]{64}$"
# A file in a repository's subfolder has its record at the top of the folder fetched into.
_LEVELS = 6


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FetchedFile(_Record):
    """A file: its name below the folder with `/`, its size, its SHA-256 once it was verified."""

    name: str
    bytes: int = Field(ge=0)
    sha256: str | None = Field(default=None, pattern=_SHA256)


class Source(_Record):
    """One fetch.

    Attributes:
        source: `hub:OWNER/NAME`, `package:NAME` or `file:PATH`.
        revision: As asked for: a commit, a tag, or a branch that was resolved once.
        commit: What the revision stood for; all that is fetched is of this commit.
        endpoint: The hub's address.
        include: Patterns that chose the files.
        fetched_at: ISO 8601, UTC.
        complete: False while files are still missing.
        files: What belongs to it.
    """

    source: str
    revision: str | None = None
    commit: str | None = None
    endpoint: str | None = None
    include: tuple[str, ...] = ()
    fetched_at: str
    complete: bool
    files: tuple[FetchedFile, ...]


class Receipt(_Record):
    """A folder's record."""

    schema_version: Literal[1] = 1
    sources: tuple[Source, ...] = ()

    def of(self, source: str) -> tuple[Source, ...]:
        """Returns the fetches from this source, each by other patterns."""
        return tuple(one for one in self.sources if one.source == source)

    def find(self, source: str, include: tuple[str, ...]) -> Source | None:
        """Returns the fetch from this source by these patterns."""
        return next((one for one in self.of(source) if one.include == include), None)

    def having(self, new: Source) -> Receipt:
        """Returns a record in which `new` takes the place of an earlier fetch of the same."""
        before = self.find(new.source, new.include)
        return Receipt(sources=(*(one for one in self.sources if one != before), new))


def read(folder: Path) -> Receipt | None:
    """Returns the folder's record, None where it has none.

    Raises:
        ModelError: `receipt_invalid`.
    """
    path = folder / NAME
    if not packages.is_file(path):
        return None
    try:
        if path.stat().st_size > safety.JSON_LIMIT:
            raise ModelError("receipt_invalid", path=path, detail="> 16 MB")
        found = Receipt.model_validate_json(path.read_bytes())
        for source in found.sources:
            for file in source.files:
                safety.safe_name(file.name)
    except ValidationError as error:
        first = error.errors()[0]
        detail = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise ModelError("receipt_invalid", path=path, detail=detail) from error
    except OSError as error:
        detail = error.strerror or str(error)
        raise ModelError("receipt_invalid", path=path, detail=detail) from error
    return found


def write(folder: Path, receipt: Receipt) -> None:
    """Writes the folder's record atomically."""
    temporary = folder / f".{NAME}.{os.getpid()}"
    temporary.write_text(receipt.model_dump_json(indent=1) + "\n", encoding="utf-8")
    temporary.replace(folder / NAME)


def expected(path: Path) -> tuple[Source, FetchedFile] | None:
    """Returns what the nearest record above a file says of it.

    Raises:
        ModelError: `receipt_invalid`.
    """
    path = path.absolute()
    for folder in path.parents[:_LEVELS]:
        # Others also call files of theirs fetch.json; ours say at least this.
        found = safety.read_json(folder / NAME)
        if found is None or not found.keys() >= {"schema_version", "sources"}:
            continue
        name = path.relative_to(folder).as_posix()
        sources = (read(folder) or Receipt()).sources
        # A file that two fetches brought is whole when one of them is.
        for source in sorted(sources, key=lambda one: not one.complete):
            for file in source.files:
                if file.name == name:
                    return source, file
    return None


def check(files: Iterable[tuple[Path, int, str]]) -> int:
    """Compares files with the record of their fetch; returns how many had one.

    Args:
        files: Path, bytes and SHA-256 as found now.

    Raises:
        ModelError: `fetch_incomplete`, `fetch_damaged` or `receipt_invalid`.
    """
    known = 0
    for path, size, digest in files:
        found = expected(path)
        if found is None:
            continue
        source, file = found
        if not source.complete or file.sha256 is None:
            raise ModelError("fetch_incomplete", path=path, source=command(source))
        if (size, digest) != (file.bytes, file.sha256):
            raise ModelError("fetch_damaged", path=path, source=command(source))
        known += 1
    return known


def command(source: Source) -> str:
    """Returns the words that fetch a source again: `hub:OWNER/NAME@COMMIT`, a name or a path."""
    kind, _, rest = source.source.partition(":")
    if kind == "hub":
        return f"{source.source}@{source.commit}"
    return rest
