"""A Piper voice's three graphs: written once into the cache, checked against the whole voice.

The decoder's convolutions are written as two-dimensional ones of height 1. ONNX Runtime has its
blocked layout (NCHWc) for those alone; the sums are the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vozmetro import packages
from vozmetro.audio import Samples
from vozmetro.engines.onnx_graph import open_session
from vozmetro.engines.piper_pieces import Decoder, Geometry
from vozmetro.engines.piper_split import INPUTS, SPEAKER, NotAVoiceError, split
from vozmetro.errors import InputError, ModelError
from vozmetro.models import converted, safety

if TYPE_CHECKING:
    from onnx import ModelProto

FRONTEND, FLOW, VOCODER, GEOMETRY = "frontend.onnx", "flow.onnx", "vocoder.onnx", "geometry.json"
TOLERANCE = 1e-4
"""Of full scale, 3 steps of 16 bits: largest difference to the whole voice. Sums in another order
make about 1e-6."""
_PROBE = 60
"""Phonemes of the check: some hundred frames, more than the decoder sees at once."""
_QUIET = (0.0, 1.0, 0.0)
"""Scales without noise."""
_WRITERS = ("piper_split.py", "piper_parts.py")


@dataclass(frozen=True)
class VoiceParts:
    """Where the graphs lie, and how they fit together."""

    folder: Path
    geometry: Geometry


def parts_of(voice: Path, numbers: Sequence[int]) -> VoiceParts:
    """Returns a voice's three graphs, intact; they are written where they are not.

    Args:
        voice: The `.onnx`, already verified.
        numbers: Phoneme numbers that it knows, for the check.

    Raises:
        InputError: `not_piper_voice`, with what of one is missing.
        ModelError: The cache cannot be written.
    """
    name = f"piper-parts-{packages.sha256(voice)[:16]}-{_writer()[:12]}"
    folder = packages.cache_dir() / "models" / name
    if not converted.is_kept(folder):
        converted.keep(
            folder,
            f"file:{voice.name}",
            2 * voice.stat().st_size,
            lambda scratch: _write(voice, numbers, scratch),
        )
    table = safety.read_json(folder / GEOMETRY)
    if table is None:
        raise ModelError("model_unreadable", path=folder / GEOMETRY, detail="JSON")
    return VoiceParts(folder, Geometry(**table))


@cache
def _writer() -> str:
    """SHA-256 of the code that writes the graphs: other code's files are not taken for its own."""
    folder = resources.files(__package__)
    code = b"".join(folder.joinpath(name).read_bytes() for name in _WRITERS)
    return hashlib.sha256(code).hexdigest()


def _write(voice: Path, numbers: Sequence[int], folder: Path) -> None:
    import onnx

    try:
        model = onnx.load(str(voice))
    except Exception as error:  # protobuf's own errors share no narrower base
        raise ModelError("onnx_invalid", path=voice) from error
    try:
        parts = split(model)
    except NotAVoiceError as error:
        raise InputError("not_piper_voice", path=voice, detail=error) from error
    onnx.save(parts.frontend, str(folder / FRONTEND))
    geometry = Geometry(parts.hop, parts.flow_reach, parts.vocoder_reach)
    (folder / GEOMETRY).write_text(json.dumps(vars(geometry)), encoding="utf-8")
    whole = _audio(voice, numbers)
    difference = float("inf")
    for shaped in (flat, plain):
        onnx.save(shaped(parts.flow, "frames"), str(folder / FLOW))
        onnx.save(shaped(parts.vocoder, ""), str(folder / VOCODER))
        difference = _difference(folder, geometry, numbers, whole)
        if difference <= TOLERANCE:
            return
    raise InputError("not_piper_voice", path=voice, detail=f"parts differ by {difference:.2g}")


def plain(model: ModelProto, output: str) -> ModelProto:
    """Returns the graph as it is: what conditions it on a speaker bears no other dimension."""
    del output
    return model


def flat(model: ModelProto, output: str) -> ModelProto:
    """Returns the graph with convolutions of height 1 instead of one-dimensional ones.

    Args:
        model: Flow or vocoder; its first input is [1, channels, frames].
        output: Its output if that is to be [1, channels, frames]; empty if its shape is free.
    """
    import onnx
    from onnx import helper, numpy_helper

    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    convolutions = [node for node in graph.node if node.op_type in ("Conv", "ConvTranspose")]
    for node in convolutions:
        for item in node.attribute:
            if item.name in ("kernel_shape", "strides", "dilations"):
                item.ints[:] = [1, *item.ints]
            elif item.name == "pads":
                item.ints[:] = [0, item.ints[0], 0, item.ints[1]]
            elif item.name == "output_padding":
                item.ints[:] = [0, *item.ints]
    weights = {node.input[1] for node in convolutions}
    for tensor in graph.initializer:
        if tensor.name in weights:
            tensor.dims[:] = [tensor.dims[0], tensor.dims[1], 1, tensor.dims[2]]
    first = graph.input[0].name
    names = {first: f"{first}.flat"}
    if output:
        names[output] = f"{output}.flat"
    for node in graph.node:
        for ports in (node.input, node.output):
            ports[:] = [names.get(name, name) for name in ports]
    axis = "flat.axis"
    graph.initializer.append(numpy_helper.from_array(np.array([2], np.int64), axis))
    graph.node.insert(0, helper.make_node("Unsqueeze", [first, axis], [names[first]]))
    if output:
        graph.node.append(helper.make_node("Squeeze", [names[output], axis], [output]))
    return made


def probe(numbers: Sequence[int], speakers: bool, scales: Sequence[float]) -> dict[str, Any]:
    """Returns a frontend's inputs for some phonemes of the first speaker."""
    feeds: dict[str, Any] = {
        INPUTS[0]: np.array([list(numbers)], np.int64),
        INPUTS[1]: np.array([len(numbers)], np.int64),
        INPUTS[2]: np.array(scales, np.float32),
    }
    if speakers:
        feeds[SPEAKER] = np.zeros(1, np.int64)
    return feeds


def _audio(voice: Path, numbers: Sequence[int]) -> Samples:
    """Returns what the whole voice says without noise, float32 [samples]."""
    try:
        session = open_session(voice, 1, {})
        feeds = probe(_probed(numbers), _has_speakers(session), _QUIET)
        audio: Samples = session.run(None, feeds)[0].reshape(-1)
    except Exception as error:  # the runtime's errors share no narrower base
        raise InputError("not_piper_voice", path=voice, detail=error) from error
    return audio


def _difference(folder: Path, geometry: Geometry, numbers: Sequence[int], whole: Samples) -> float:
    """Returns how far the pieces are from the whole at most; infinite where they do not run."""
    try:
        frontend, flow, vocoder = (
            open_session(folder / name, 1, {}) for name in (FRONTEND, FLOW, VOCODER)
        )
        feeds = probe(_probed(numbers), _has_speakers(frontend), _QUIET)
        latent, _ = frontend.run(None, feeds)
        speaker = {name: value for name, value in feeds.items() if name == SPEAKER}
        pieces = Decoder(flow, vocoder, geometry, speaker=speaker).stream([latent])
        joined = np.concatenate([np.zeros(0, np.float32), *pieces])
    except Exception:  # the runtime's errors share no narrower base
        return float("inf")
    if joined.shape != whole.shape or not whole.size:
        return float("inf")
    return float(np.abs(joined - whole).max())


def _has_speakers(session: Any) -> bool:
    return any(port.name == SPEAKER for port in session.get_inputs())


def _probed(numbers: Sequence[int]) -> list[int]:
    return [numbers[at % len(numbers)] for at in range(_PROBE)]
