"""What this machine can do at best: bytes a second from memory, operations a second in products.

Measured under the same number of threads as the subject, in a process of its own
(`python -m vozmetro.measure.ceilings`). Both ends of a roofline (Williams, Waterman and Patterson,
"Roofline: an insightful visual performance model", CACM 52(4), 2009) are thus measured, not taken
from a data sheet that a virtual machine does not honour.

The bandwidth is the best of two witnesses: plain reading (`probe`, which also runs beside samples),
and the product of a vector with a large matrix, as decoding a language model does.
"""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vozmetro.errors import MeasurementError
from vozmetro.measure.environment import available_ram
from vozmetro.measure.probe import Stream, cache_size

Size = tuple[int, int, int]
"""Rows, inner size and columns of a product."""

SIZES: tuple[Size, ...] = ((256, 2048, 2048), (64, 2048, 2048), (256, 1024, 4096))
"""Products that are timed besides those of the subject."""
KINDS = ("fp32", "int8", "int4")
_CACHES = 6  # times the caches that the matrix takes, so that little of it stays there
_LEAST, _MOST = 1 << 27, 1 << 29  # bytes of that matrix
_BLOCK = 128  # inputs that share a scale in INT4
_REPEATS, _SECONDS = 12, 0.4  # runs of each product: at least 3, at most these
_STREAMS = 16
_LIMIT_S = 300.0


@dataclass(frozen=True)
class Ceilings:
    """What was measured.

    Attributes:
        threads: Threads that it was measured with.
        cache_bytes: Caches of all cores; 0 where the system does not tell.
        stream: Bytes a second of each repeat of reading a buffer.
        product: Bytes a second of each product of a vector with a large INT8 matrix.
        gemm: Operations a second (two for each multiply-add), best by kind and size `MxKxN`.
    """

    threads: int
    cache_bytes: int
    stream: tuple[float, ...]
    product: tuple[float, ...]
    gemm: Mapping[str, Mapping[str, float]]

    @property
    def bandwidth(self) -> float:
        """The best bytes a second that anything reached."""
        return max([*self.stream, *self.product])

    @property
    def bandwidth_median(self) -> float:
        """Median of the repeats of reading."""
        return statistics.median(self.stream)

    @property
    def operations(self) -> dict[str, float]:
        """The best operations a second by kind."""
        return {kind: max(found.values()) for kind, found in self.gemm.items() if found}


