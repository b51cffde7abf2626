"""A Piper voice in miniature: its graph's shape without its weights' meaning."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper

CHANNELS, SYMBOLS, SPEAKERS, HOP = 4, 40, 3, 8


def voice(path: Path, *, speakers: bool = False, decoder_reads_text: bool = False) -> Path:
    """Writes `path` and its `.json`: phonemes of 1-4 frames each, 8 samples a frame."""
    random = np.random.default_rng(7)
    weights: list[onnx.TensorProto] = []

    def weight(name: str, array: object) -> str:
        weights.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def noise(name: str, *shape: int) -> str:
        return weight(name, random.standard_normal(shape).astype(np.float32) / 2)

    def take(number: int, out: str) -> onnx.NodeProto:
        return h.make_node("Gather", ["scales", weight(f"at{number}", np.int64(number))], [out])

    nodes = [
        take(0, "loudness"),
        take(1, "slowness"),
        h.make_node("Gather", [noise("sounds", SYMBOLS, CHANNELS), "input"], ["spoken"]),
        h.make_node(
            "Gather",
            [weight("lengths", random.uniform(0.5, 3.5, SYMBOLS).astype(np.float32)), "input"],
            ["lasting"],
        ),
        h.make_node("Mul", ["lasting", "slowness"], ["slow"]),
        h.make_node("Ceil", ["slow"], ["durations_"]),
        h.make_node("Squeeze", ["durations_", weight("zeroth", np.array([0]))], ["each"]),
        h.make_node("CumSum", ["each", weight("axis", np.int64(0))], ["ends"]),
        h.make_node("ReduceMax", ["ends"], ["all"], keepdims=0),
        h.make_node(
            "Range", [weight("r0", np.float32(0)), "all", weight("r1", np.float32(1))], ["times"]
        ),
        h.make_node("Unsqueeze", ["times", weight("one", np.array([1]))], ["column"]),
        h.make_node("Unsqueeze", ["ends", "zeroth"], ["row"]),
        h.make_node("GreaterOrEqual", ["column", "row"], ["past"]),
        h.make_node("Cast", ["past"], ["counted"], to=T.INT64),
        h.make_node("ReduceSum", ["counted", "one"], ["which"], keepdims=0),
        h.make_node("Gather", ["spoken", "which"], ["placed"], axis=1),
        h.make_node("Transpose", ["placed"], ["mean"], perm=[0, 2, 1]),
        h.make_node("RandomNormalLike", ["mean"], ["random"]),
        h.make_node("Mul", ["random", "loudness"], ["louder"]),
        h.make_node("Add", ["mean", "louder"], ["z"]),
        h.make_node("Unsqueeze", ["times", weight("both", np.array([0, 1]))], ["timed"]),
        h.make_node("Mul", ["timed", weight("nought", np.float32(0))], ["zeros"]),
        h.make_node("Cast", ["input_lengths"], ["lengths_"], to=T.FLOAT),
        h.make_node("Clip", ["lengths_", weight("low", np.float32(1)), "low"], ["unit"]),
        h.make_node("Add", ["zeros", "unit"], ["mask"]),
    ]
    condition = []
    if speakers:
        nodes += [
            h.make_node("Gather", [noise("voices", SPEAKERS, CHANNELS), "sid"], ["who"]),
            h.make_node("Unsqueeze", ["who", weight("last", np.array([2]))], ["g"]),
        ]
        condition = [_conv("g", noise("wg", CHANNELS, CHANNELS, 1), "told")]
    text = "slow3" if decoder_reads_text else "masked"
    nodes += [
        *condition,
        _conv("z", noise("w1", CHANNELS, CHANNELS, 5), "flowed", pads=[2, 2]),
        h.make_node("Tanh", ["flowed"], ["bent"]),
        h.make_node("Mul", ["bent", "mask"], ["masked"]),
        *([h.make_node("Mul", ["masked", "all"], ["slow3"])] if decoder_reads_text else []),
        _conv(text, noise("w2", CHANNELS, CHANNELS, 3), "before", pads=[1, 1]),
        *([h.make_node("Add", ["before", "told"], ["ready"])] if speakers else []),
        h.make_node("LeakyRelu", ["ready" if speakers else "before"], ["leaky"], alpha=0.1),
        h.make_node(
            "ConvTranspose",
            ["leaky", noise("w3", CHANNELS, CHANNELS, 2 * HOP)],
            ["up"],
            strides=[HOP],
            pads=[HOP // 2, HOP // 2],
            kernel_shape=[2 * HOP],
        ),
        _conv("up", noise("w4", 1, CHANNELS, 7), "wave", pads=[9, 9], dilations=[3]),
        h.make_node("Tanh", ["wave"], ["output"]),
    ]
    ports = [
        h.make_tensor_value_info("input", T.INT64, ["batch_size", "phonemes"]),
        h.make_tensor_value_info("input_lengths", T.INT64, ["batch_size"]),
        h.make_tensor_value_info("scales", T.FLOAT, [3]),
        *([h.make_tensor_value_info("sid", T.INT64, ["batch_size"])] if speakers else []),
    ]
    outputs = [h.make_tensor_value_info("output", T.FLOAT, None)]
    graph = h.make_graph(nodes, "tiny", ports, outputs, weights)
    onnx.save(h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=9), str(path))
    path.with_name(path.name + ".json").write_text(json.dumps(config(speakers)), encoding="utf-8")
    return path


def config(speakers: bool) -> dict[str, object]:
    letters = "_^$ abcdefghijklmnopqrstuvwxyz,.;"
    return {
        "audio": {"sample_rate": 8000},
        "espeak": {"voice": "es"},
        "phoneme_type": "text",
        "num_symbols": SYMBOLS,
        "num_speakers": SPEAKERS if speakers else 1,
        "speaker_id_map": {"a": 0, "b": 1, "c": 2} if speakers else {},
        "phoneme_id_map": {letter: [at] for at, letter in enumerate(letters)},
        "inference": {"noise_scale": 0.667, "length_scale": 1.0, "noise_w": 0.8},
    }


def _conv(source: str, weight: str, out: str, **more: list[int]) -> onnx.NodeProto:
    return h.make_node("Conv", [source, weight], [out], **more)
