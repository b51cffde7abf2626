"""From a folder of trained weights to ONNX, with proof that it is the same model."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vozmetro import units
from vozmetro.audio import read, synthetic_speech
from vozmetro.errors import InputError, MeasurementError, MissingExtraError, ModelError
from vozmetro.measure.environment import available_ram, cores_allowed
from vozmetro.measure.memory import peak_rss
from vozmetro.models import checks
from vozmetro.models.convert import torch_export
from vozmetro.models.convert.builder import Precision, Scheme
from vozmetro.models.convert.decoder import DecoderShape, write_decoder
from vozmetro.models.convert.decoder_shape import FAMILIES
from vozmetro.models.convert.source import WeightSource
from vozmetro.models.convert.torch_export import Exported
from vozmetro.models.quantize.datafile import check_space, writing
from vozmetro.prepare import records
from vozmetro.prepare.failures import as_one_error
from vozmetro.prepare.parity_decoder import decoder_parity
from vozmetro.prepare.records import Conversion, Parity
from vozmetro.speech.corpus import DEFAULT_CORPUS, Utterance, load_corpus

Family = Literal["whisper", "decoder", "other"]
Listener = Callable[[str], None]
"""Told the phase: `writing`, `checking`, `optimizing`."""

PARITY_LAYERS = 2
"""Layers compared of a language model that does not fit in float32 beside its source."""
_BESIDE_A_LANGUAGE_MODEL = ("tokenizer.json",)
_BESIDE_A_WHISPER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
    "config.json",
)
_NOT_ALWAYS_WRITTEN = ("visual", "lm_head", "proj_out")
"""In names of weights: other towers, and heads that may be the table of tokens."""


@dataclass(frozen=True)
class Source:
    """A folder that can be converted.

    Attributes:
        folder: With the weights.
        family: Who writes its graph.
        format: `Hugging Face` or `CTranslate2`.
        config: Its `config.json`.
        files: Its weight files and configuration.
    """

    folder: Path
    family: Family
    format: str
    config: Mapping[str, Any]
    files: tuple[Path, ...]


@dataclass(frozen=True)
class Converted:
    """Where the model is, and the record beside it."""

    path: Path
    record: Conversion


def read_source(folder: Path) -> Source:
    """Recognizes what a folder holds.

    Raises:
        InputError: `convert_no_folder`.
        ModelError: `convert_source` where it holds neither safetensors nor a CTranslate2 Whisper,
            `convert_pickle` where it holds pickles only, `convert_config` for a damaged config,
            `convert_no_tokenizer` for a Whisper that could not say its words.
    """
    if not folder.is_dir():
        raise InputError("convert_no_folder", path=folder)
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except FileNotFoundError as error:
        raise ModelError("convert_source", path=folder) from error
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError("convert_config", path=folder / "config.json") from error
    if not isinstance(config, dict):
        raise ModelError("convert_config", path=folder / "config.json")
    described = [folder / name for name in _BESIDE_A_WHISPER if (folder / name).is_file()]
    weights = sorted(folder.glob("*.safetensors")) + sorted(folder.glob("*.safetensors.index.json"))
    if weights:
        kind = str(config.get("model_type", ""))
        family: Family = "other"
        if kind == "whisper":
            family = "whisper"
            _check_tokenizer(folder)
        elif kind in FAMILIES:
            family = "decoder"
        return Source(folder, family, "Hugging Face", config, (*weights, *described))
    if (folder / "model.bin").is_file():
        _check_tokenizer(folder)
        return Source(folder, "whisper", "CTranslate2", config, (folder / "model.bin", *described))
    pickles = [*folder.glob("pytorch_model*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth")]
    if pickles:
        raise ModelError("convert_pickle", path=folder, file=pickles[0].name)
    raise ModelError("convert_source", path=folder)


def _check_tokenizer(folder: Path) -> None:
    """Checks that it is there: without it a Whisper can be converted, but never used."""
    if not (folder / "tokenizer.json").is_file():
        raise ModelError("convert_no_tokenizer", path=folder)


def convert(
    folder: Path,
    output: Path,
    *,
    precision: Precision = "fp32",
    block: int = 128,
    parity: bool = True,
    optimize: bool = False,
    corpus: str | None = None,
    command: Sequence[str] = (),
    listen: Listener = lambda _: None,
) -> Converted:
    """Converts a folder, compares the result with its source, and writes the record beside it.

    Args:
        folder: Hugging Face (safetensors only) or CTranslate2.
        output: A folder, or the `.onnx` to write. A Whisper is two graphs and always a folder: of
            `X.onnx`, the folder `X`.
        precision: Of the linear weights.
        block: Inputs that share a scale, at `int4`.
        parity: Whether to compare; conversions from Hugging Face need the `convert` extra for it.
        optimize: Whether to let ONNX Runtime optimize offline, and measure what that gains.
        corpus: Real speech for the comparison of a model that listens; None for the packaged one.
        command: Command line, for the record.
        listen: Told about phases.

    Raises:
        VozmetroError: The source, an option, the disk or the comparison; nothing is left of it.
    """
    source = read_source(folder)
    scheme = Scheme(precision, block)
    if parity:
        _require_reference(source)
    if source.family == "other" and precision != "fp32":
        raise InputError("convert_other_precision", kind=source.config.get("model_type", "?"))
    path = _place(output, source)
    _check_free(path, source)
    # Found before hours of work are lost for want of it.
    waveforms = _speech(corpus) if parity and source.family != "decoder" else []
    check_space(path, _least_bytes(source, scheme))
    with _beside(path) as made:
        listen("writing")
        began = time.perf_counter()
        with writing(path):
            written, exported = _write(source, made, scheme, waveforms)
        seconds = time.perf_counter() - began
        peak = peak_rss()
        gained: dict[str, Any] = {}
        if optimize:
            from vozmetro.prepare.optimize import optimize_offline

            listen("optimizing")
            gained = optimize_offline(written)
        found: Parity | None = None
        skipped = _too_large(source, written) if parity else None
        if parity and skipped is None:
            listen("checking")
            # Of what is kept: the optimized graph, where it is the faster one.
            with as_one_error("parity_failed"):
                found = _parity(source, made, scheme, waveforms, exported)
        record = Conversion(
            created=records.now(),
            vozmetro=version("vozmetro"),
            command=list(command),
            versions=records.versions_of(["numpy", "onnx", "onnxruntime", "torch", "transformers"]),
            source=records.described(source.files),
            output=records.described(_with_data(written)),
            scheme=_said(scheme, source),
            seconds=round(seconds, 2),
            peak_rss=peak,
            parity=found,
            optimization=gained,
            report={"parity_skipped": skipped} if skipped else {},
        )
        records.save(record, made)
        _publish(made, path)
    return Converted(path, record)


def _check_free(path: Path, source: Source) -> None:
    """Refuses places where something is.

    Raises:
        InputError: `convert_taken`.
    """
    if path.suffix != ".onnx":
        if path.exists() and (path.is_file() or any(path.iterdir())):
            raise InputError("convert_taken", path=path)
        return
    for place in (path, path.with_name(f"{path.name}.data")):
        if place.exists():
            raise InputError("convert_taken", path=place)
    for name in _BESIDE_A_LANGUAGE_MODEL if source.family == "decoder" else ():
        mine, theirs = source.folder / name, path.with_name(name)
        # Another model's: with it either of the two would read and say the wrong words.
        if mine.is_file() and theirs.exists() and mine.read_bytes() != theirs.read_bytes():
            raise InputError("convert_taken", path=theirs)


def _least_bytes(source: Source, scheme: Scheme) -> int:
    """Bytes that will be written at the least."""
    if source.family == "other":
        return sum(file.stat().st_size for file in source.files if file.suffix == ".safetensors")
    weights = _weights(source)
    names = (n for n in weights.names() if not any(part in n for part in _NOT_ALWAYS_WRITTEN))
    count = sum(math.prod(weights.shape(name)) for name in names)
    return count * {"fp32": 8, "int8": 2, "int4": 1}[scheme.precision] // 2


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """Gives a place beside `path`, under a name of the same kind, and takes away what is left."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        yield scratch / path.name
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _publish(made: Path, path: Path) -> None:
    """Moves a finished model to its place: a folder at once, a graph after what it needs."""
    with writing(path):
        if made.is_dir():
            if path.exists():
                path.rmdir()  # empty, as was checked
            made.replace(path)
            return
        for file in sorted(made.parent.iterdir(), key=lambda file: file == made):
            file.replace(path.with_name(file.name))


