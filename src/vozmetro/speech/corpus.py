"""Recorded utterances with what was said: a folder, a manifest, or a packaged corpus."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from vozmetro import packages
from vozmetro.errors import InputError
from vozmetro.speech import manifest, packaged

DEFAULT_CORPUS = "audioeval"
"""The packaged corpus that is used where none is named."""
SOUND_SUFFIXES = frozenset({".wav", ".flac"})
MANIFEST_NAME = "manifest.jsonl"
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
    spec: str, languages: Sequence[str] = (), limit: int | None = None
) -> list[Utterance]:
    """Returns the utterances of a corpus: Spanish first, then by language and id.

    Args:
        spec: A folder of WAV or FLAC files, each with a `.txt` of the same name (the language is
            the nearest folder named like `es` or `en-US`); a folder that holds `manifest.jsonl`; a
            manifest (one JSON object a line with `audio`, `text` and optionally `language`; paths
            are relative to it); or the name of a packaged corpus.
        languages: Codes to keep; empty for all.
        limit: Most utterances to return, taken from the languages in turn.

    Raises:
        InputError: The corpus, a transcript or a recording is missing or unusable; the code says
            which.
        MissingExtraError: The packaged corpus is not installed.
        ModelError: The packaged corpus is another version or damaged.
    """
    if limit is not None and limit < 1:
        raise InputError("limit_invalid", value=limit)
    sources = _sources(spec)
    if not sources:
        raise InputError("corpus_empty", path=spec)
    kept = [source for source in sources if not languages or source.language in languages]
    if not kept:
        there = sorted({source.language or "–" for source in sources})
        raise InputError(
            "corpus_no_language", wanted=", ".join(languages), found=", ".join(there), path=spec
        )
    _check_unique(kept, spec)
    kept.sort(key=_order)
    if limit is not None:
        kept = _in_turn(kept, limit)
    return [
        Utterance(s.id, s.audio, s.text, s.language, _seconds(s.audio), s.synthetic) for s in kept
    ]


def _sources(spec: str) -> list[manifest.Source]:
    if spec in packaged.names():
        return packaged.sources(spec)
    path = Path(spec).expanduser()
    if packages.is_dir(path):
        listed = path / MANIFEST_NAME
        return manifest.read(listed) if listed.is_file() else list(_folder(path))
    if not packages.is_file(path):
        raise InputError("corpus_missing", path=spec, names=", ".join(packaged.names()))
    return manifest.read(path)


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


def _order(source: manifest.Source) -> tuple[bool, str, str]:
    return source.language != "es", source.language, source.id


def _in_turn(sources: Sequence[manifest.Source], limit: int) -> list[manifest.Source]:
    """Returns `limit` sources, one of each language in turn, so that none is left out for order."""
    groups: dict[str, list[manifest.Source]] = {}
    for source in sources:
        groups.setdefault(source.language, []).append(source)
    turns = [source for turn in zip_longest(*groups.values()) for source in turn if source]
    return sorted(turns[:limit], key=_order)


def _seconds(path: Path) -> float:
    """Returns a recording's length from its header."""
    import soundfile

    try:
        info = soundfile.info(path)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise InputError("not_audio", path=path, detail=error) from error
    if info.frames <= 0:
        raise InputError("empty_audio", path=path)
    return float(info.frames / info.samplerate)
