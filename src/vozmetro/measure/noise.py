"""A/A check: how small a difference can this machine resolve today?

The same tiny graph is timed against itself in ABBA order. What differs between A and B is noise.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from time import perf_counter_ns

import numpy as np

from vozmetro.units import NS_PER_MS

_WIDTH = 256  # of the square matrices: 16 products are about 0.5 GFLOP, some milliseconds
_DEPTH = 16


def tiny_graph(path: Path) -> None:
    """Writes the graph: a chain of matrix products, [32, 256] float32 in and out."""
    from onnx import TensorProto, helper, numpy_helper, save

    rng = np.random.default_rng(0)
    nodes, weights = [], []
    for layer in range(_DEPTH):
        matrix = rng.standard_normal((_WIDTH, _WIDTH)).astype(np.float32) / np.sqrt(_WIDTH)
        weights.append(numpy_helper.from_array(matrix.astype(np.float32), f"w{layer}"))
        nodes.append(helper.make_node("MatMul", [f"x{layer}", f"w{layer}"], [f"x{layer + 1}"]))
    graph = helper.make_graph(
        nodes,
        "noise",
        [helper.make_tensor_value_info("x0", TensorProto.FLOAT, [32, _WIDTH])],
        [helper.make_tensor_value_info(f"x{_DEPTH}", TensorProto.FLOAT, [32, _WIDTH])],
        weights,
    )
    opset = [helper.make_opsetid("", 17)]
    save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)


def measure(pairs: int, threads: int) -> tuple[list[float], list[float]]:
    """Times `pairs` A/A pairs.

    Args:
        pairs: How many; their order alternates AB, BA.
        threads: Threads inside one operator, as for the subject.

    Returns:
        Latencies of A and of B in ms; equal index, same pair.
    """
    from vozmetro.engines.onnx_graph import OrtGraph

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "noise.onnx"
        tiny_graph(path)
        graph = OrtGraph(path, threads, {})
    feeds = {"x0": np.ones((32, _WIDTH), dtype=np.float32)}
    for _ in range(20):
        graph.run(feeds)
    sides: tuple[list[float], list[float]] = ([], [])
    for pair in range(pairs):
        for side in (0, 1) if pair % 2 == 0 else (1, 0):
            start = perf_counter_ns()
            graph.run(feeds)
            sides[side].append((perf_counter_ns() - start) / NS_PER_MS)
    return sides
