"""Models with the exact architecture of others and random weights: `vozmetro models dummy`.

What such a model says means nothing, and every file of it is marked `weights: dummy` with its seed,
its depth and the hash of the architecture. Its speed is that of the model, see `DummySource`.
"""

from __future__ import annotations

import copy
import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from vozmetro import packages, units
from vozmetro.errors import InputError, ModelError, OutputError
from vozmetro.models import architectures, converted, safety, tensors
from vozmetro.models.architectures import Architecture
from vozmetro.models.convert.builder import Precision, Scheme
from vozmetro.models.convert.dummy_source import DummySource
from vozmetro.models.fetched import SPARE_BYTES

__all__ = ["DummySource", "write"]

Listener = Callable[[str, int, int], None]
"""Told what is being written, weights made so far, and weights in all."""
RECORD = "dummy.json"
SCHEMA_VERSION = 1
_DEPTHS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "qwen3_vl": (("text_config", "num_hidden_layers"),),
    "whisper": (("encoder_layers",), ("decoder_layers",)),
    "qwen3_omni_moe": (
        ("thinker_config", "text_config", "num_hidden_layers"),
        ("thinker_config", "audio_config", "encoder_layers"),
        ("talker_config", "text_config", "num_hidden_layers"),
        ("talker_config", "code_predictor_config", "num_hidden_layers"),
        ("code2wav_config", "num_hidden_layers"),
    ),
}
"""Where configurations say how many layers there are."""
_WEIGHTS: Mapping[str, tuple[str, ...]] = {
    "thinker": ("thinker", "thinker_head"),
    "talker": ("talker", "talker_projection"),
    "code_predictor": ("code_predictor", "talker"),
}
"""Whose tensors a graph is made of, where it is not the component of its name alone."""
_BORROWED = "talker.model.codec_embedding.weight"
"""All that the code predictor needs of the talker: it looks codes up for both."""


@dataclass
class _Job:
    """One model to write, and what of it has been written."""

    architecture: Architecture
    scheme: Scheme
    layers: int | None
    seed: int
    folder: Path
    record: Path
    listen: Listener
    config: dict[str, Any] = field(init=False)
    made: int = 0
    total: int = 0

    def __post_init__(self) -> None:
        self.config = _truncated(self.architecture.config, self.layers)

    @property
    def identity(self) -> dict[str, Any]:
        """What must be equal for a model found on disk to be this one."""
        return {
            "type": "dummy",
            "schema_version": SCHEMA_VERSION,
            "writer_sha256": converted.writer(),
            "architecture": self.architecture.name,
            "architecture_sha256": self.architecture.sha256,
            "precision": self.scheme.precision,
            "block": self.scheme.block,
            "layers": self.layers,
            "seed": self.seed,
        }

    @property
    def marks(self) -> dict[str, str]:
        """Metadata of every file."""
        return {
            "weights": "dummy",
            "vozmetro.source": "dummy",
            "vozmetro.seed": str(self.seed),
            "vozmetro.architecture": self.architecture.name,
            "vozmetro.architecture_sha256": self.architecture.sha256,
            "vozmetro.layers": "all" if self.layers is None else str(self.layers),
        }

    def source(self, graph: str) -> DummySource:
        """Returns the weights of a graph; making them is told to the listener."""

        def told(count: int) -> None:
            self.made += count
            self.listen(graph, min(self.made, self.total), self.total)

        parts = _WEIGHTS.get(graph, (graph,))
        return DummySource(self.config, *parts, seed=self.seed, told=told)


def graph_shapes(
    config: Mapping[str, Any], graph: str, layers: int | None = None
) -> dict[str, tuple[int, ...]]:
    """Returns the tensors that a graph is made of, with only so many layers of every part."""
    config = _truncated(config, layers)
    found: dict[str, tuple[int, ...]] = {}
    for part in _WEIGHTS.get(graph, (graph,)):
        of_part = tensors.shapes(config, part)
        table = _BORROWED if (graph, part) == ("code_predictor", "talker") else None
        found |= of_part if table is None else {table: of_part[table]}
    return found


