"""Corpora kept in the cache: fetched when they are asked for, whole or not at all, then offline."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vozmetro import packages
from vozmetro.errors import ModelError
from vozmetro.speech import debian, manifest
from vozmetro.speech.manifest import MANIFEST_NAME, Source

RECEIPT = "corpus.json"
_ABANDONED_S = 24 * 3600.0
_MOST_RECEIPT = 16 << 20  # bytes
_SHA256 = r"^[0-9a-f]{64}$"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class KeptFile(_Record):
    """A file of the corpus: its name below the folder with `/`, its size and its SHA-256."""

    name: str
    bytes: int = Field(ge=0)
    sha256: str = Field(pattern=_SHA256)


class Package(_Record):
    """A package that it came from. `pinned`: its hash is the one in the catalogue."""

    package: str
    version: str
    sha256: str = Field(pattern=_SHA256)
    pinned: bool


class CorpusReceipt(_Record):
    """What lies in a corpus's folder, and where it came from.

    Attributes:
        name: Of the corpus.
        fetched_at: ISO 8601, UTC.
        packages: Debian packages, empty for other sources.
        source: Other sources in words.
        files: Everything but this file.
    """

    schema_version: Literal[1] = 1
    name: str
    fetched_at: str
    packages: tuple[Package, ...] = ()
    source: str = ""
    files: tuple[KeptFile, ...]

    @property
    def sha256(self) -> str:
        """One digest over those of all files."""
        import hashlib

        lines = sorted(f"{file.sha256} {file.name}\n" for file in self.files)
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def folder_of(name: str) -> Path:
    """Returns where a corpus lies, or will."""
    return packages.cache_dir() / "corpora" / name


def receipt_of(name: str) -> CorpusReceipt | None:
    """Returns what is known of a fetched corpus; None where it is not here.

    Raises:
        ModelError: `corpus_receipt` for a record that cannot be read.
    """
    path = folder_of(name) / RECEIPT
    if not packages.is_file(path):
        return None
    try:
        if path.stat().st_size > _MOST_RECEIPT:
            raise ModelError("corpus_receipt", path=path, detail="> 16 MiB", name=name)
        return CorpusReceipt.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        detail = str(error).splitlines()[0]
        raise ModelError("corpus_receipt", path=path, detail=detail, name=name) from error


def sources(name: str) -> list[Source]:
    """Returns the utterances of a fetched corpus, after checking every file of it.

    Raises:
        ModelError: `corpus_damaged` or `corpus_receipt`.
        InputError: As `manifest.read`.
    """
    record, folder = receipt_of(name), folder_of(name)
    # What the record does not name was never checked.
    if record is None or MANIFEST_NAME not in {file.name for file in record.files}:
        raise ModelError("corpus_receipt", path=folder / RECEIPT, detail="–", name=name)
    # As `corpus fetch` takes it.
    said = record.source or name
    for file in record.files:
        path = folder / file.name
        inside = path.resolve().is_relative_to(folder.resolve())
        if not inside or not packages.is_intact(path, file.bytes, file.sha256):
            raise ModelError("corpus_damaged", path=path, name=said)
    known = {folder / file.name for file in record.files}
    found = manifest.read(folder / MANIFEST_NAME)
    for source in found:
        if source.audio not in known:
            raise ModelError("corpus_damaged", path=source.audio, name=said)
    return [replace(source, id=source.id.removeprefix("audio/")) for source in found]


def fetch(
    corpus: Mapping[str, Any],
    *,
    given: Path | None = None,
    refresh: bool = False,
    listen: Callable[[str], None] = lambda _: None,
) -> CorpusReceipt:
    """Gets a corpus of Debian packages into the cache; what is here already is kept.

    Args:
        corpus: Its entry of `corpora.toml`.
        given: A folder with the packages, downloaded elsewhere.
        refresh: Gets it anew.
        listen: Told what is being downloaded.

    Raises:
        InputError: apt is missing or fails; see `debian.download`.
        ModelError: A package is not what it should be, or the disk refuses.
    """
    name = corpus["name"]
    with contextlib.suppress(OSError):
        _tidied(folder_of(name))
    # One that cannot be read does not stand in the way of a new one.
    known = None if refresh else receipt_of(name)
    if known is not None:
        return known
    with ExitStack() as stack:
        downloads = debian.workspace(stack)
        found = debian.download(corpus, given, downloads, listen)
        spoken = debian.utterances(corpus, [path for path, _ in found])
        came = tuple(
            Package(package=p.package, version=p.version, sha256=p.sha256, pinned=p.pinned)
            for _, p in found
        )
        facts = {"language": corpus["language"], "speaker": corpus.get("speaker", "")}
        entries = ((one.id, one.samples, {"text": one.text, **facts}) for one in spoken)
        return keep(name, entries, packages_=came)


def keep(
    name: str,
    entries: Iterable[tuple[str, debian.Pcm, Mapping[str, str]]],
    *,
    packages_: tuple[Package, ...] = (),
    source: str = "",
) -> CorpusReceipt:
    """Writes a corpus into the cache: beside its place, then moved there whole.

    Args:
        name: Of the corpus.
        entries: Id, sound (int16 at 16 kHz) and the other fields of the manifest's line.
        packages_: As in `CorpusReceipt`.
        source: As in `CorpusReceipt`.

    Raises:
        ModelError: `fetch_unwritable`, or `corpus_nothing` for no entry.
    """
    place = folder_of(name)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}."))
    except OSError as error:
        raise _unwritable(place, error) from error
    try:
        record = _written(temporary, name, entries, packages_, source)
        _put(place, temporary)
    except OSError as error:
        raise _unwritable(place, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return record


def _tidied(place: Path) -> None:
    """Brings back what a killed process had set aside, and takes away what it left half done."""
    for old in place.parent.glob(f".{place.name}.*.old"):
        if not place.exists():
            old.rename(place)
    now = time.time()
    for left in place.parent.glob(f".{place.name}.*"):
        # Another process may be writing a young one.
        if now - left.stat().st_mtime > _ABANDONED_S:
            shutil.rmtree(left, ignore_errors=True)


def _put(place: Path, new: Path) -> None:
    """Puts a folder in its place; another one there stays if the new one cannot be put there."""
    if not place.exists():
        try:
            new.rename(place)
            return
        except OSError:
            # Another process was faster: then there are two, and either will do.
            if not place.exists():
                raise
    old = new.with_name(new.name + ".old")
    place.rename(old)
    try:
        new.rename(place)
    except BaseException:
        old.rename(place)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _written(
    folder: Path,
    name: str,
    entries: Iterable[tuple[str, debian.Pcm, Mapping[str, str]]],
    came: tuple[Package, ...],
    source: str,
) -> CorpusReceipt:
    import soundfile

    lines = []
    files = []
    for key, samples, fields in entries:
        path = folder / "audio" / f"{key}.wav"
        if not path.resolve().is_relative_to(folder.resolve()):
            raise ModelError("corpus_nothing", name=name)
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, samples, debian.RATE, subtype="PCM_16")
        inside = path.relative_to(folder).as_posix()
        lines.append(json.dumps({"audio": inside, **fields}, ensure_ascii=False))
        files.append(_kept(path, inside))
    if not lines:
        raise ModelError("corpus_nothing", name=name)
    listed = folder / MANIFEST_NAME
    listed.write_text("\n".join(lines) + "\n", encoding="utf-8")
    files.append(_kept(listed, MANIFEST_NAME))
    record = CorpusReceipt(
        name=name,
        fetched_at=datetime.now(UTC).isoformat(timespec="seconds"),
        packages=came,
        source=source,
        files=tuple(files),
    )
    with (folder / RECEIPT).open("w", encoding="utf-8") as out:
        out.write(record.model_dump_json(indent=1) + "\n")
        out.flush()
        os.fsync(out.fileno())
    return record


def _kept(path: Path, name: str) -> KeptFile:
    return KeptFile(name=name, bytes=path.stat().st_size, sha256=packages.sha256(path))


def _unwritable(place: Path, error: OSError) -> ModelError:
    return ModelError("fetch_unwritable", path=place, detail=error.strerror or str(error))
