"""A catalogue model's files in one folder: in place where the package has them so, else joined.

Joined files live in a cache folder and are verified at every load: a damaged copy is built again
from the packages; a damaged package is an error.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
import time
from pathlib import Path, PurePosixPath

from vozmetro import packages, units
from vozmetro.errors import ModelError
from vozmetro.models import receipt, safety
from vozmetro.models.catalogue import Entry, HubPlace, ModelFile, Part
from vozmetro.models.fetched import SPARE_BYTES

_DAY_S = 86_400


def hub_home(repo: str) -> Path:
    """Returns where a repository of a hub is fetched to, a folder for each commit."""
    return packages.cache_dir() / "hub" / repo.replace("/", "--")


def model_folder(entry: Entry) -> Path:
    """Returns a folder with every file of the model, each verified by size and SHA-256.

    Raises:
        MissingExtraError: A data package is not installed.
        ModelError: `package_version`, `package_file_missing`, `package_file_damaged`,
            `cache_full` or `cache_unwritable`; of a model on a hub `not_fetched`,
            `fetch_incomplete` or `fetch_damaged`.
    """
    return verified(entry)[0]


def verified(entry: Entry) -> tuple[Path, tuple[tuple[Path, int, str], ...]]:
    """Returns `model_folder`, and path, bytes and SHA-256 of every file of the model."""
    if entry.hub is not None:
        folder, source = _fetched(entry, entry.hub)
        return folder, tuple((folder / f.name, f.bytes, f.sha256 or "") for f in source.files)
    folder = _from_packages(entry)
    return folder, tuple((folder / file.name, file.bytes, file.sha256) for file in entry.files)


def _from_packages(entry: Entry) -> Path:
    if _is_whole_in_package(entry):
        found = [_verified(file.parts[0], entry.extra) for file in entry.files]
        return found[0].parent
    # The name holds the content, so that two versions of vozmetro can share the cache.
    folder = packages.cache_dir() / "models" / f"{entry.name}-{entry.files[0].sha256[:12]}"
    stale = [f for f in entry.files if not packages.is_intact(folder / f.name, f.bytes, f.sha256)]
    if stale:
        _build(folder, stale, entry.extra)
    return folder


def _fetched(entry: Entry, place: HubPlace) -> tuple[Path, receipt.Source]:
    """Returns where a hub's model was fetched to, intact, and its record."""
    folder, source = _recorded(entry, place)
    for file in source.files:
        path = safety.inside(folder, file.name)
        if not source.complete or file.sha256 is None:
            raise ModelError("fetch_incomplete", path=path, source=entry.name)
        if not packages.is_intact(path, file.bytes, file.sha256):
            raise ModelError("fetch_damaged", path=path, source=entry.name)
    return folder, source


def _recorded(entry: Entry, place: HubPlace) -> tuple[Path, receipt.Source]:
    """Returns the folder that a hub's model was fetched to, and its record, nothing hashed."""
    home = hub_home(place.repo)
    found = []
    for folder in sorted(home.iterdir()) if packages.is_dir(home) else ():
        for source in (receipt.read(folder) or receipt.Receipt()).of(f"hub:{place.repo}"):
            there = {file.name for file in source.files}
            needed = all(file.name in there for file in entry.files)
            if needed and place.revision in (source.revision, source.commit):
                found.append((folder, source))
    if not found:
        raise ModelError("not_fetched", name=entry.name)
    return next((one for one in found if one[1].complete), found[0])


def is_sized(entry: Entry, place: HubPlace) -> bool:
    """Returns whether a hub's model is there by its files' sizes, which takes no time to know.

    Raises:
        ModelError: `not_fetched` or `receipt_invalid`.
    """
    folder, source = _recorded(entry, place)
    paths = [(safety.inside(folder, file.name), file.bytes) for file in source.files]
    return source.complete and all(
        packages.is_file(path) and path.stat().st_size == size for path, size in paths
    )


def _is_whole_in_package(entry: Entry) -> bool:
    """Returns whether one folder of one package holds every file under its own name."""
    if any(len(file.parts) != 1 for file in entry.files):
        return False
    parts = [(file.name, file.parts[0]) for file in entry.files]
    folders = {(part.package, PurePosixPath(part.path).parent) for _, part in parts}
    return len(folders) == 1 and all(PurePosixPath(p.path).name == name for name, p in parts)


def _verified(part: Part, extra: str) -> Path:
    """Returns where a part lies, after checking its size and SHA-256."""
    place = packages.locate(part.package, part.version, part.path, extra)
    packages.verify(place, part.bytes, part.sha256, part.package, part.version)
    return place


def _build(folder: Path, files: list[ModelFile], extra: str) -> None:
    """Writes files of a model into the cache, each atomically, after checking the disk."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        needed = sum(file.bytes for file in files) + SPARE_BYTES
        free = shutil.disk_usage(folder).free
        if free < needed:
            raise ModelError(
                "cache_full", path=folder, needed=units.size(needed), free=units.size(free)
            )
        for file in files:
            sweep(folder / file.name)
            _join(folder / file.name, file, extra)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            needed = sum(file.bytes for file in files)
            raise ModelError(
                "cache_full", path=folder, needed=units.size(needed), free=units.size(0)
            ) from error
        detail = error.strerror or error
        raise ModelError("cache_unwritable", path=folder, detail=detail) from error


def sweep(target: Path) -> None:
    """Removes what killed processes left of a file or folder: whatever begins as it was a day ago.

    Temporaries lie beside their target, by its name with a dot before it and another behind.
    """
    for rest in list(target.parent.iterdir()):
        if not rest.name.startswith(f".{target.name}."):
            continue
        with contextlib.suppress(OSError):
            if time.time() - rest.lstat().st_mtime < _DAY_S:
                continue  # somebody may be at it
            if rest.is_dir() and not rest.is_symlink():
                shutil.rmtree(rest)
            else:
                rest.unlink()


def _join(target: Path, file: ModelFile, extra: str) -> None:
    """Writes the parts one after the other beside the target, verifies, and renames it."""
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as out:
            for part in file.parts:
                with _verified(part, extra).open("rb") as data:
                    shutil.copyfileobj(data, out, packages.CHUNK)
            out.flush()
            os.fsync(out.fileno())
        if not packages.is_intact(temporary, file.bytes, file.sha256):
            # Parts were intact, so the copy went wrong: a failing disk, or a catalogue mistake.
            raise ModelError("cache_unwritable", path=target, detail="SHA-256")
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
