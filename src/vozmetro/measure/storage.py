"""Records on disk: written atomically, read strictly."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from vozmetro.errors import InputError, OutputError
from vozmetro.measure.depth_records import AnyRecord, DepthStudy
from vozmetro.measure.quality_records import QualityStudy
from vozmetro.measure.records import SCHEMA_VERSION, ComparisonRecord, Record, Run
from vozmetro.measure.roofline_records import Roofline

RUN_FILE, COMPARISON_FILE, DEPTHS_FILE = "run.json", "comparison.json", "depths.json"
QUALITY_FILE = "quality.json"
"""Names of saved records in their folder."""
RECORD_FILES = (COMPARISON_FILE, DEPTHS_FILE, RUN_FILE)
MOST_BYTES = 1 << 30
"""Bytes of the largest record that is read."""
R = TypeVar("R", bound=Record)


def save(record: AnyRecord | QualityStudy, path: Path) -> None:
    """Writes the record as JSON, atomically: a crash leaves the old file or the new one.

    Raises:
        OutputError: `unwritable` or `disk_full`.
    """
    write_atomic(path, record.model_dump_json(indent=1).encode())


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns what the system says against writing into an error that names the path.

    Raises:
        OutputError: `unwritable` or `disk_full`.
    """
    try:
        yield
    except OSError as error:
        code = "disk_full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "unwritable"
        raise OutputError(code, path=path, detail=error.strerror or error) from error


def write_atomic(path: Path, data: bytes) -> None:
    """Writes bytes so that readers see the old file or the whole new one, never a part.

    Raises:
        OutputError: `unwritable` or `disk_full`.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            # mkstemp is private to the user; results are as readable as any file they write.
            Path(temporary).chmod(0o644)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


def check_writable(folder: Path) -> None:
    """Makes the folder and tries to write into it, before anything is measured for it.

    Raises:
        OutputError: `unwritable` or `disk_full`.
    """
    probe = folder / ".vozmetro-probe"
    write_atomic(probe, b"")
    probe.unlink()


def load(path: Path | str) -> AnyRecord:
    """Reads a saved record.

    Args:
        path: `run.json`, `comparison.json` or `depths.json`, or the folder that holds one of them.
            A file of an earlier schema is read as one of the present.

    Raises:
        InputError: `run_missing`, `run_unreadable` or `run_newer`.
    """
    record = load_any(path)
    if isinstance(record, Roofline | QualityStudy):
        raise InputError("run_unreadable", path=path, detail=f"type: {record.type}")
    return record


def load_quality(path: Path | str) -> QualityStudy:
    """Reads a saved quality study.

    Args:
        path: `quality.json` or the folder that holds it.

    Raises:
        InputError: As for `load`.
    """
    path = Path(path)
    record = load_any(path / QUALITY_FILE if path.is_dir() else path)
    if not isinstance(record, QualityStudy):
        raise InputError("run_unreadable", path=path, detail=f"type: {record.type}")
    return record


def load_any(path: Path | str) -> AnyRecord | Roofline | QualityStudy:
    """Reads a saved record of any type.

    Args:
        path: As for `load`, or `roofline.json` or `quality.json`.

    Raises:
        InputError: As for `load`.
    """
    path = record_path(path)
    raw = read_raw(path, SCHEMA_VERSION)
    kinds: dict[str, type[AnyRecord | Roofline | QualityStudy]] = {
        "quality": QualityStudy,
        "comparison": ComparisonRecord,
        "depths": DepthStudy,
        "roofline": Roofline,
    }
    return validated(kinds.get(str(raw.get("type")), Run), _upgraded(raw), path)


def record_path(path: Path | str) -> Path:
    """Returns the file that a record is read from: itself, or the one that its folder holds.

    Args:
        path: As for `load_any`.
    """
    path = Path(path)
    if not path.is_dir():
        return path
    names = [path / name for name in (*RECORD_FILES, QUALITY_FILE)]
    return next((name for name in names if name.is_file()), path / RUN_FILE)


def read_raw(path: Path, known: int) -> dict[str, Any]:
    """Returns a record's JSON, of a schema that is known.

    Args:
        path: The file.
        known: The newest version that can be read.

    Raises:
        InputError: `run_missing`, `run_unreadable` or `run_newer`.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InputError("run_unreadable", path=path, detail=f"> {MOST_BYTES >> 20} MiB")
        raw: dict[str, Any] = json.loads(path.read_bytes())
        version = raw["schema_version"]
    except FileNotFoundError as error:
        raise InputError("run_missing", path=path) from error
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError("run_unreadable", path=path, detail=type(error).__name__) from error
    if not isinstance(version, int) or version > known:
        raise InputError("run_newer", path=path, version=version, known=known)
    if version < 1:
        raise InputError("run_unreadable", path=path, detail=f"schema_version {version}")
    return raw


def validated(kind: type[R], raw: dict[str, Any], path: Path) -> R:
    """Returns a record of a kind from its JSON.

    Raises:
        InputError: `run_unreadable`, naming the first field that is wrong.
    """
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError("run_unreadable", path=path, detail=f"{where}: {first['msg']}") from error


def _upgraded(raw: dict[str, Any]) -> dict[str, Any]:
    """Returns a record of an earlier schema in the present one.

    1 -> 2 -> 3 -> 4: fields were added, and their defaults say what was true before them.
    """
    changed = {**raw, "schema_version": SCHEMA_VERSION}
    for side in ("a", "b"):
        if isinstance(raw.get(side), dict):
            changed[side] = {**raw[side], "schema_version": SCHEMA_VERSION}
    return changed