def _too_large(source: Source, written: Sequence[Path]) -> dict[str, Any] | None:
    """Why a comparison would not fit in memory; None where it does.

    Of a language model a few layers always fit, and an export's source has run already.
    """
    if source.family == "decoder":
        return None
    graphs = [checks.check_onnx(graph).inspection for graph in written]
    needed = sum(graph.expected_ram for graph in graphs)
    if source.family == "whisper":
        needed += 4 * sum(graph.parameters or 0 for graph in graphs)
    available = available_ram()
    if needed <= available:
        return None
    fields = {"needed": units.size(needed), "available": units.size(available)}
    return {"code": "parity_memory", "fields": fields}


def _require_reference(source: Source) -> None:
    """Checks that what runs the source is there, before anything is written.

    Raises:
        MissingExtraError: With the install command.
    """
    if source.format == "Hugging Face":
        torch_export.require_torch()
        return
    try:
        import faster_whisper  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("whisper", "faster-whisper") from error


def _place(output: Path, source: Source) -> Path:
    if source.family == "whisper":
        return output.with_suffix("") if output.suffix == ".onnx" else output
    return output if output.suffix == ".onnx" else output / "model.onnx"


def _said(scheme: Scheme, source: Source) -> dict[str, str]:
    said = {"precision": scheme.precision, "source": source.format}
    if scheme.precision == "int4":
        said["block"] = str(scheme.block)
    return said


