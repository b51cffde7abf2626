"""Four ways to store 8-bit weights: error on the layers of Whisper base, and speed.

    python benchmarks/int8_weights.py [--threads N]

The inputs of every linear layer of the encoder are recorded on one utterance of the packaged
speech; each layer's output, quantized, is compared with float32 (relative norm of the difference).
So is a layer of uniform random weights and inputs. The speed is that of 2560 x 2560 for 64 inputs,
the ways in turns. On processors with VNNI, and on ARM, nothing saturates and the first row is as
exact as the others. Needs the extra `demo`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from vozmetro import audio
from vozmetro.engines.base import LoadRequest
from vozmetro.engines.whisper_onnx import ENGINE
from vozmetro.measure.environment import cores_allowed
from vozmetro.models.quantize.kernels import int8_rows
from vozmetro.models.resolve import resolve
from vozmetro.speech.corpus import DEFAULT_CORPUS, load_corpus

Floats = NDArray[np.float32]
Stored = tuple[NDArray[np.int8] | NDArray[np.uint8], Floats, int]
"""Weights [outputs, inputs], a scale for each output, and the zero point."""
WIDTH, INPUTS, TURNS = 2560, 64, 40


def seven_bits(weights: Floats) -> Stored:
    scale = np.abs(weights).max(axis=1) / np.float32(63)
    return np.rint(weights / scale[:, None]).astype(np.int8), scale, 0


def unsigned(weights: Floats) -> Stored:
    values, scale = int8_rows(weights, paired=False)
    return (values.astype(np.int16) + 128).astype(np.uint8), scale, 128


WAYS: Mapping[str, Callable[[Floats], Stored]] = {
    "int8, 8 bits": lambda weights: (*int8_rows(weights, paired=False), 0),
    "int8, 7 bits (reduce_range)": seven_bits,
    "uint8 around 128": unsigned,
    "int8, 8 bits, pairs fit in 16 (ours)": lambda weights: (*int8_rows(weights), 0),
}


def session(stored: Stored, threads: int) -> ort.InferenceSession:
    """Returns x [n, inputs] -> y [n, outputs], the inputs quantized as they come."""
    values, scale, zero = stored
    constants: dict[str, NDArray[Any]] = {
        "w": np.ascontiguousarray(values.T),
        "scale": scale,
        "zero": np.array(zero, values.dtype),
    }
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "q_scale", "q_zero"]),
        helper.make_node("MatMulInteger", ["q", "w", "q_zero", "zero"], ["sums"]),
        helper.make_node("Cast", ["sums"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["q_scale", "scale"], ["both"]),
        helper.make_node("Mul", ["real", "both"], ["y"]),
    ]
    outputs, inputs = values.shape
    graph = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", inputs])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", outputs])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 21)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def whisper_layers() -> list[tuple[Floats, Floats]]:
    """Returns weights [outputs, inputs] and recorded inputs [n, inputs] of the encoder's layers."""
    folder = resolve("whisper-base-onnx").path
    utterance = load_corpus(DEFAULT_CORPUS, limit=1)[0]
    whisper = ENGINE.load(LoadRequest(folder, cores_allowed(), ENGINE.defaults))
    frames = whisper.features(audio.read(utterance.path))  # type: ignore[union-attr]
    frames = frames[:, : frames.shape[1] // 2 * 2]
    path = folder / "encoder.onnx"
    model = onnx.load(path)
    weights = {one.name: one for one in model.graph.initializer}
    linear = [
        node for node in model.graph.node if node.op_type == "MatMul" and node.input[1] in weights
    ]
    read = dict.fromkeys(node.input[0] for node in linear)
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in read)
    opened = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = dict(zip(read, opened.run(list(read), {"input_features": frames[None]}), strict=True))
    return [
        (
            np.ascontiguousarray(numpy_helper.to_array(weights[node.input[1]]).T, np.float32),
            found[node.input[0]].reshape(-1, found[node.input[0]].shape[-1]),
        )
        for node in linear
    ]


def error(stored: Stored, weights: Floats, inputs: Floats) -> float:
    """Returns the relative norm of the difference of the outputs."""
    exact = inputs.astype(np.float64) @ weights.T
    found = session(stored, 1).run(None, {"x": inputs})[0]
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


def speeds(threads: int) -> dict[str, float]:
    """Returns the median milliseconds of each way, in turns."""
    random = np.random.default_rng(0)
    weights = random.uniform(-1, 1, (WIDTH, WIDTH)).astype(np.float32)
    x = random.uniform(-1, 1, (INPUTS, WIDTH)).astype(np.float32)
    opened = {name: session(way(weights), threads) for name, way in WAYS.items()}
    took: dict[str, list[float]] = {name: [] for name in WAYS}
    for turn in range(TURNS):
        for name in list(WAYS) if turn % 2 == 0 else reversed(list(WAYS)):
            opened[name].run(None, {"x": x})
            start = time.perf_counter()
            opened[name].run(None, {"x": x})
            took[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(ms) for name, ms in took.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=cores_allowed())
    threads = parser.parse_args().threads
    layers = whisper_layers()
    random = np.random.default_rng(0)
    flat = random.uniform(-1, 1, (WIDTH, WIDTH)).astype(np.float32)
    positive = random.uniform(0, 1, (INPUTS, WIDTH)).astype(np.float32)
    ms = speeds(threads)
    print(f"{len(layers)} layers of Whisper base's encoder; {threads} threads")
    print(f"{'stored':38} {'worst layer':>11} {'median':>7} {'uniform':>8} {'ms':>6}")
    for name, way in WAYS.items():
        errors = [error(way(weights), weights, inputs) for weights, inputs in layers]
        line = f"{max(errors):11.2%} {statistics.median(errors):7.2%}"
        print(f"{name:38} {line} {error(way(flat), flat, positive):8.2%} {ms[name]:6.2f}")
    print("scale of ours over that of 8 bits:", *_scales(layers))
    return 0


def _scales(layers: list[tuple[Floats, Floats]]) -> list[str]:
    ratios = [
        float((int8_rows(weights)[1] / int8_rows(weights, paired=False)[1]).mean())
        for weights, _ in layers
    ]
    return [f"{min(ratios):.2f} to {max(ratios):.2f}"]


if __name__ == "__main__":
    sys.exit(main())
