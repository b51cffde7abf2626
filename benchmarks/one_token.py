"""What bounds a token: rates of ONNX Runtime's kernels for one input row, in cache and from memory.

    python benchmarks/one_token.py [--threads N]

Chains of 2560 x 2560 layers, one row of input, as a language model reads its weights for a token.
A chain that fits the last-level cache is run over and over: its rate is the kernel's own. One of
400 MB and more comes from memory each time. Where both are alike, and double with the threads, the
arithmetic is the limit and not the memory: no graph can be faster with that kernel. The chains take
turns; GB/s are of stored weights and scales, G/s of weights, median of the turns.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort
from onnx import NodeProto, TensorProto, helper, numpy_helper

from vozmetro.measure.environment import cores_allowed

WIDTH, TURNS = 2560, 12
REST_S = 0.02  # until the threads of the last session have stopped spinning
# A layer of FP32 is 26 MB: more than that no small chain has.
IN_CACHE, FROM_MEMORY = 6e6, 400e6
MICROSOFT = "com.microsoft"
Layer = tuple[dict[str, Any], list[NodeProto]]
"""Constants by name, and the nodes that take `x{i}` to `x{i+1}`."""


def blocked(bits: int, block: int) -> Callable[[np.random.Generator, int], Layer]:
    """Returns a maker of `MatMulNBits` layers with 8-bit arithmetic."""

    def layer(random: np.random.Generator, i: int) -> Layer:
        shape = (WIDTH, WIDTH // block, block * bits // 8)
        constants = {
            f"w{i}": random.integers(0, 256, shape, dtype=np.uint8),
            f"s{i}": random.uniform(0.001, 0.002, WIDTH * WIDTH // block).astype(np.float32),
        }
        sizes: dict[str, Any] = {
            "K": WIDTH,
            "N": WIDTH,
            "bits": bits,
            "block_size": block,
            "accuracy_level": 4,
        }
        names = [f"x{i}", *constants]
        node = helper.make_node("MatMulNBits", names, [f"x{i + 1}"], domain=MICROSOFT, **sizes)
        return constants, [node]

    return layer


def dynamic(random: np.random.Generator, i: int) -> Layer:
    """Inputs quantized as they come, 8-bit weights with a scale for each output."""
    constants = {
        f"w{i}": random.integers(-64, 64, (WIDTH, WIDTH)).astype(np.int8),
        f"s{i}": np.full(WIDTH, 5e-4, np.float32),
    }
    quantized = [f"q{i}", f"q_scale{i}", f"q_zero{i}"]
    inputs = [f"q{i}", f"w{i}", f"q_scale{i}", f"s{i}", f"q_zero{i}"]
    return constants, [
        helper.make_node("DynamicQuantizeLinear", [f"x{i}"], quantized),
        helper.make_node("MatMulIntegerToFloat", inputs, [f"x{i + 1}"], domain=MICROSOFT),
    ]


def full(random: np.random.Generator, i: int) -> Layer:
    """Weights in float32."""
    weights = random.standard_normal((WIDTH, WIDTH), dtype=np.float32) * np.float32(0.02)
    return {f"w{i}": weights}, [helper.make_node("MatMul", [f"x{i}", f"w{i}"], [f"x{i + 1}"])]


KERNELS: Mapping[str, Callable[[np.random.Generator, int], Layer]] = {
    "INT4, blocks of 32": blocked(4, 32),
    "INT4, blocks of 128": blocked(4, 128),
    "INT8, blocks of 128": blocked(8, 128),
    "INT8, inputs as they come": dynamic,
    "FP32": full,
}


class Chain:
    """Layers one after the other, at least so many bytes, and the seconds that they take."""

    def __init__(
        self, kernel: Callable[[np.random.Generator, int], Layer], least: float, threads: int
    ) -> None:
        random = np.random.default_rng(0)
        constants: dict[str, Any] = {}
        nodes: list[NodeProto] = []
        self.layers, self.bytes = 0, 0
        while self.bytes < least:
            added, made = kernel(random, self.layers)
            constants |= added
            nodes += made
            self.layers += 1
            self.bytes = sum(value.nbytes for value in constants.values())
        start, end = (
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, WIDTH])
            for name in ("x0", f"x{self.layers}")
        )
        stored = [numpy_helper.from_array(value, name) for name, value in constants.items()]
        graph = helper.make_graph(nodes, "chain", [start], [end], stored)
        opsets = [helper.make_opsetid("", 21), helper.make_opsetid(MICROSOFT, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self._feeds = {"x0": random.standard_normal((1, WIDTH), dtype=np.float32)}

    def seconds(self) -> float:
        """Returns the time of one run, the mean of as many as read what the large chain reads."""
        time.sleep(REST_S)
        self._session.run(None, self._feeds)
        count = math.ceil(FROM_MEMORY / self.bytes)
        start = time.perf_counter()
        for _ in range(count):
            self._session.run(None, self._feeds)
        return (time.perf_counter() - start) / count


def rates(name: str, threads: int) -> list[str]:
    """Returns the table's cells of a kernel: in cache and from memory, for 1 and all threads."""
    counts: Sequence[int] = sorted({1, threads})
    chosen = [
        Chain(KERNELS[name], least, count) for least in (IN_CACHE, FROM_MEMORY) for count in counts
    ]
    took: list[list[float]] = [[] for _ in chosen]
    for turn in range(TURNS):
        order = range(len(chosen)) if turn % 2 == 0 else reversed(range(len(chosen)))
        for index in order:
            took[index].append(chosen[index].seconds())
    cells = []
    for chain, seconds in zip(chosen, took, strict=True):
        middle = statistics.median(seconds)
        weights = chain.layers * WIDTH * WIDTH / middle / 1e9
        cells.append(f"{chain.bytes / middle / 1e9:5.1f} GB/s {weights:5.1f} G/s")
    return cells


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=cores_allowed())
    threads = parser.parse_args().threads
    counts = sorted({1, threads})
    heads = [f"{place}, {count} thread(s)" for place in ("cache", "memory") for count in counts]
    print(f"{'':27}", *(f"{head:>21}" for head in heads))
    for name in KERNELS:
        print(f"{name:27}", *(f"{cell:>21}" for cell in rates(name, threads)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
