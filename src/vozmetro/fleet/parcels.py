"""Model and corpus files on their way to a machine: named by what is in them, verified there."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import psutil

from vozmetro.errors import InputError
from vozmetro.measure.storage import writing
from vozmetro.models import dummy_name, profile
from vozmetro.models.catalogue import catalogue
from vozmetro.models.resolve import PIPER_PREFIXES, resolve, split_options
from vozmetro.packages import cache_dir, is_dir, is_file, is_intact, sha256
from vozmetro.speech import corpus, known, layouts

CHUNK = 16 << 20
"""Bytes that travel at once."""
MOST_FILES = 200_000
"""Of a corpus; a larger one lies where all machines can read it."""
_CASCADE = "+"


@dataclass(frozen=True)
class Parcel:
    """Files that belong together.

    Attributes:
        files: Relative path with `/`, bytes and SHA-256 of each.
        main: What an engine is given, relative; `.` for the folder itself.
        root: Folder in which they lie on the sender's machine.
    """

    files: tuple[tuple[str, int, str], ...]
    main: str
    root: str

    @property
    def digest(self) -> str:
        """SHA-256 of the names and contents."""
        text = "\n".join(f"{name}\0{digest}" for name, _, digest in sorted(self.files))
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(size for _, size, _ in self.files)


Packed = tuple[str | Parcel, ...]
"""Words in which paths are parcels."""


def pack_subject(words: str) -> Packed:
    """Returns the words that name a subject with the files that they mean.

    Catalogue names stay: every machine gets those models as this one did. A profile becomes the
    options that it stands for.

    Raises:
        VozmetroError: As `resolve`.
    """
    if not is_file(Path(words)) and not is_dir(Path(words)) and _CASCADE in words:
        first, _, second = words.partition(_CASCADE)
        return (*pack_subject(first.strip()), _CASCADE, *pack_subject(second.strip()))
    bare, options = split_options(words)
    if profile.OPTION in options:
        options = profile.read(bare, options.pop(profile.OPTION)) | options
    written = ",".join(f"{key}={value}" for key, value in options.items())
    behind: Packed = (f"@{written}",) if written else ()
    if bare in catalogue():
        return (bare, *behind)
    if dummy_name.is_dummy(bare):
        dummy_name.parse(bare)
        return (bare, *behind)
    files = resolve(bare).files
    prefix = next((one for one in PIPER_PREFIXES if bare.startswith(one)), "")
    path = Path(bare.removeprefix(prefix)).expanduser()
    root = path if path.is_dir() else path.parent
    parcel = Parcel(
        tuple((os.path.relpath(file, root), size, digest) for file, size, digest in files),
        "." if path.is_dir() else path.name,
        str(root.absolute()),
    )
    return (*((prefix,) if prefix else ()), parcel, *behind)


def pack_corpus(words: str) -> Packed:
    """Returns the words that name corpora with the files that they mean.

    Those are what lies in a folder, or a list and what it names.

    Raises:
        InputError: `fleet_corpus_large`, `fleet_outside`, or as `corpus.open_sources`.
    """
    packed: list[str | Parcel] = []
    for part in corpus.parts(words):
        if packed:
            packed.append(",")
        scheme, colon, rest = part.partition(":")
        has_scheme = bool(colon) and (scheme == "dir" or scheme in layouts.SCHEMES)
        place = Path(rest if has_scheme else part).expanduser()
        if part in known.names() or (has_scheme and not place.exists()):
            packed.append(part)
            continue
        if has_scheme:
            packed.append(f"{scheme}:")
        packed.append(_corpus_parcel(part, place))
    return tuple(packed)


def _corpus_parcel(part: str, place: Path) -> Parcel:
    root = (place if place.is_dir() else place.parent).absolute()
    if place.is_dir():
        # What a link shows of the rest of this machine is none of the corpus.
        here = root.resolve()
        found = [
            path for path in root.rglob("*")
            if path.is_file() and path.resolve().is_relative_to(here)
        ]  # fmt: skip
    else:
        found = [place, *(source.audio for source in corpus.open_sources(part)())]
    files = []
    for path in sorted({one.absolute() for one in found}):
        if not path.is_relative_to(root) or ".." in path.relative_to(root).parts:
            raise InputError("fleet_outside", path=path, root=root)
        files.append((path.relative_to(root).as_posix(), path.stat().st_size, sha256(path)))
        if len(files) > MOST_FILES:
            raise InputError("fleet_corpus_large", path=root, most=MOST_FILES)
    if not files:
        raise InputError("corpus_empty", path=part)
    return Parcel(tuple(files), "." if place.is_dir() else place.name, str(root))


def parcels(packed: Packed) -> list[Parcel]:
    """Returns the parcels in words."""
    return [one for one in packed if isinstance(one, Parcel)]


def unpacked(packed: Packed) -> str:
    """Returns the words with the paths on this machine, to which the parcels have come."""
    return "".join(one if isinstance(one, str) else str(place(one) / one.main) for one in packed)


def place(parcel: Parcel) -> Path:
    """Returns the folder of a parcel on this machine."""
    return cache_dir() / "fleet" / parcel.digest


def has(parcel: Parcel) -> bool:
    """Whether a parcel is here, whole and as it was sent."""
    root = place(parcel)
    return all(is_intact(root / name, size, digest) for name, size, digest in parcel.files)


class Arrival:
    """Takes a parcel in, piece by piece; it has its place only once it is whole and verified."""

    _parcel: Parcel
    _names: dict[str, tuple[int, str]]
    _folder: Path

    def begin(self, parcel: Parcel) -> None:
        """Makes room for a parcel, and takes away what processes that died left of theirs.

        Raises:
            InputError: `fleet_parcel` for a name that leaves its folder.
            OutputError: `unwritable` or `disk_full`.
        """
        self._parcel = parcel
        self._names = {name: (size, digest) for name, size, digest in parcel.files}
        for name in self._names:
            _checked(name)
        above, mine = place(parcel).parent, f".arriving-{platform.node()}-"
        with writing(above):
            above.mkdir(parents=True, exist_ok=True)
            for left in above.glob(f"{mine}*"):
                number = left.name.removeprefix(mine).partition("-")[0]
                if not number.isdecimal() or not psutil.pid_exists(int(number)):
                    shutil.rmtree(left, ignore_errors=True)
            self._folder = Path(tempfile.mkdtemp(dir=above, prefix=f"{mine}{os.getpid()}-"))

    def take(self, name: str, offset: int, data: bytes) -> None:
        """Writes a piece of a file.

        Raises:
            InputError: `fleet_parcel` for a file or bytes that were not announced.
            OutputError: `unwritable` or `disk_full`.
        """
        if name not in self._names or offset + len(data) > self._names[name][0]:
            raise InputError("fleet_parcel", name=name)
        path = self._folder / name
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("r+b" if path.exists() else "wb") as file:
                file.seek(offset)
                file.write(data)

    def end(self) -> None:
        """Verifies all files and moves them to their place.

        Raises:
            InputError: `fleet_parcel` for one that is not what was announced.
        """
        for name, (size, digest) in self._names.items():
            path = self._folder / name
            if not size and not path.exists():
                self.take(name, 0, b"")
            if not is_intact(path, size, digest):
                raise InputError("fleet_parcel", name=name)
        target = place(self._parcel)
        if is_dir(target) and not has(self._parcel):
            shutil.rmtree(target)
        if not is_dir(target):
            self._folder.replace(target)

    def leave(self) -> None:
        """Takes away what did not come to its place."""
        if hasattr(self, "_folder"):
            shutil.rmtree(self._folder, ignore_errors=True)


def _checked(name: str) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or not path.parts:
        raise InputError("fleet_parcel", name=name)


def pieces(parcel: Parcel) -> Sequence[tuple[str, int, int]]:
    """Returns name, offset and length of each piece of a parcel."""
    return [
        (name, offset, min(CHUNK, size - offset))
        for name, size, _ in parcel.files
        for offset in range(0, size, CHUNK)
    ]


def piece(parcel: Parcel, name: str, offset: int, length: int) -> bytes:
    """Reads a piece on the sender's machine.

    Raises:
        InputError: `fleet_parcel` where the file has changed since.
    """
    path = Path(parcel.root) / name
    if not is_file(path):
        raise InputError("fleet_parcel", name=name)
    try:
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read(length)
    except OSError as error:
        raise InputError("fleet_parcel", name=name) from error
    if len(data) != length:
        raise InputError("fleet_parcel", name=name)
    return data
