"""Manifests: one JSON object a line, with `audio`, `text`, and perhaps `language`, `speaker`."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vozmetro import packages
from vozmetro.errors import InputError

MANIFEST_NAME = "manifest.jsonl"
"""Name of a manifest in the folder that it is about."""
_MOST_NAME = 200  # characters
_MOST_LINE = 1 << 20  # characters
_LANGUAGE = re.compile(r"([a-z]{2,3})(?:[-_][a-z0-9]+)*", re.IGNORECASE)


@dataclass(frozen=True)
class Source:
    """An utterance before its recording was opened; fields as in `Utterance`."""

    id: str
    audio: Path
    text: str
    language: str
    synthetic: bool = False
    speaker: str = ""
    corpus: str = ""


def read(path: Path) -> list[Source]:
    """Returns the utterances of a manifest, in its order. Blank lines are skipped.

    Raises:
        InputError: `manifest_unreadable`, `manifest_line` or `manifest_audio_missing`; the last
            two carry the line's number.
    """
    sources = []
    for number, source in stream(path):
        if not packages.is_file(source.audio):
            raise InputError("manifest_audio_missing", path=path, line=number, audio=source.audio)
        sources.append(source)
    return sources


def stream(path: Path) -> Iterator[tuple[int, Source]]:
    """Yields the utterances of a manifest with their lines' numbers, one line in memory at a time.

    Whether there are such recordings is not looked at.

    Raises:
        InputError: `manifest_unreadable` or `manifest_line`.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number in itertools.count(1):
                line = file.readline(_MOST_LINE)
                if not line:
                    return
                if len(line) == _MOST_LINE:
                    raise InputError("manifest_line", path=path, line=number, detail="> 1 MiB")
                if line.strip():
                    yield number, parse_line(line, path, number)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("manifest_unreadable", path=path) from error


def parse_line(line: str, path: Path, number: int) -> Source:
    """Returns one line's utterance; audio paths are relative to the manifest or absolute.

    Args:
        line: One JSON object.
        path: The manifest, for relative paths and for errors.
        number: The line's number, counted from 1.

    Raises:
        InputError: `manifest_line`, with what is wrong with it.
    """

    def invalid(detail: str) -> InputError:
        return InputError("manifest_line", path=path, line=number, detail=detail)

    try:
        entry = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise invalid("JSON") from error
    if not isinstance(entry, dict):
        raise invalid("{…}")
    audio, text, language, speaker = (
        entry.get(key, "") for key in ("audio", "text", "language", "speaker")
    )
    # NUL cannot be part of a path; everything else is for the file system to say.
    if not isinstance(audio, str) or not audio.strip() or "\0" in audio:
        raise invalid("audio")
    if not isinstance(text, str) or not text.split():
        raise invalid("text")
    tag = _LANGUAGE.fullmatch(language) if isinstance(language, str) else None
    if language != "" and tag is None:
        raise invalid("language")
    if not isinstance(speaker, str) or len(speaker) > _MOST_NAME:
        raise invalid("speaker")
    # Half of a surrogate pair is no character, and cannot be written down again.
    for name, value in (("audio", audio), ("text", text), ("speaker", speaker)):
        if any("\ud800" <= sign <= "\udfff" for sign in value):
            raise invalid(name)
    return Source(
        id=audio.removesuffix(Path(audio).suffix).replace("\\", "/"),
        audio=path.parent / audio,
        text=" ".join(text.split()),
        language=tag[1].lower() if tag else "",
        speaker=" ".join(speaker.split()),
    )
