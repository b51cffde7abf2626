"""What every way of fetching shares: progress, results, and what may be written where."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from vozmetro import packages, units
from vozmetro.errors import InputError, ModelError
from vozmetro.models import safety
from vozmetro.models.receipt import FetchedFile, Receipt, Source

SPARE_BYTES = 50 * units.MB
"""Left free on the disk, so that fetching a model never fills it."""


@dataclass(frozen=True)
class Progress:
    """How far a fetch is.

    Attributes:
        name: The file at hand.
        done: Bytes there are of all files.
        total: Bytes of all files.
    """

    name: str
    done: int
    total: int


Listener = Callable[[Progress], None]


@dataclass(frozen=True)
class Fetched:
    """What there is after a fetch.

    Attributes:
        folder: Where the files lie.
        path: What to verify, inspect or measure: an `.onnx` where there is one only, else the
            folder.
        source: What `fetch.json` says of it; of models used in place, what it would say.
        received: Bytes that came now; 0 where all was there.
    """

    folder: Path
    path: Path
    source: Source
    received: int


def check_space(folder: Path, needed: int) -> None:
    """Refuses to begin what the disk cannot hold.

    Raises:
        ModelError: `fetch_no_space`.
    """
    free = shutil.disk_usage(folder).free
    if needed and free < needed + SPARE_BYTES:
        raise ModelError(
            "fetch_no_space",
            path=folder,
            needed=units.size(needed + SPARE_BYTES),
            free=units.size(free),
        )


def now() -> str:
    """Returns the time as records have it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def subject(folder: Path, names: Sequence[str]) -> Path:
    """Returns what to hand to other commands: the only graph, else the folder."""
    graphs = [name for name in names if name.endswith(".onnx")]
    return folder / graphs[0] if len(graphs) == 1 else folder


def is_intact(folder: Path, file: FetchedFile) -> bool:
    """Returns whether a recorded file is there as it was verified."""
    place = safety.inside(folder, file.name)
    return file.sha256 is not None and packages.is_intact(place, file.bytes, file.sha256)


def check_taken(folder: Path, record: Receipt, new: Source) -> None:
    """Refuses to write over what another source, or the user, put there.

    Raises:
        InputError: `fetch_taken`.
    """
    mine = {file.name for own in record.of(new.source) for file in own.files}
    for file in new.files:
        place = safety.inside(folder, file.name)
        if file.name in mine or not os.path.lexists(place) or is_intact(folder, file):
            continue
        raise InputError("fetch_taken", path=place)
