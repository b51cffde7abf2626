"""From a name or a path to a verified model: files, hashes, engine and inspection."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vozmetro import packages
from vozmetro.errors import InputError, ModelError
from vozmetro.models import assemble, checks, ctranslate2
from vozmetro.models.catalogue import Entry, Task, catalogue
from vozmetro.models.checks import check_fits, claim_note, parse_parameters
from vozmetro.models.inspection import Inspection, Port

__all__ = [
    "Inspection",
    "ModelRef",
    "Port",
    "check_fits",
    "claim_note",
    "parse_parameters",
    "resolve",
]

PIPER_PREFIX = "piper:"
"""Written before a voice's path: speak with it, instead of timing the bare graph."""


@dataclass(frozen=True)
class ModelRef:
    """A model that exists, is intact, and can be handed to an engine.

    Attributes:
        name: As the user named it.
        task: `graph`, `stt` or `tts`.
        engine: Registry name of the engine that runs it.
        path: What the engine is given, a file or a folder.
        languages: ISO 639 codes that it serves; empty for any or not applicable.
        files: Path, bytes and SHA-256 of every file, external data included.
        options: Engine options, as text.
        inspection: What the file says about itself.
        extra: The extra of vozmetro that installs what it needs; empty if the core does.
    """

    name: str
    task: Task
    engine: str
    path: Path
    languages: tuple[str, ...]
    files: tuple[tuple[Path, int, str], ...]
    inspection: Inspection
    options: Mapping[str, str] = field(default_factory=dict)
    extra: str = ""


def resolve(name: str) -> ModelRef:
    """Returns the model behind a catalogue name or a path.

    A path is an `.onnx` file, a CTranslate2 Whisper folder (`model.bin` and `config.json`), or
    `piper:VOICE.onnx` for a Piper voice with its `VOICE.onnx.json` beside it.

    Raises:
        InputError: `unknown_subject`.
        MissingExtraError: The model's data package is not installed.
        ModelError: The file is missing, damaged or unsafe; the code says how.
    """
    entry = catalogue().get(name)
    if entry is not None:
        return _from_catalogue(entry)
    if name.startswith(PIPER_PREFIX):
        return _piper(name, Path(name.removeprefix(PIPER_PREFIX)).expanduser())
    path = Path(name).expanduser()
    if packages.is_dir(path):
        return _whisper(name, path)
    if path.suffix.lower() == ".onnx":
        return _graph(name, path)
    if packages.is_file(path):
        raise InputError("not_a_model", path=path)
    near = difflib.get_close_matches(name, catalogue(), n=3, cutoff=0.4)
    raise InputError("unknown_subject", name=name, near=", ".join(near or catalogue()))


def _from_catalogue(entry: Entry) -> ModelRef:
    folder = assemble.model_folder(entry)
    path = folder if entry.path == "." else folder / entry.path
    inspection = ctranslate2.inspect(path) if path.is_dir() else checks.check_onnx(path).inspection
    return ModelRef(
        name=entry.name,
        task=entry.task,
        engine=entry.engine,
        path=path,
        languages=entry.languages,
        # model_folder has just checked these figures against the files.
        files=tuple((folder / f.name, f.bytes, f.sha256) for f in entry.files),
        inspection=inspection,
        options=entry.options,
        extra=entry.extra,
    )


def _graph(name: str, path: Path) -> ModelRef:
    checked = checks.check_onnx(path)
    files = _described([path, *checked.external])
    return ModelRef(name, "graph", "onnx", path, (), files, checked.inspection)


def _piper(name: str, path: Path) -> ModelRef:
    checked = checks.check_onnx(path)
    config = path.with_name(path.name + ".json")
    try:
        voice = json.loads(config.read_bytes())
        spoken = str(voice["espeak"]["voice"])
    except FileNotFoundError as error:
        raise ModelError("file_missing", path=config) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError("voice_config_invalid", path=config) from error
    files = _described([path, config, *checked.external])
    language = spoken.replace("_", "-").split("-")[0]
    return ModelRef(
        name, "tts", "piper", path, (language,), files, checked.inspection, extra="piper"
    )


def _whisper(name: str, path: Path) -> ModelRef:
    # Without its tokenizer, faster-whisper would fetch one from the hub.
    needed = ("model.bin", "config.json", "tokenizer.json")
    missing = [part for part in needed if not (path / part).is_file()]
    if missing:
        raise ModelError("not_ctranslate2", path=path, missing=", ".join(missing))
    inspection = ctranslate2.inspect(path)
    languages = ("en",) if inspection.english_only else ()
    files = [f for f in sorted(path.iterdir()) if f.suffix in {".bin", ".json", ".txt"}]
    return ModelRef(
        name,
        "stt",
        "faster-whisper",
        path,
        languages,
        _described(files),
        inspection,
        extra="whisper",
    )


def _described(files: list[Path]) -> tuple[tuple[Path, int, str], ...]:
    return tuple((file, file.stat().st_size, packages.sha256(file)) for file in files)
