"""Models into a folder: by catalogue name, from a hub, or from a file or folder that is shared.

Offline first: what was fetched before and is intact is used without a request. Every file appears
under its name only when its size and its hash are right; what is half there is gone on with.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from vozmetro import packages, units
from vozmetro.errors import InputError, ModelError
from vozmetro.models import assemble, hub, receipt, safety, shared
from vozmetro.models.catalogue import Entry, catalogue
from vozmetro.models.converted import converted_folder
from vozmetro.models.fetched import (
    Fetched,
    Listener,
    Progress,
    check_space,
    check_taken,
    is_intact,
    now,
    subject,
)
from vozmetro.models.hub_fetch import HubFetch
from vozmetro.models.receipt import FetchedFile, Receipt, Source


def fetch(
    source: str,
    target: Path | None = None,
    *,
    revision: str | None = None,
    include: Sequence[str] = (),
    refresh: bool = False,
    listen: Listener = lambda _: None,
) -> Fetched:
    """Gets a model and verifies every file of it.

    Args:
        source: A name of the catalogue, `hub:OWNER/NAME@REVISION`, or the path of a file or folder.
        target: Folder to fetch into; by default the cache, and in place for files and folders.
        revision: Of a hub: a commit, a tag or, knowingly, a branch, which is resolved to its commit
            once and stays there.
        include: Of a hub: patterns of the files wanted, beside the configuration.
        refresh: Asks the hub again what a tag or a branch stands for.
        listen: Told how far it is.

    Raises:
        InputError: `fetch_unknown`, `hub_unpinned`, `hub_spec_invalid`, `hub_option`,
            `fetch_taken`, `fetch_busy`, or `revision_moved`.
        MissingExtraError: The hub's client or a data package is not installed.
        ModelError: What cannot be reached, does not match its hash, or must not be fetched.
    """
    entry = catalogue().get(source)
    on_hub = source.startswith(hub.PREFIX) or (entry is not None and entry.hub is not None)
    if not on_hub and (revision is not None or include or refresh):
        raise InputError("hub_option", source=source)
    with _disk(target or packages.cache_dir()):
        if entry is not None and entry.hub is None:
            return _packaged(entry, target, listen)
        if on_hub:
            return HubFetch(
                source, entry, target, revision=revision, include=include, refresh=refresh
            ).fetch(listen)
        path = Path(source).expanduser()
        if source and (packages.is_file(path) or packages.is_dir(path)):
            return _shared(path, target, listen)
    raise InputError("fetch_unknown", source=source, names=", ".join(catalogue()))


@contextmanager
def _disk(folder: Path) -> Iterator[None]:
    """Says of errors of the disk which folder they are about."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            zero = units.size(0)
            raise ModelError("fetch_no_space", path=folder, needed="–", free=zero) from error
        detail = error.strerror or str(error)
        raise ModelError("fetch_unwritable", path=folder, detail=detail) from error


# Data packages, files and folders ---------------------------------------------------------------


def _packaged(entry: Entry, target: Path | None, listen: Listener) -> Fetched:
    if entry.converted_from:
        folder = converted_folder(entry, catalogue()[entry.converted_from])
        record = receipt.read(folder) or Receipt()
        files = tuple(file for source in record.sources for file in source.files)
    else:
        folder, found = assemble.verified(entry)
        files = tuple(
            FetchedFile(name=path.relative_to(folder).as_posix(), bytes=size, sha256=digest)
            for path, size, digest in found
        )
    source = Source(source=f"package:{entry.name}", fetched_at=now(), complete=True, files=files)
    return _copied(folder, source, target, listen)


def _shared(path: Path, target: Path | None, listen: Listener) -> Fetched:
    folder, names = shared.files_of(path)
    found = []
    for name in names:
        place = folder / name
        found.append(
            FetchedFile(name=name, bytes=place.stat().st_size, sha256=packages.sha256(place))
        )
    receipt.check((folder / f.name, f.bytes, f.sha256 or "") for f in found)
    source = Source(
        source=f"file:{path.absolute()}", fetched_at=now(), complete=True, files=tuple(found)
    )
    return _copied(folder, source, target, listen)


def _copied(folder: Path, source: Source, target: Path | None, listen: Listener) -> Fetched:
    """Copies verified files into the target, if there is one, and records them there."""
    names = [file.name for file in source.files]
    if target is None or target.resolve() == folder.resolve():
        return Fetched(folder, subject(folder, names), source, 0)
    target.mkdir(parents=True, exist_ok=True)
    record = receipt.read(target) or Receipt()
    check_taken(target, record, source)
    missing = [f for f in source.files if not is_intact(target, f)]
    check_space(target, sum(file.bytes for file in missing))
    total = sum(file.bytes for file in source.files)
    done = total - sum(file.bytes for file in missing)
    receipt.write(target, record.having(source.model_copy(update={"complete": False})))
    for file in missing:
        place = safety.inside(target, file.name)
        place.parent.mkdir(parents=True, exist_ok=True)
        part = place.with_name(f".{place.name}.{os.getpid()}.part")
        # What a killed process of the same number left, as they repeat in containers.
        part.unlink(missing_ok=True)
        try:
            with (folder / file.name).open("rb") as data, part.open("xb") as out:
                while piece := data.read(packages.CHUNK):
                    out.write(piece)
                    done += len(piece)
                    listen(Progress(file.name, done, total))
                out.flush()
                os.fsync(out.fileno())
            if not packages.is_intact(part, file.bytes, file.sha256 or ""):
                # The source changed under our hands, or a disk fails.
                raise ModelError("fetch_damaged", path=place, source=receipt.command(source))
            part.replace(place)
        finally:
            part.unlink(missing_ok=True)
    receipt.write(target, record.having(source))
    received = sum(file.bytes for file in missing)
    return Fetched(target, subject(target, names), source, received)
