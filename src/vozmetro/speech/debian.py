"""Speech from Debian packages: downloaded by apt, not installed, and turned into WAV once."""

from __future__ import annotations

import gzip
import io
import re
import shutil
import subprocess
import tempfile
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vozmetro import packages
from vozmetro.errors import InputError, MissingExtraError, ModelError
from vozmetro.speech import deb

Pcm = NDArray[np.int16]

RATE = 16_000
"""Sample rate (Hz) of everything that is fetched."""
DOWNLOAD_LIMIT_S = 600
"""Longest that apt may take for one package, in seconds."""
_MOST_TRANSCRIPTS = 4 << 20  # bytes
_MOST_SOUND = 64 << 20  # bytes of one sound as it is packaged: over an hour at 64 kbit/s
_BRACKETS = re.compile(r"\[[^\]]*\]|\([^)]*\)|<[^>]*>")
_FILE = re.compile(r"(?P<package>[a-z0-9.+-]+)_(?P<version>[A-Za-z0-9.+~%-]+)_[a-z0-9]+\.deb")
_KEY = re.compile(r"[\w+-][\w+.-]*(?:/[\w+-][\w+.-]*)*")
"""Key of a sound: a path of plain names, none of which begins with a dot."""
_SPHINX = re.compile(r"<s>\s*(?P<text>.*?)\s*</s>\s*\((?P<id>\w[\w.-]*)\)")


@dataclass(frozen=True)
class Package:
    """A package as it was downloaded. `pinned`: its hash is the one in the catalogue."""

    package: str
    version: str
    sha256: str
    pinned: bool


@dataclass(frozen=True)
class Spoken:
    """One utterance: its id, what is said, and the sound at RATE."""

    id: str
    text: str
    samples: Pcm


def download(
    corpus: Mapping[str, Any], given: Path | None, into: Path, listen: Callable[[str], None]
) -> list[tuple[Path, Package]]:
    """Gets the packages of a corpus and checks those whose hash is known.

    A version that the catalogue does not know comes from another release of the distribution; apt
    has checked its signature, and its hash is recorded.

    Args:
        corpus: Its entry of `corpora.toml`.
        given: A folder with the packages, downloaded elsewhere; None asks apt.
        into: An empty folder for them.
        listen: Told the name of each package.

    Raises:
        InputError: `apt_missing`, `apt_failed`, or `deb_not_given`.
        ModelError: `corpus_package_damaged` for a known version with another hash.
    """
    found = []
    for entry in corpus["packages"]:
        name = entry["package"]
        listen(name)
        path = (
            _given(given, name, entry["version"])
            if given
            else _downloaded(name, corpus["name"], into)
        )
        match = _FILE.fullmatch(path.name)
        version = match["version"].replace("%3a", ":") if match else ""
        digest = packages.sha256(path)
        pinned = version == entry["version"]
        # What somebody hands over was checked by nobody.
        if (pinned or given) and digest != entry["sha256"]:
            wanted = entry["version"]
            raise ModelError("corpus_package_damaged", path=path, package=name, version=wanted)
        found.append((path, Package(name, version, digest, pinned)))
    return found


def _given(folder: Path, name: str, version: str) -> Path:
    """The package of the version that is known, or else any: its hash will tell."""
    matches = sorted(folder.glob(f"{name}_*.deb"))
    if not matches:
        raise InputError("deb_not_given", package=name, path=folder)
    return next((one for one in matches if one.name.startswith(f"{name}_{version}_")), matches[-1])


