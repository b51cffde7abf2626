"""From a name or a path to a verified model: files, hashes, engine and inspection."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from vozmetro import packages
from vozmetro.errors import InputError, ModelError
from vozmetro.models import assemble, checks, ctranslate2, dummy_name, profile, receipt, safety
from vozmetro.models.catalogue import Entry, Task, catalogue
from vozmetro.models.checks import check_fits, claim_note, parse_parameters
from vozmetro.models.converted import converted_folder
from vozmetro.models.inspection import Inspection, Port

__all__ = [
    "Inspection",
    "ModelRef",
    "Port",
    "check_fits",
    "claim_note",
    "parse_parameters",
    "resolve",
    "split_options",
]

PIPER_PREFIXES = {"piper:": "piper", "piper-onnx:": "piper-onnx"}
"""Written before a voice's path: speak with it on that engine, instead of timing the bare graph."""
WHISPER_GRAPHS = ("encoder.onnx", "decoder.onnx")
"""What a folder with a Whisper for ONNX Runtime holds."""
_OPTIONS = re.compile(r"(?P<name>.+)@(?P<options>[\w.]+=[^,@]*(?:,[\w.]+=[^,@]*)*)")


@dataclass(frozen=True)
class ModelRef:
    """A model that exists, is intact, and can be handed to an engine.

    Attributes:
        name: As the user named it.
        task: `graph`, `stt`, `tts` or `lm` (language model).
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

    A path is an `.onnx` file (a language model where it says so or has its ports), a Whisper folder
    (`encoder.onnx` and `decoder.onnx`, or CTranslate2's `model.bin`; and `config.json`), or
    `piper:VOICE.onnx` for a Piper voice with its `VOICE.onnx.json` beside it, `piper-onnx:` for the
    same on the engine that starts to speak sooner.
    `dummy:ARCHITECTURE:PRECISION` is that architecture with random weights. Engine options may
    follow: `PATH@context=1.0,other=2`; the option `profile` stands for those in a file, `tuned` for
    the one that `vozmetro tune` wrote.

    Raises:
        InputError: `unknown_subject`, `not_a_model`, `profile_missing` or `profile_invalid`.
        MissingExtraError: The model's data package is not installed.
        ModelError: The file is missing, damaged or unsafe; the code says how.
    """
    bare, options = split_options(name)
    model = _resolve(bare)
    if not options:
        return model
    if profile.OPTION in options:
        options = profile.read(bare, options.pop(profile.OPTION)) | options
    return replace(model, name=name, options={**model.options, **options})


def split_options(words: str) -> tuple[str, dict[str, str]]:
    """Returns a subject's name and the engine options written behind it.

    `model.onnx@context=1.0` is the name `model.onnx` and the option `context`. No character of it
    means anything to a shell. A file that is called so goes before the options.
    """
    found = _OPTIONS.fullmatch(words)
    if found is None or packages.is_file(Path(words)) or packages.is_dir(Path(words)):
        return words, {}
    pairs = (part.partition("=") for part in found["options"].split(","))
    return found["name"], {key: value for key, _, value in pairs}


def _resolve(name: str) -> ModelRef:
    entry = catalogue().get(name)
    if entry is not None:
        return _from_catalogue(entry)
    if dummy_name.is_dummy(name):
        return _dummy(name)
    for prefix, engine in PIPER_PREFIXES.items():
        if name.startswith(prefix):
            return _piper(name, Path(name.removeprefix(prefix)).expanduser(), engine)
    path = Path(name).expanduser()
    if packages.is_dir(path):
        if all(packages.is_file(path / graph) for graph in WHISPER_GRAPHS):
            return _whisper_onnx(name, path)
        return _whisper(name, path)
    if path.suffix.lower() == ".onnx":
        return _graph(name, path)
    if packages.is_file(path):
        raise InputError("not_a_model", path=path)
    near = difflib.get_close_matches(name, catalogue(), n=3, cutoff=0.4)
    raise InputError("unknown_subject", name=name, near=", ".join(near or catalogue()))


def _from_catalogue(entry: Entry) -> ModelRef:
    if entry.converted_from:
        folder = converted_folder(entry, catalogue()[entry.converted_from])
        found = _whisper_onnx(entry.name, folder)
        return replace(found, languages=entry.languages, extra=entry.extra)
    folder, files = assemble.verified(entry)
    path = folder if entry.path == "." else folder / entry.path
    inspection = ctranslate2.inspect(path) if path.is_dir() else checks.check_onnx(path).inspection
    return ModelRef(
        name=entry.name,
        task=entry.task,
        engine=entry.engine,
        path=path,
        languages=entry.languages,
        files=files,
        inspection=inspection,
        options=entry.options,
        extra=entry.extra,
    )


