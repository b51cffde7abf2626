"""Corpora in layouts of others: Common Voice, LibriSpeech, and data sets of a hub."""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vozmetro import packages
from vozmetro.audio import Waveform, resample
from vozmetro.errors import InputError, MissingExtraError
from vozmetro.speech import debian, fetched
from vozmetro.speech.manifest import Source

HUB_MOST = 500
"""Utterances that are taken of a hub's data set."""
HUB_LONGEST_S = 120.0
"""Longest of them, in seconds; a longer one is refused, because a small file can hold hours."""
_MOST_CHANNELS = 8
_HUB_SPEC = re.compile(
    r"(?P<repo>\w[\w.-]*/\w[\w.-]*)(?:/(?P<config>[\w.-]+))?(?::(?P<split>[\w.-]+))?", re.ASCII
)
_TEXTS = ("transcription", "sentence", "text", "raw_transcription", "normalized_text")
_SPEAKERS = ("speaker_id", "client_id", "speaker")
_LANGUAGE = re.compile(r"([a-z]{2,3})(?:[_-]\w+)*", re.IGNORECASE)


def common_voice(place: str, _: Callable[[str], None]) -> list[Source]:
    """Returns the utterances of a Common Voice table: `path`, `sentence`, `client_id`, `locale`.

    Args:
        place: The `.tsv`; recordings lie in `clips/` beside it.

    Raises:
        InputError: `corpus_missing`, `layout_invalid`, or `manifest_audio_missing`.
    """
    path = Path(place).expanduser()
    if not packages.is_file(path):
        raise InputError("corpus_missing", path=place, names=".tsv")
    found = []
    clips = path.parent / "clips"
    for number, row in _rows(path):
        name, text = (row.get(key) or "" for key in ("path", "sentence"))
        words = " ".join(text.split())
        if not name or not words:
            raise InputError("layout_invalid", path=path, line=number, detail="path, sentence")
        audio = clips / name
        if not _inside(audio, clips):
            raise InputError("layout_invalid", path=path, line=number, detail=name)
        if not packages.is_file(audio):
            raise InputError("manifest_audio_missing", path=path, line=number, audio=audio)
        locale = _LANGUAGE.fullmatch(row.get("locale") or "")
        found.append(
            Source(
                id=Path(name).with_suffix("").as_posix(),
                audio=audio,
                text=words,
                language=locale[1].lower() if locale else "",
                speaker=(row.get("client_id") or "")[:64],
                corpus=f"commonvoice:{path.parent.name}/{path.stem}",
            )
        )
    return found