def write(
    arch: str,
    precision: Precision,
    layers: int | None = None,
    output: Path | None = None,
    *,
    seed: int = 0,
    listen: Listener = lambda _graph, _made, _total: None,
    components: Sequence[str] | None = None,
) -> Path:
    """Writes a model with random weights, or finds it intact where it was written before.

    Args:
        arch: One of `architectures.names()`.
        precision: How weights are stored; `int4` in blocks of 128.
        layers: Only so many layers of every part, to study how time grows with depth.
        output: Folder, or `.onnx` for a model of one graph; by default a folder in the cache.
        seed: Other seeds give other weights.
        listen: Told about progress.
        components: Of a model of several graphs, only these; all by default.

    Returns:
        The `.onnx` of a model of one graph, else the folder of its graphs: `encoder.onnx` and
        `decoder.onnx` of a Whisper, one per component of Qwen3-Omni.

    Raises:
        InputError: `architecture_unknown`, `dummy_precision`, `dummy_layers`, `dummy_component`
            or `dummy_taken`.
        ModelError: `dummy_disk` or `dummy_unwritable`.
    """
    architecture = architectures.load(arch)
    if precision not in get_args(Precision):
        known = ", ".join(get_args(Precision))
        raise InputError("dummy_precision", given=precision, known=known)
    _check_layers(architecture, layers)
    unknown = set(components or ()) - set(architecture.graphs)
    if unknown:
        known = ", ".join(architecture.graphs)
        raise InputError("dummy_component", given=", ".join(sorted(unknown)), known=known)
    path, folder, record = _places(architecture, precision, layers, output, seed)
    job = _Job(architecture, Scheme(precision), layers, seed, folder, record, listen)
    try:
        _write_missing(job, path, components or architecture.graphs)
    except (OSError, OutputError) as error:
        said = error.fields["detail"] if isinstance(error, OutputError) else error.strerror or error
        raise ModelError("dummy_unwritable", path=folder, detail=said) from error
    return path


def _places(
    architecture: Architecture,
    precision: str,
    layers: int | None,
    output: Path | None,
    seed: int,
) -> tuple[Path, Path, Path]:
    """Returns what is handed back, the folder of all files, and the record's path."""
    if output is None:
        depth = "" if layers is None else f"-{layers}layers"
        name = f"{architecture.name}-{precision}{depth}-seed{seed}-{architecture.sha256[:12]}"
        output = packages.cache_dir() / "dummy" / name
    if architecture.graphs != ("text",):
        return output, output, output / RECORD
    path = output if output.suffix == ".onnx" else output / f"{architecture.name}.onnx"
    return path, path.parent, path.with_suffix(f".{RECORD}")


def _write_missing(job: _Job, path: Path, graphs: Sequence[str]) -> None:
    """Writes those graphs that are not there intact, each entered into the record when done."""
    done = _intact(job)
    if done is None and (path.is_file() or (path == job.folder and _any_in(path))):
        raise InputError("dummy_taken", path=path)
    missing = [graph for graph in graphs if graph not in (done or {})]
    shapes = [graph_shapes(job.config, graph) for graph in missing]
    job.total = sum(math.prod(shape) for of_graph in shapes for shape in of_graph.values())
    _check_disk(job, missing)
    if missing:
        # Before the first file: what an interrupted process leaves is known for ours.
        _record(job, done or {})
    for graph in missing:
        files = _WRITERS.get(graph, _write_component)(job, graph, path)
        done = {**(done or {}), graph: [_described(file) for file in files]}
        _record(job, done)


def _record(job: _Job, graphs: Mapping[str, Any]) -> None:
    text = json.dumps({**job.identity, "graphs": graphs}, indent=1)
    temporary = job.record.with_name(f".{job.record.name}.part")
    temporary.write_text(f"{text}\n", encoding="utf-8")
    temporary.replace(job.record)


def _any_in(folder: Path) -> bool:
    """Returns whether a folder holds anything; hidden files may be a killed process's."""
    return folder.is_dir() and any(not file.name.startswith(".") for file in folder.iterdir())