def _with_data(graphs: Sequence[Path]) -> list[Path]:
    """The graphs and the weights beside them."""
    data = [graph.with_name(f"{graph.name}.data") for graph in graphs]
    return [path for pair in zip(graphs, data, strict=True) for path in pair if path.is_file()]


def _weights(source: Source) -> WeightSource:
    if source.format == "CTranslate2":
        from vozmetro.models.convert.ctranslate2_source import CTranslate2Source

        return CTranslate2Source(source.folder)
    from vozmetro.models.convert.safetensors import SafetensorsSource

    return SafetensorsSource(source.folder)


def _speech(corpus: str | None) -> list[Utterance]:
    """Real speech that both models are given."""
    return load_corpus(corpus or DEFAULT_CORPUS)


def _write(
    source: Source, path: Path, scheme: Scheme, speech: Sequence[Utterance]
) -> tuple[list[Path], Exported | None]:
    """Writes the model; returns its graphs, and what an exporter compared with."""
    if source.family == "other":
        audio = read(speech[0].path) if speech else synthetic_speech(3.0)
        exported = torch_export.export(source.folder, path, audio)
        return [path], exported
    marks = {"vozmetro.source": source.folder.resolve().name}
    if source.family == "decoder":
        shape = DecoderShape.from_config(source.config)
        write_decoder(_weights(source), shape, path, scheme, marks)
        _copy(source, path.parent, _BESIDE_A_LANGUAGE_MODEL)
        return [path], None
    from vozmetro.models.convert.whisper import write_whisper

    write_whisper(_weights(source), source.config, path, scheme, marks)
    _copy(source, path, _BESIDE_A_WHISPER)
    return [path / "encoder.onnx", path / "decoder.onnx"], None


def _copy(source: Source, folder: Path, names: Sequence[str]) -> None:
    """Copies small files that the engine reads beside the weights."""
    for name in names:
        if (source.folder / name).is_file():
            shutil.copyfile(source.folder / name, folder / name)


def _parity(
    source: Source,
    path: Path,
    scheme: Scheme,
    speech: Sequence[Utterance],
    exported: Exported | None,
) -> Parity:
    """Compares what was written with its source."""
    threads = cores_allowed()
    if exported is not None:
        return _parity_of_export(exported, threads)
    if source.family == "whisper":
        from vozmetro.prepare.parity_whisper import whisper_parity

        return whisper_parity(path, source.folder, speech, threads)
    layers = _layers_that_fit(source)
    if not layers:
        return decoder_parity(path, source.folder, 0, threads)
    # The source does not fit in float32: as many layers as tell whether the formulas are right.
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".parity-") as scratch:
        shape = replace(DecoderShape.from_config(source.config), layers=layers)
        short = write_decoder(_weights(source), shape, Path(scratch) / "model.onnx", scheme, {})
        return decoder_parity(short, source.folder, layers, threads)


def _layers_that_fit(source: Source) -> int:
    """Returns 0 where the whole source fits in float32 beside our model, else how many layers."""
    stored = sum(file.stat().st_size for file in source.files if file.suffix == ".safetensors")
    # Mostly 16 bits a weight on disk; float32 in PyTorch, and once more while it loads.
    return 0 if 4 * stored < available_ram() else PARITY_LAYERS


def _parity_of_export(exported: Exported, threads: int) -> Parity:
    from vozmetro.engines.onnx_graph import OrtGraph
    from vozmetro.prepare.parity_decoder import parity_of

    graph = OrtGraph(exported.path, threads, {})
    names = [spec.name for spec in graph.outputs]
    found = dict(zip(names, graph.run(dict(exported.feeds)), strict=True))
    shared = [name for name in names if name in exported.reference]
    if not shared:
        raise MeasurementError("parity_failed", detail=f"outputs: {', '.join(names)}")
    pairs = [(found[name].ravel(), exported.reference[name].ravel()) for name in shared]
    return parity_of(
        np.concatenate([one for one, _ in pairs]),
        np.concatenate([one for _, one in pairs]),
        reference="transformers float32",
        said=", ".join(exported.feeds),
    )
