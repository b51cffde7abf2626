"""Finds records below folders, by their names; nothing is opened here."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

NAMES = ("run.json", "comparison.json", "quality.json")
"""As `measure.storage` has them, which takes long to import."""
MOST_BYTES = 64 << 20
"""A larger file is listed as unreadable: a run of a million samples has about as much."""
MOST_DEPTH = 16
MOST_FILES = 1_000_000


class Found(NamedTuple):
    """A file that may be a record.

    Attributes:
        path: Absolute, with no symbolic link to a folder below the folder that was searched.
        size: In bytes.
        mtime_ns: When it was last written.
    """

    path: str
    size: int
    mtime_ns: int


def scan(folders: Sequence[Path]) -> list[Found]:
    """Returns the files named like records below folders, each once.

    Symbolic links to folders are not followed, so that none leads round in a circle; nor are
    folders whose name begins with a dot. What cannot be listed is passed over.

    Args:
        folders: Folders, or records themselves.
    """
    found: dict[str, Found] = {}
    for folder in folders:
        # Not resolve(): a folder that is a link itself was named by the user.
        root = os.path.abspath(folder)  # noqa: PTH100
        for one in _below(root) if os.path.isdir(root) else _one(root):  # noqa: PTH112
            found.setdefault(one.path, one)
            if len(found) >= MOST_FILES:
                return list(found.values())
    return list(found.values())


def _one(path: str) -> list[Found]:
    try:
        about = os.stat(path)  # noqa: PTH116
    except (OSError, ValueError):
        return []
    return [Found(path, about.st_size, about.st_mtime_ns)]


def _below(root: str) -> Iterator[Found]:
    waiting = [(root, 0)]
    while waiting:
        folder, depth = waiting.pop()
        try:
            with os.scandir(folder) as listed:
                entries = list(listed)
        except OSError:
            continue
        for entry in entries:
            try:
                if entry.name in NAMES and entry.is_file():
                    about = entry.stat()
                    yield Found(entry.path, about.st_size, about.st_mtime_ns)
                elif (
                    depth < MOST_DEPTH
                    and not entry.name.startswith(".")
                    and entry.is_dir(follow_symlinks=False)
                ):
                    waiting.append((entry.path, depth + 1))
            except OSError:
                continue