def _intact(job: _Job) -> dict[str, Any] | None:
    """Returns the files of each graph that is there intact; None where no dummy of ours is."""
    found = safety.read_json(job.record)
    if found is None:
        return None
    try:
        graphs = found.pop("graphs")
        if found.get("type") != "dummy":
            return None
        if found != job.identity:
            return {}
        return {
            graph: files
            for graph, files in graphs.items()
            if all(
                packages.is_intact(job.folder / Path(f["name"]).name, f["bytes"], f["sha256"])
                for f in files
            )
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _described(path: Path) -> dict[str, Any]:
    return {
        "name": path.name,
        "bytes": path.stat().st_size,
        "sha256": packages.sha256(path),
    }


def _check_layers(architecture: Architecture, layers: int | None) -> None:
    config: Any = architecture.config
    depths = _DEPTHS[config["model_type"]]
    most = max(_at(config, place[:-1])[place[-1]] for place in depths)
    if layers is not None and not 1 <= layers <= most:
        raise InputError("dummy_layers", given=layers, most=most, name=architecture.name)


def _truncated(config: Mapping[str, Any], layers: int | None) -> dict[str, Any]:
    """Returns a configuration with at most so many layers in every part."""
    found: dict[str, Any] = copy.deepcopy(dict(config))
    for *place, key in _DEPTHS[found["model_type"]] if layers is not None else ():
        part = _at(found, place)
        part[key] = min(part[key], layers)
    return found


def _at(config: Any, place: Sequence[str]) -> Any:
    for key in place:
        config = config[key]
    return config


def _check_disk(job: _Job, graphs: Sequence[str]) -> None:
    """Refuses what the disk cannot hold before a byte is written."""
    if not graphs:
        return
    needed = sum(
        stored_bytes(graph_shapes(job.config, graph), job.scheme.precision, job.scheme.block)
        for graph in graphs
    )
    needed += SPARE_BYTES
    job.folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(job.folder).free
    if free < needed:
        raise ModelError(
            "dummy_disk",
            name=job.architecture.name,
            path=job.folder,
            needed=units.size(needed),
            free=units.size(free),
        )


def stored_bytes(shapes: Mapping[str, tuple[int, ...]], precision: str, block: int) -> int:
    """Returns about how many bytes tensors take in a graph."""
    return sum(
        math.ceil(math.prod(shape) * _item_bytes(name, shape, precision, block))
        for name, shape in shapes.items()
    )


def _item_bytes(name: str, shape: Sequence[int], precision: str, block: int) -> float:
    """Returns bytes per weight; a tied table is stored a second time, as the head."""
    experts = ".experts." in name
    convolution = len(shape) > 2 and not experts
    whole = len(shape) < 2 or convolution or name.endswith("mlp.gate.weight")
    # Whisper's graphs keep these in float32, and its encoder at 8 bits at least.
    whisper = "model.encoder." in name or "model.decoder." in name
    whole = whole or (whisper and ("embed_positions" in name or ".encoder.layers.0." in name))
    if precision == "fp32" or whole:
        twice = "embed_tokens" in name and "thinker" not in name and not whisper
        return 8 if twice else 4
    if "model.encoder." in name:
        precision = "int8"
    blocks = (0.5 if precision == "int4" else 1) + 4 / block
    rows = 1 + 4 / shape[-1]
    if "embed_tokens" in name:
        again = 0 if "thinker" in name else blocks if precision == "int4" else rows
        return rows + again
    if "embedding" in name or "code_predictor.lm_head" in name:
        return rows
    return blocks if precision == "int4" or experts else rows


def _write_text(job: _Job, graph: str, path: Path) -> list[Path]:
    from vozmetro.models.convert.decoder import write_decoder
    from vozmetro.models.convert.decoder_shape import DecoderShape

    shape = DecoderShape.from_config(job.config)
    return _with_data(write_decoder(job.source(graph), shape, path, job.scheme, job.marks))


def _write_whisper(job: _Job, graph: str, path: Path) -> list[Path]:
    from vozmetro.models.convert.whisper import write_whisper

    config = path / "config.json"
    config.write_text(json.dumps(job.config, indent=1) + "\n", encoding="utf-8")
    written = write_whisper(job.source(graph), job.config, path, job.scheme, job.marks)
    return [config, *(file for one in written for file in _with_data(one))]


def _write_component(job: _Job, graph: str, path: Path) -> list[Path]:
    """Writes a part of Qwen3-Omni and what belongs to it."""
    from vozmetro.models.convert import audio_encoder, code2wav, omni

    def order(name: str) -> omni.Order:
        return omni.Order(path / f"{name}.onnx", job.scheme, job.marks, forced=job.seed)

    source, config, main = job.source(graph), job.config, order(graph)
    if graph == "thinker":
        written = [omni.write_thinker(source, config, main)]
    elif graph == "talker":
        written = [omni.write_talker(source, config, main)]
        written.append(omni.write_talker_projection(source, order("talker_projection")))
    elif graph == "code_predictor":
        written = [omni.write_code_predictor(source, config, main)]
        written.append(omni.write_codec_embedding(source, config, order("codec_embedding")))
    elif graph == "audio_encoder":
        written = [audio_encoder.write_audio_encoder(source, config, main)]
    else:
        written = [code2wav.write_code2wav(source, config, main)]
    return [file for one in written for file in _with_data(one)]


def _with_data(path: Path) -> list[Path]:
    """Returns a graph and the file of its weights, where it has one."""
    data = path.with_name(f"{path.name}.data")
    return [path, data] if data.is_file() else [path]


_WRITERS: Mapping[str, Callable[[_Job, str, Path], list[Path]]] = {
    "text": _write_text,
    "whisper": _write_whisper,
}
