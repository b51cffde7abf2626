"""What is refused by its name or its first bytes, before anything reads further.

A Python pickle runs code when it is opened, and PyTorch's checkpoints are pickles (inside a zip
since version 1.6). Names that come from elsewhere (a hub's listing, a record) are joined to a
folder only after `safe_name`.
"""

from __future__ import annotations

import json
import unicodedata
import zipfile
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from vozmetro import packages
from vozmetro.errors import ModelError

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle", "*.joblib", "*.dill")
"""File names that hold, or usually hold, pickles. They are never fetched."""
JSON_LIMIT = 16 << 20
"""Bytes of the largest configuration that is read."""
_NAME_LIMIT, _PATH_LIMIT = 200, 1000
_HEAD = 4096
# Second byte of a pickle: its protocol. Earlier protocols have no first byte to know them by.
_PICKLE_PROTOCOLS = frozenset({2, 3, 4, 5})


def is_pickle_name(name: str) -> bool:
    """Returns whether a file's name says that it holds a pickle."""
    return any(fnmatchcase(name.lower(), pattern) for pattern in PICKLES)


def safe_name(name: str) -> PurePosixPath:
    """Returns a relative path that stays below the folder that it is joined to.

    Args:
        name: With `/` between folders, from outside.

    Raises:
        ModelError: `unsafe_name` for an absolute path, `..`, a drive or a device of Windows,
            control characters, or a name that no file system takes.
    """
    parts = name.split("/")
    windows = PureWindowsPath(name)
    bad = (
        not name
        or len(name) > _PATH_LIMIT
        or "\\" in name
        or ":" in name
        or windows.is_reserved()
        or any(unicodedata.category(char) in ("Cc", "Cf", "Cs") for char in name)
        or any(not part or part.startswith("..") or part == "." for part in parts)
        or any(part != part.strip() or len(part.encode()) > _NAME_LIMIT for part in parts)
    )
    if bad:
        raise ModelError("unsafe_name", name=name[:_NAME_LIMIT])
    return PurePosixPath(name)


def inside(folder: Path, name: str) -> Path:
    """Returns where a file of this name lies below a folder, following no link out of it.

    Raises:
        ModelError: `unsafe_name`.
    """
    place = folder / safe_name(name)
    if not place.parent.resolve().is_relative_to(folder.resolve()):
        raise ModelError("unsafe_name", name=name)
    return place


def refuse_disguised(path: Path) -> None:
    """Refuses a file whose first bytes say that it is no model, whatever its name says.

    Raises:
        ModelError: `pickle_refused`, `zip_refused` or `lfs_pointer`.
    """
    if not packages.is_file(path):
        return  # a pipe would be waited for
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return  # whoever opens it next says why it cannot be read
    if head[:1] == b"\x80" and head[1:2] and head[1] in _PICKLE_PROTOCOLS:
        raise ModelError("pickle_refused", path=path)
    if head.startswith(b"PK\x03\x04") and zipfile.is_zipfile(path):
        # The first entry of a PyTorch archive is NAME/data.pkl.
        raise ModelError("pickle_refused" if b".pkl" in head else "zip_refused", path=path)
    if head.startswith(b"version https://git-lfs"):
        raise ModelError("lfs_pointer", path=path)


def read_json(path: Path) -> dict[str, Any] | None:
    """Returns a JSON object from a file that may be anything; None where it is not one."""
    try:
        if not packages.is_file(path) or path.stat().st_size > JSON_LIMIT:
            return None
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