def _downloaded(name: str, corpus: str, into: Path) -> Path:
    apt = shutil.which("apt-get")
    if apt is None:
        raise InputError("apt_missing", package=name, corpus=corpus)
    try:
        done = subprocess.run(  # noqa: S603 - a fixed command, a name from our own catalogue
            [apt, "download", "-q", name],
            cwd=into,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=DOWNLOAD_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise InputError("apt_failed", package=name, corpus=corpus, detail="timeout") from error
    matches = sorted(into.glob(f"{name}_*.deb"))
    if done.returncode or not matches:
        lines = [line for line in done.stderr.splitlines() if line.startswith("E:")] or ["–"]
        raise InputError("apt_failed", package=name, corpus=corpus, detail=lines[0])
    return matches[-1]


def utterances(corpus: Mapping[str, Any], paths: Sequence[Path]) -> Iterator[Spoken]:
    """Yields the utterances of a corpus whose packages are here, in the order of their ids.

    Args:
        corpus: Its entry of `corpora.toml`; `layout` says how to read it.
        paths: Its packages, in the entry's order.

    Raises:
        ModelError: What a package holds is not what the entry says.
        MissingExtraError: G.722 needs the extra `quality`.
    """
    readers = {"asterisk": _asterisk, "sphinx": _sphinx}
    yield from readers[corpus["layout"]](corpus, paths)


def _asterisk(corpus: Mapping[str, Any], paths: Sequence[Path]) -> Iterator[Spoken]:
    sounds, texts = paths
    written = _only(texts, corpus["transcripts"])
    said = dict(transcripts(_unzipped(written, texts)))
    folder = corpus["sounds"]
    lowered = {key.lower() for key in said}

    def wanted(name: str) -> bool:
        return name.startswith(folder) and _key(name, folder).lower() in lowered

    found = {_key(name, folder): data for name, data in deb.files(sounds, wanted)}
    for key, text in sorted(matched(found, said).items()):
        yield Spoken(key, text, g722(found[key], sounds))


def matched(keys: Collection[str], said: Mapping[str, str]) -> dict[str, str]:
    """Returns what is said in each sound, by the sound's key.

    A text whose key differs in case alone (`digits/1f` of `digits/1F`) is taken where there is one
    such text and one such sound.

    Args:
        keys: Of the sounds.
        said: Texts by key.
    """
    found = {key: said[key] for key in keys if key in said}
    sounds = [key for key in keys if key not in found]
    texts = [key for key in said if key not in found]
    for key in sounds:
        same = [one for one in texts if one.lower() == key.lower()]
        alone = sum(one.lower() == key.lower() for one in sounds) == 1
        if len(same) == 1 and alone:
            found[key] = said[same[0]]
    return found


def _key(name: str, folder: str) -> str:
    return name.removeprefix(folder).removesuffix(".g722")


def transcripts(data: bytes) -> Iterator[tuple[str, str]]:
    """Yields keys and what is said, of a file of lines `key: text`.

    Lines with `;` are comments. What stands in brackets of any kind is a description, not said: it
    goes, and with it every sound of which nothing else is told. Of a key that comes twice the first
    counts.

    Args:
        data: UTF-8, what is not is replaced.
    """
    seen = set()
    for line in data.decode("utf-8-sig", "replace").splitlines():
        key, colon, text = line.partition(":")
        words = " ".join(_BRACKETS.sub(" ", text).split())
        plain = key.strip()
        usable = colon and not plain.startswith(";") and any(map(str.isalnum, words))
        if usable and _KEY.fullmatch(plain) and plain not in seen:
            seen.add(plain)
            yield plain, words


def _sphinx(corpus: Mapping[str, Any], paths: Sequence[Path]) -> Iterator[Spoken]:
    folder = corpus["sounds"]
    found = dict(deb.files(paths[0], lambda name: name.startswith(folder)))
    text = found.get(corpus["transcripts"], b"").decode("utf-8", "replace")
    for match in _SPHINX.finditer(text):
        data = found.get(f"{folder}{match['id']}.wav")
        if data is not None:
            yield Spoken(match["id"], match["text"], _wav(data, paths[0]))


def _wav(data: bytes, path: Path) -> Pcm:
    import soundfile

    try:
        samples, rate = soundfile.read(io.BytesIO(data), dtype="int16")
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise ModelError("deb_invalid", path=path, detail=str(error)[:200]) from error
    if rate != RATE or samples.ndim != 1:
        raise ModelError("deb_invalid", path=path, detail=f"{rate} Hz, {samples.ndim} channels")
    return np.asarray(samples, np.int16)


def g722(data: bytes, path: Path) -> Pcm:
    """Returns the sound of ITU-T G.722 data at 64 kbit/s, as int16 at 16 kHz, two samples a byte.

    Args:
        data: The bytes of a `.g722` file, which has no header.
        path: Where they come from, for errors.

    Raises:
        MissingExtraError: The decoder is not installed.
        ModelError: `deb_invalid` for a sound that is too long.
    """
    try:
        from G722 import G722
    except ImportError as error:
        raise MissingExtraError("quality", "g722") from error
    if len(data) > _MOST_SOUND:
        raise ModelError("deb_invalid", path=path, detail=f"> {_MOST_SOUND >> 20} MiB")
    return np.asarray(G722(RATE, 64_000).decode(data), np.int16)


def _only(path: Path, name: str) -> bytes:
    found = dict(deb.files(path, lambda one: one == name))
    if name not in found:
        raise ModelError("deb_invalid", path=path, detail=name)
    return found[name]


def _unzipped(data: bytes, path: Path) -> bytes:
    try:
        with gzip.open(io.BytesIO(data)) as file:
            text = file.read(_MOST_TRANSCRIPTS + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ModelError("deb_invalid", path=path, detail=str(error)[:200]) from error
    if len(text) > _MOST_TRANSCRIPTS:
        raise ModelError("deb_invalid", path=path, detail=f"> {_MOST_TRANSCRIPTS >> 20} MiB")
    return text


def workspace(stack: ExitStack) -> Path:
    """Returns an empty folder that goes when the stack is left."""
    return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vozmetro-corpus-")))
