"""Debian packages read with the standard library: an `ar` archive that holds a tar of the files.

Format: deb(5). Archives are untrusted: sizes are bounded while they are unpacked, only regular
files are read, and nothing is written by the names in them.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from vozmetro.errors import ModelError, VozmetroError

MOST_BYTES = 512 << 20
"""Bytes that one package may take, unpacked."""
MOST_FILES = 50_000
"""Entries of one package."""
_MAGIC = b"!<arch>\n"
_HEADER = 60
_OPENERS: dict[str, Callable[[BinaryIO], io.BufferedIOBase | BinaryIO]] = {
    "data.tar": lambda packed: packed,
    "data.tar.gz": lambda packed: gzip.GzipFile(fileobj=packed),
    "data.tar.xz": lzma.LZMAFile,
    "data.tar.bz2": bz2.BZ2File,
}


class _Bounded:
    """What is read of a stream, until it is more than MOST_BYTES."""

    def __init__(self, stream: io.BufferedIOBase | BinaryIO, path: Path) -> None:
        self._stream = stream
        self._left = MOST_BYTES
        self._path = path

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise _invalid(self._path, f"> {MOST_BYTES >> 20} MiB")
        return data


def files(path: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """Yields the regular files of a package: their names without a leading `./`, and content.

    Args:
        path: The `.deb`.
        wanted: Told each name; says whether to read the file.

    Raises:
        ModelError: `deb_invalid` for what is no package, is damaged, or is larger than allowed;
            `deb_compression` for a compression that the standard library does not read.
    """
    try:
        with path.open("rb") as package:
            name, data = _member(package, path)
        stream = _Bounded(_OPENERS[name](io.BytesIO(data)), path)
        # Read in one go, so that nothing is unpacked beyond the bound: not even a header.
        with tarfile.open(fileobj=stream, mode="r|") as archive:  # type: ignore[call-overload]
            yield from _read(archive, wanted, path)
    except VozmetroError:
        raise
    except Exception as error:  # each reader of the standard library raises errors of its own
        raise _invalid(path, f"{type(error).__name__}: {error}") from error


def _read(
    archive: tarfile.TarFile, wanted: Callable[[str], bool], path: Path
) -> Iterator[tuple[str, bytes]]:
    for count, entry in enumerate(archive, 1):
        if count > MOST_FILES:
            raise _invalid(path, f"> {MOST_FILES} files")
        name = entry.name.removeprefix("./")
        # Holes of a sparse file take no room in the archive, but all of memory.
        if not entry.isreg() or entry.issparse() or not wanted(name):
            continue
        source = archive.extractfile(entry)
        if source is not None:
            yield name, source.read()


def _member(package: BinaryIO, path: Path) -> tuple[str, bytes]:
    """The package's tar of files: its name and its bytes, still compressed."""
    if package.read(len(_MAGIC)) != _MAGIC:
        raise _invalid(path, "ar")
    while header := package.read(_HEADER):
        if len(header) < _HEADER or header[58:60] != b"`\n":
            raise _invalid(path, "ar")
        name = header[:16].decode("ascii", "replace").strip().rstrip("/")
        digits = header[48:58].strip()
        if not digits.isdigit():
            raise _invalid(path, "ar")
        size = int(digits)
        if size > MOST_BYTES:
            raise _invalid(path, f"> {MOST_BYTES >> 20} MiB")
        if name.startswith("data.tar"):
            if name not in _OPENERS:
                raise ModelError("deb_compression", path=path, name=name)
            data = package.read(size)
            if len(data) < size:
                raise _invalid(path, name)
            return name, data
        package.seek(size + size % 2, io.SEEK_CUR)
    raise _invalid(path, "data.tar")


def _invalid(path: Path, detail: str) -> ModelError:
    return ModelError("deb_invalid", path=path, detail=detail[:200])
