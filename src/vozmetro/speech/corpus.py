"""Recorded utterances with what was said: a folder, a manifest, or a packaged corpus."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from heapq import heappop, heappush
from itertools import zip_longest
from pathlib import Path

from vozmetro import packages
from vozmetro.errors import InputError
from vozmetro.speech import fetched, known, layouts, manifest, packaged
from vozmetro.speech.manifest import MANIFEST_NAME

DEFAULT_CORPUS = "audioeval"
"""The packaged corpus that is used where none is named."""
SOUND_SUFFIXES = frozenset({".wav", ".flac"})
_LANGUAGE_FOLDER = re.compile(r"([a-z]{2})(?:[-_][A-Za-z]{2})?")


@dataclass(frozen=True)
class Utterance:
    """One recording and its reference transcript.

    Attributes:
        id: Unique within the corpus: its path there, without the suffix.
        path: The sound file.
        text: What is said in it.
        language: ISO 639 code, empty where unknown.
        seconds: Length.
        synthetic: Spoken by a machine: good for trying things out, no evidence of real speech.
        speaker: Who speaks, as the corpus names them; empty where unknown.
        corpus: Name of the corpus that it belongs to; empty for a folder.
    """

    id: str
    path: Path
    text: str
    language: str
    seconds: float
    synthetic: bool = False
    speaker: str = ""
    corpus: str = ""


def load_corpus(
    spec: str,
    languages: Sequence[str] = (),
    limit: int | None = None,
    *,
    listen: Callable[[str], None] = lambda _: None,
) -> list[Utterance]:
    """Returns the utterances of one or several corpora: Spanish first, then by language and id.

    Args:
        spec: A folder of WAV or FLAC files, each with a `.txt` of the same name (the language is
            the nearest folder named like `es` or `en-US`); a folder that holds `manifest.jsonl`; a
            manifest (one JSON object a line with `audio`, `text` and optionally `language` and
            `speaker`; paths are relative to it); `dir:` and any of these; a name of the catalogue
            (fetched where it is not here: naming it is asking for it); or one of the layouts of
            `layouts.SCHEMES`. Several are joined by commas; then each id begins with its corpus.
        languages: Codes to keep; empty for all.
        limit: Most utterances to return, taken from the languages in turn, and in a language in an
            order that has nothing to do with what is said: a fair sample, and part of any larger.
        listen: Told what is being downloaded.

    Raises:
        InputError: The corpus, a transcript or a recording is missing or unusable; the code says
            which.
        MissingExtraError: The packaged corpus is not installed.
        ModelError: The corpus is another version or damaged.
    """
    if limit is not None and limit < 1:
        raise InputError("limit_invalid", value=limit)
    sources = _all_sources(spec, listen)
    if not sources:
        raise InputError("corpus_empty", path=spec)
    kept = [source for source in sources if not languages or source.language in languages]
    if not kept:
        there = sorted({source.language or "–" for source in sources})
        raise InputError(
            "corpus_no_language", wanted=", ".join(languages), found=", ".join(there), path=spec
        )
    _check_unique(kept, spec)
    kept.sort(key=order)
    if limit is not None:
        kept = _in_turn(kept, limit)
    return [
        Utterance(
            s.id, s.audio, s.text, s.language, seconds_of(s.audio), s.synthetic, s.speaker, s.corpus
        )
        for s in kept
    ]


def open_sources(
    spec: str, *, listen: Callable[[str], None] = lambda _: None
) -> Callable[[], Iterator[manifest.Source]]:
    """Returns what yields the utterances of one or several corpora, as often as it is called.

    Manifests are read line by line: no list of them is ever in memory. Recordings are not opened.

    Args:
        spec: As for `load_corpus`.
        listen: Told what is being downloaded.

    Raises:
        InputError: As `load_corpus`.
        MissingExtraError: As `load_corpus`.
        ModelError: As `load_corpus`.
    """
    each = list(dict.fromkeys(parts(spec)))
    opened = [(part, _opened(part, listen)) for part in each]

    def sources() -> Iterator[manifest.Source]:
        for part, open_part in opened:
            for source in open_part():
                if len(each) == 1:
                    yield source
                else:
                    name = source.corpus or Path(part).name
                    yield replace(source, id=f"{name}/{source.id}")

    return sources


def _opened(part: str, listen: Callable[[str], None]) -> Callable[[], Iterator[manifest.Source]]:
    scheme, colon, rest = part.partition(":")
    path = Path(rest if colon and scheme == "dir" else part).expanduser()
    if part not in known.names() and not (colon and scheme in layouts.SCHEMES):
        listed = path / MANIFEST_NAME if packages.is_dir(path) else path
        if packages.is_file(listed):
            return lambda: (source for _, source in manifest.stream(listed))
    found = _sources(part, listen)
    return lambda: iter(found)


def fair_part(sources: Iterable[manifest.Source], limit: int) -> list[manifest.Source]:
    """Returns what `load_corpus` takes with this limit, without a list of all sources.

    Args:
        sources: In any order.
        limit: Most utterances, 1 or more.
    """
    first: dict[str, list[tuple[int, int, manifest.Source]]] = {}
    for number, source in enumerate(sources):
        heap = first.setdefault(source.language, [])
        # The heap gives the largest digest up first: it is the one to leave.
        rank = -int.from_bytes(sha256(source.id.encode()).digest())
        heappush(heap, (rank, number, source))
        if len(heap) > limit:
            heappop(heap)
    return _in_turn([source for heap in first.values() for _, _, source in heap], limit)


@dataclass(frozen=True)
class CorpusInfo:
    """Where speech came from, and how much of it was taken.

    Attributes:
        name: Of the corpus, or the words that named it.
        licence: SPDX-like name, empty where unknown.
        voice: `human` or `synthetic`, empty where unknown.
        source: Packages with their versions, or a hub's data set; empty for a folder.
        sha256: Over the digests of all its files, empty where they were not hashed.
        utterances: Taken from it.
        seconds: Of those.
    """

    name: str
    licence: str
    voice: str
    source: str
    sha256: str
    utterances: int
    seconds: float


def corpora_info(spec: str, utterances: Sequence[Utterance]) -> list[CorpusInfo]:
    """Returns where utterances came from, in their order.

    Args:
        spec: As `load_corpus` took it: folders carry no name of their own.
        utterances: What was taken.

    Raises:
        ModelError: `corpus_receipt` for a record that cannot be read.
    """
    taken: dict[str, Taken] = {}
    for one in utterances:
        before = taken.get(one.corpus, Taken())
        taken[one.corpus] = before + Taken(1, one.seconds, int(one.synthetic))
    return taken_info(spec, taken)


@dataclass(frozen=True)
class Taken:
    """How much was taken of a corpus.

    Attributes:
        utterances: How many.
        seconds: Of those.
        synthetic: How many of them a machine speaks.
    """

    utterances: int = 0
    seconds: float = 0.0
    synthetic: int = 0

    def __add__(self, other: Taken) -> Taken:
        return Taken(
            self.utterances + other.utterances,
            self.seconds + other.seconds,
            self.synthetic + other.synthetic,
        )


def taken_info(spec: str, taken: Mapping[str, Taken]) -> list[CorpusInfo]:
    """Returns where utterances came from.

    Args:
        spec: As `load_corpus` took it: folders carry no name of their own.
        taken: By name of the corpus, how much.

    Raises:
        ModelError: `corpus_receipt` for a record that cannot be read.
    """
    nameless = [part for part in parts(spec) if part not in known.names()]
    found = []
    for name, mine in taken.items():
        machine = mine.synthetic == mine.utterances
        facts = known.table().get(name, {})
        scheme, _, rest = name.partition(":")
        kept = layouts.hub_folder(rest) if scheme == "hub" else name
        record = fetched.receipt_of(kept) if facts or scheme == "hub" else None
        source = facts.get("source", "")
        if record is not None:
            came = [f"{one.package} {one.version}" for one in record.packages]
            source = ", ".join(came) or record.source
        found.append(
            CorpusInfo(
                name=name or ", ".join(nameless),
                licence=facts.get("licence", ""),
                voice=facts.get("voice", "synthetic" if machine else ""),
                source=source,
                sha256=record.sha256 if record else "",
                utterances=mine.utterances,
                seconds=round(mine.seconds, 3),
            )
        )
    return found


def parts(spec: str) -> list[str]:
    """Returns the corpora that a spec names; a comma in an existing path parts nothing."""
    path = Path(spec).expanduser()
    if packages.is_dir(path) or packages.is_file(path):
        return [spec]
    return [part.strip() for part in spec.split(",") if part.strip()] or [spec]


def _all_sources(spec: str, listen: Callable[[str], None]) -> list[manifest.Source]:
    each = parts(spec)
    if len(each) == 1:
        return _sources(each[0], listen)
    return [
        replace(source, id=f"{source.corpus or Path(part).name}/{source.id}")
        for part in dict.fromkeys(each)
        for source in _sources(part, listen)
    ]


def _sources(spec: str, listen: Callable[[str], None]) -> list[manifest.Source]:
    if spec in known.names():
        return [replace(source, corpus=spec) for source in _known(spec, listen)]
    scheme, colon, rest = spec.partition(":")
    if colon and scheme in layouts.SCHEMES:
        return layouts.SCHEMES[scheme](rest, listen)
    path = Path(rest if scheme == "dir" else spec).expanduser()
    if packages.is_dir(path):
        listed = path / MANIFEST_NAME
        return manifest.read(listed) if listed.is_file() else list(_folder(path))
    if not packages.is_file(path):
        raise InputError("corpus_missing", path=spec, names=", ".join(known.names()))
    return manifest.read(path)


def _known(name: str, listen: Callable[[str], None]) -> list[manifest.Source]:
    if not known.is_fetched(name):
        return packaged.sources(name)
    if fetched.receipt_of(name) is None:
        fetched.fetch(known.table()[name], listen=listen)
    return fetched.sources(name)


def _folder(root: Path) -> Iterable[manifest.Source]:
    """Yields every sound file below a folder with the transcript beside it."""
    for path in sorted(root.rglob("*")):
        if path.suffix.lower() not in SOUND_SUFFIXES or not path.is_file():
            continue
        inside = path.relative_to(root)
        yield manifest.Source(
            id=inside.with_suffix("").as_posix(),
            audio=path,
            text=_transcript(path.with_suffix(".txt"), path),
            language=_language([root.resolve().name, *inside.parts[:-1]]),
        )


def _transcript(path: Path, audio: Path) -> str:
    if not path.is_file():
        raise InputError("transcript_missing", path=path, audio=audio.name)
    try:
        text = " ".join(path.read_text(encoding="utf-8-sig").split())
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("transcript_unreadable", path=path) from error
    if not text:
        raise InputError("transcript_empty", path=path)
    return text


def _language(folders: Sequence[str]) -> str:
    """Returns the code that the innermost folder with a language's name stands for, or nothing."""
    matches = (_LANGUAGE_FOLDER.fullmatch(folder) for folder in reversed(folders))
    return next((match[1] for match in matches if match), "")