def product_side(cache_bytes: int, available: int) -> int:
    """Returns the side of a square INT8 matrix several times as large as the cache.

    Args:
        cache_bytes: Caches of all cores, 0 where unknown.
        available: Bytes of RAM; ONNX Runtime holds about three copies while it loads.
    """
    wanted = min(max(_CACHES * cache_bytes, _LEAST), _MOST, max(1 << 24, available // 10))
    return math.isqrt(wanted) // _BLOCK * _BLOCK


def measure(threads: int, sizes: Sequence[Size] = (), kinds: Sequence[str] = KINDS) -> Ceilings:
    """Measures in a fresh process and waits for it.

    Args:
        threads: Threads, as for the subject.
        sizes: Products of the subject, timed besides `SIZES`.
        kinds: Kinds of arithmetic to time.

    Raises:
        MeasurementError: `ceilings_failed`.
    """
    cache_bytes = cache_size()
    request = {
        "threads": threads,
        "sizes": [*SIZES, *sizes],
        "kinds": list(kinds),
        "side": product_side(cache_bytes, available_ram()),
    }
    try:
        done = subprocess.run(
            [sys.executable, "-m", "vozmetro.measure.ceilings"],
            input=json.dumps(request),
            capture_output=True,
            encoding="utf-8",
            timeout=_LIMIT_S,
            check=True,
        )
        reply = json.loads(done.stdout)
    except (subprocess.SubprocessError, ValueError) as error:
        said = str(getattr(error, "stderr", "") or error).strip().splitlines()
        raise MeasurementError("ceilings_failed", detail=said[-1] if said else "–") from error
    return Ceilings(
        threads=threads,
        cache_bytes=cache_bytes,
        stream=tuple(reply["stream"]),
        product=tuple(reply["product"]),
        gemm=reply["gemm"],
    )


# In the process of its own -----------------------------------------------------------------------


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """Measures what `measure` asked for."""
    threads, side = request["threads"], request["side"]
    reader = Stream(threads)
    stream = [reader.gbs() * 1e9 for _ in range(_STREAMS)]
    reader.close()
    seconds = _product_seconds("int8", (1, side, side), threads)
    return {
        "stream": stream,
        "product": [side * side / one for one in seconds],
        "gemm": {kind: _gemm(kind, request["sizes"], threads) for kind in request["kinds"]},
    }


def _gemm(kind: str, sizes: Sequence[Size], threads: int) -> dict[str, float]:
    """Operations a second, the best for each size."""
    found: dict[str, float] = {}
    for rows, inner, columns in dict.fromkeys(tuple(size) for size in sizes):
        # INT4 comes in whole blocks.
        inner = max(1, inner // _BLOCK) * _BLOCK  # noqa: PLW2901
        best = min(_product_seconds(kind, (rows, inner, columns), threads))
        found[f"{rows}x{inner}x{columns}"] = 2 * rows * inner * columns / best
    return found


def _product_seconds(kind: str, size: Size, threads: int) -> list[float]:
    """Seconds of each run of one product through ONNX Runtime; the fastest way of the kind."""
    ways = [_timed(way, size, threads) for way in _WAYS[kind]]
    return min(ways, key=min)


_WAYS = {"fp32": ("MatMul",), "int8": ("U8S8", "U8U8"), "int4": ("MatMulNBits",)}
"""How ONNX Runtime multiplies in each arithmetic; on x86, signed weights have other kernels."""


def _timed(way: str, size: Size, threads: int) -> list[float]:
    from vozmetro.engines.onnx_graph import OrtGraph

    rows, inner, _ = size
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "product.onnx"
        path.write_bytes(_model(way, size))
        graph = OrtGraph(path, threads, {})
    rng = np.random.default_rng(1)
    x: NDArray[Any] = rng.standard_normal((rows, inner), np.float32)
    if graph.inputs[0].dtype == "uint8":
        x = rng.integers(0, 255, (rows, inner), np.uint8)
    graph.run({"x": x})
    seconds: list[float] = []
    deadline = time.perf_counter() + _SECONDS
    while len(seconds) < 3 or (len(seconds) < _REPEATS and time.perf_counter() < deadline):
        start = perf_counter_ns()
        graph.run({"x": x})
        seconds.append((perf_counter_ns() - start) / 1e9)
    return seconds


def _model(way: str, size: Size) -> bytes:
    """One product [rows, inner] x [inner, columns], serialized."""
    from onnx import TensorProto as Type
    from onnx import helper

    rows, inner, columns = size
    rng = np.random.default_rng(0)
    given, made, domain = Type.FLOAT, Type.FLOAT, ""
    inputs = ["x", "w"]
    attributes: dict[str, Any] = {}
    weights = []
    if way == "MatMul":
        op, values = "MatMul", rng.standard_normal((inner, columns), np.float32).tobytes()
        weights.append(helper.make_tensor("w", Type.FLOAT, [inner, columns], values, raw=True))
    elif way == "MatMulNBits":
        op, domain = "MatMulNBits", "com.microsoft"
        blocks = inner // _BLOCK
        attributes = {"K": inner, "N": columns, "bits": 4, "block_size": _BLOCK}
        attributes["accuracy_level"] = 4
        shape = [columns, blocks, _BLOCK // 2]
        values = rng.bytes(math.prod(shape))
        scales = np.full((columns, blocks), 0.01, np.float32)
        weights.append(helper.make_tensor("w", Type.UINT8, shape, values, raw=True))
        dims = list(scales.shape)
        weights.append(helper.make_tensor("s", Type.FLOAT, dims, scales.tobytes(), raw=True))
        inputs = ["x", "w", "s"]
    else:
        op, given, made = "MatMulInteger", Type.UINT8, Type.INT32
        kind = Type.INT8 if way == "U8S8" else Type.UINT8
        values = rng.bytes(inner * columns)
        weights.append(helper.make_tensor("w", kind, [inner, columns], values, raw=True))
    graph = helper.make_graph(
        [helper.make_node(op, inputs, ["y"], domain=domain, **attributes)],
        "product",
        [helper.make_tensor_value_info("x", given, [rows, inner])],
        [helper.make_tensor_value_info("y", made, [rows, columns])],
        weights,
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())


if __name__ == "__main__":
    json.dump(answer(json.load(sys.stdin)), sys.stdout)
