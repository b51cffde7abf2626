"""Files of installed data packages: found without importing the package, and verified.

Models and speech come as wheels of data. Nothing of a package is executed: its version and its
place on disk are read from the metadata that pip wrote.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from vozmetro.errors import MissingExtraError, ModelError

CHUNK = 1 << 20
"""Bytes held in memory at once while a file is hashed or copied."""


def cache_dir() -> Path:
    """Returns the folder for what was fetched or made: VOZMETRO_CACHE, else the user's cache."""
    override = os.environ.get("VOZMETRO_CACHE")
    if override:
        return Path(override).expanduser()
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("vozmetro", appauthor=False))


def is_file(path: Path) -> bool:
    """Returns whether there is a file; False too for words that no file system takes as a path."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_dir(path: Path) -> bool:
    """Returns whether there is a folder; False too for words that cannot be a path."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def locate(package: str, version: str, path: str, extra: str) -> Path:
    """Returns where a file of an installed package lies.

    Args:
        package: Distribution name on PyPI.
        version: The only version accepted, because only its files were checked.
        path: The file's path below site-packages, with `/`.
        extra: The extra of vozmetro that installs it, for the error's command.

    Raises:
        MissingExtraError: The package is not installed.
        ModelError: `package_version` or `package_file_missing`.
    """
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        found = distribution(package)
    except PackageNotFoundError as error:
        raise MissingExtraError(extra, package) from error
    if found.version != version:
        raise ModelError("package_version", package=package, found=found.version, wanted=version)
    place = Path(str(found.locate_file(path)))
    if not is_file(place):
        raise ModelError("package_file_missing", path=place, package=package, version=version)
    return place


def sha256(path: Path) -> str:
    """Returns a file's SHA-256 in hexadecimal, read in pieces.

    Raises:
        ModelError: `model_unreadable`.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        detail = error.strerror or error
        raise ModelError("model_unreadable", path=path, detail=detail) from error


def is_intact(path: Path, size: int, digest: str) -> bool:
    """Returns whether a file is there with this size in bytes and this SHA-256."""
    return is_file(path) and path.stat().st_size == size and sha256(path) == digest


def verify(path: Path, size: int, digest: str, package: str, version: str) -> None:
    """Checks a package's file against the size (bytes) and SHA-256 recorded for it.

    Raises:
        ModelError: `package_file_damaged`.
    """
    if not is_intact(path, size, digest):
        raise ModelError("package_file_damaged", path=path, package=package, version=version)