def _check_unique(sources: Iterable[manifest.Source], spec: str) -> None:
    seen: set[str] = set()
    for source in sources:
        if source.id in seen:
            raise InputError("corpus_duplicate", id=source.id, path=spec)
        seen.add(source.id)


def order(source: manifest.Source | Utterance) -> tuple[bool, str, str]:
    """Returns the key that utterances are sorted by: Spanish first, then by language and id."""
    return source.language != "es", source.language, source.id


def _in_turn(sources: Sequence[manifest.Source], limit: int) -> list[manifest.Source]:
    """Returns `limit` sources, one of each language in turn, so that none is left out for order."""
    groups: dict[str, list[manifest.Source]] = {}
    for source in sorted(sources, key=lambda one: sha256(one.id.encode()).digest()):
        groups.setdefault(source.language, []).append(source)
    # Spanish first here too, where the limit cuts a turn short.
    each = [groups[language] for language in sorted(groups, key=lambda one: (one != "es", one))]
    turns = [source for turn in zip_longest(*each) for source in turn if source]
    return sorted(turns[:limit], key=order)


def seconds_of(path: Path) -> float:
    """Returns a recording's length in seconds, from its header.

    Raises:
        InputError: `not_audio` or `empty_audio`.
    """
    import soundfile

    try:
        info = soundfile.info(path)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise InputError("not_audio", path=path, detail=error) from error
    if info.frames <= 0:
        raise InputError("empty_audio", path=path)
    return float(info.frames / info.samplerate)