def _graph(name: str, path: Path) -> ModelRef:
    checked = checks.check_onnx(path)
    files = _described([path, *checked.external])
    if is_language_model(checked.inspection):
        return ModelRef(name, "lm", "language-model", path, (), files, checked.inspection)
    return ModelRef(name, "graph", "onnx", path, (), files, checked.inspection)


def is_language_model(inspection: Inspection) -> bool:
    """Returns whether a graph is a language model: by what it says of itself, else by its ports."""
    said = inspection.marks.get("vozmetro.task")
    if said:
        return said == "language-model"
    names = [port.name for port in inspection.inputs]
    cached = any(name.startswith("past_key_values.") for name in names)
    # A decoder that also reads an encoder's output is half of something else.
    alone = not any(re.match(r"cross\.|encoder_", name) for name in names)
    logits = any(port.name == "logits" for port in inspection.outputs)
    return cached and alone and logits and "input_ids" in names


def _dummy(name: str) -> ModelRef:
    """Makes a model with random weights, or finds it made.

    Raises:
        InputError: `dummy_parts` for one that no single engine runs.
    """
    dummy = dummy_name.parse(name)
    if len(dummy.components) != 1:
        raise InputError("dummy_parts", name=name, parts=", ".join(dummy.components))
    (path,) = dummy_name.built(dummy, dummy.components).values()
    return replace(_whisper_onnx(name, path) if path.is_dir() else _graph(name, path), name=name)


def _piper(name: str, path: Path, engine: str) -> ModelRef:
    checked = checks.check_onnx(path)
    config = path.with_name(path.name + ".json")
    if not packages.is_file(config):
        raise ModelError("file_missing", path=config)
    try:
        spoken = str((safety.read_json(config) or {})["espeak"]["voice"])
    except (KeyError, TypeError) as error:
        raise ModelError("voice_config_invalid", path=config) from error
    files = _described([path, config, *checked.external])
    language = spoken.replace("_", "-").split("-")[0]
    return ModelRef(
        name, "tts", engine, path, (language,), files, checked.inspection, extra="piper"
    )


def _whisper_onnx(name: str, path: Path) -> ModelRef:
    parts = [checks.check_onnx(path / graph) for graph in WHISPER_GRAPHS]
    # Random weights say no words, so that they come without a tokenizer.
    dummy = all(part.inspection.weights == "dummy" for part in parts)
    needed = ("config.json",) if dummy else ("config.json", "tokenizer.json")
    missing = [part for part in needed if not (path / part).is_file()]
    if missing:
        raise ModelError("not_whisper_onnx", path=path, missing=", ".join(missing))
    graphs = [path / graph for graph in WHISPER_GRAPHS]
    data = [file for part in parts for file in part.external]
    config = path / "config.json"
    files = [*graphs, *dict.fromkeys(data), *(path / part for part in needed)]
    return ModelRef(
        name,
        "stt",
        "whisper-onnx",
        path,
        _whisper_languages(config),
        _described(files),
        _joined([part.inspection for part in parts]),
        extra="stt",
    )


def _whisper_languages(config: Path) -> tuple[str, ...]:
    """Languages by a Whisper's configuration; empty for all that Whisper knows."""
    table = safety.read_json(config)
    if table is None:
        raise ModelError("whisper_config_invalid", path=config)
    named, size = table.get("languages"), table.get("vocab_size")
    if isinstance(named, list) and all(isinstance(one, str) for one in named):
        return tuple(named)
    return ("en",) if size == ctranslate2.WHISPER_ENGLISH_VOCABULARY else ()


def _joined(parts: Sequence[Inspection]) -> Inspection:
    """Returns several graphs that are loaded together as one model."""
    largest = max(parts, key=lambda part: part.weight_bytes)
    by_label: dict[str, int] = {}
    for part in parts:
        for label, size in part.bytes_by_dtype.items():
            by_label[label] = by_label.get(label, 0) + size
    # The program itself is loaded once.
    shared = sum(part.overhead for part in parts) - largest.overhead
    return replace(
        largest,
        parameters=sum(part.parameters or 0 for part in parts),
        bytes_by_dtype=by_label,
        weight_bytes=sum(part.weight_bytes for part in parts),
        expected_ram=sum(part.expected_ram for part in parts) - shared,
        inputs=parts[0].inputs,
        outputs=parts[-1].outputs,
        weights="dummy" if any(part.weights == "dummy" for part in parts) else "real",
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
    found = tuple((file, file.stat().st_size, packages.sha256(file)) for file in files)
    receipt.check(found)
    return found