def _rows(path: Path) -> Iterator[tuple[int, Mapping[str, str]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            # The tables quote nothing: a quotation mark is a character of the sentence.
            reader = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            if not {"path", "sentence"} <= set(reader.fieldnames or ()):
                raise InputError("layout_invalid", path=path, line=1, detail="path, sentence")
            yield from enumerate(reader, 2)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError("manifest_unreadable", path=path) from error


def librispeech(place: str, _: Callable[[str], None]) -> list[Source]:
    """Returns the utterances of folders SPEAKER/CHAPTER with `.flac` files and a `.trans.txt`.

    Args:
        place: The folder above the speakers.

    Raises:
        InputError: `corpus_missing`, `manifest_unreadable`, or `layout_invalid`.
    """
    root = Path(place).expanduser()
    if not packages.is_dir(root):
        raise InputError("corpus_missing", path=place, names="librispeech:")
    found = []
    for table in sorted(root.rglob("*.trans.txt")):
        try:
            lines = table.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError("manifest_unreadable", path=table) from error
        for number, line in enumerate(lines, 1):
            key, _space, text = line.strip().partition(" ")
            if not key:
                continue
            audio = table.parent / f"{key}.flac"
            if not text.split() or not _inside(audio, table.parent):
                raise InputError("layout_invalid", path=table, line=number, detail="ID TEXT")
            if not packages.is_file(audio):
                raise InputError("manifest_audio_missing", path=table, line=number, audio=audio)
            inside = audio.with_suffix("").relative_to(root).as_posix()
            speaker = key.split("-")[0]
            found.append(
                Source(inside, audio, " ".join(text.split()), "en", speaker=speaker,
                       corpus=f"librispeech:{root.name}")
            )  # fmt: skip
    return found


def hub(place: str, listen: Callable[[str], None], *, refresh: bool = False) -> list[Source]:
    """Returns utterances of a hub's data set, streamed once into the cache.

    Its table must hold the sound files themselves, in a column `audio`, as Parquet does.

    Args:
        place: `OWNER/NAME`, `OWNER/NAME/CONFIG`, either with `:SPLIT` (`test` by default).
        listen: Told what is being downloaded.
        refresh: Gets it anew.

    Raises:
        InputError: `hub_corpus_spec` or `hub_corpus_failed`.
        MissingExtraError: The package `datasets` is not installed.
    """
    known = _HUB_SPEC.fullmatch(place)
    if known is None:
        raise InputError("hub_corpus_spec", spec=place)
    repo, config, split = known["repo"], known["config"], known["split"] or "test"
    name = hub_folder(place)
    if refresh or fetched.receipt_of(name) is None:
        try:
            from datasets import Value, load_dataset
        except ImportError as error:
            raise MissingExtraError("datasets", "datasets") from error
        listen(repo)
        try:
            rows = load_dataset(repo, config, split=split, streaming=True)
            # As they are stored: the library's own decoder would need torch.
            stored = {"bytes": Value("binary"), "path": Value("string")}
            rows = rows.cast_column("audio", stored)
            fetched.keep(name, _taken(rows, config or ""), source=f"hub:{place}")
        except InputError:
            raise
        except Exception as error:  # whatever the hub, its client or its files raise
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise InputError("hub_corpus_failed", spec=place, detail=lines[0][:200]) from error
    return [replace(source, corpus=f"hub:{place}") for source in fetched.sources(name)]


def hub_folder(place: str) -> str:
    """Returns the name in the cache of what `hub:` and these words stand for."""
    plain = re.sub(r"[^\w.-]", "-", place)[:80]
    return f"hub-{plain}-{hashlib.sha256(place.encode()).hexdigest()[:8]}"


def _taken(rows: Any, config: str) -> Iterator[tuple[str, debian.Pcm, Mapping[str, str]]]:
    """The first utterances of a data set with words, as the cache keeps them."""
    for number, row in enumerate(itertools.islice(rows, HUB_MOST)):
        text = next((row[key] for key in _TEXTS if isinstance(row.get(key), str)), "")
        if not text.split():
            continue
        speaker = next((str(row[key])[:64] for key in _SPEAKERS if key in row), "")
        tag = _LANGUAGE.fullmatch(str(row.get("locale") or config))
        language = tag[1].lower() if tag else ""
        fields = {"text": " ".join(text.split()), "language": language, "speaker": speaker}
        yield f"{number:06d}", _pcm(row["audio"]), fields


def _pcm(audio: Mapping[str, Any]) -> debian.Pcm:
    import soundfile

    data = io.BytesIO(audio["bytes"])
    about = soundfile.info(data)
    if about.duration > HUB_LONGEST_S or about.channels > _MOST_CHANNELS:
        raise ValueError(f"{about.duration:.0f} s, {about.channels} channels")
    data.seek(0)
    samples, rate = soundfile.read(data, dtype="float32", always_2d=True)
    mono = resample(Waveform(samples.mean(axis=1, dtype=np.float32), int(rate)), debian.RATE)
    return (np.clip(np.nan_to_num(mono.samples), -1, 1) * 32_767).astype(np.int16)


def _inside(path: Path, folder: Path) -> bool:
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError):
        return False


SCHEMES: Mapping[str, Callable[[str, Callable[[str], None]], list[Source]]] = {
    "commonvoice": common_voice,
    "librispeech": librispeech,
    "hub": hub,
}
"""Layouts by the word before the colon in `--corpus`."""
