"""Any ONNX graph through ONNX Runtime's CPU provider."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vozmetro.engines.base import Engine, LoadRequest, TensorSpec

# ONNX Runtime's type names -> numpy's. bfloat16 and float8 travel as raw bits: numpy has neither.
_DTYPES = {
    "tensor(float16)": "float16",
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(int8)": "int8",
    "tensor(int16)": "int16",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(uint8)": "uint8",
    "tensor(uint16)": "uint16",
    "tensor(uint32)": "uint32",
    "tensor(uint64)": "uint64",
    "tensor(bool)": "bool",
    "tensor(string)": "string",
    "tensor(bfloat16)": "bfloat16",
    "tensor(float8e4m3fn)": "float8e4m3fn",
    "tensor(float8e5m2)": "float8e5m2",
}
# Raw-bit dtypes: (carrier dtype, TensorProto.DataType number from the ONNX specification).
RAW_BITS = {"bfloat16": ("uint16", 16), "float8e4m3fn": ("uint8", 17), "float8e5m2": ("uint8", 19)}


class OrtGraph:
    """A graph loaded in an `onnxruntime.InferenceSession`. Implements `Graph`."""

    def __init__(self, path: Path, threads: int, options: Mapping[str, str]) -> None:
        import onnxruntime as ort

        settings = session_options(threads, options)
        self._session = ort.InferenceSession(
            str(path), settings, providers=["CPUExecutionProvider"]
        )
        self.inputs: Sequence[TensorSpec] = [_spec(node) for node in self._session.get_inputs()]
        self.outputs: Sequence[TensorSpec] = [_spec(node) for node in self._session.get_outputs()]
        self._raw_inputs = {
            spec.name: RAW_BITS[spec.dtype][1] for spec in self.inputs if spec.dtype in RAW_BITS
        }
        raw_outputs = any(spec.dtype in RAW_BITS for spec in self.outputs)
        self._plain = not self._raw_inputs and not raw_outputs

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Runs the graph once. See `Graph.run`; raw-bit tensors come as their carrier dtype."""
        if self._plain:
            results: list[NDArray[Any]] = self._session.run(None, feeds)
            return results
        import onnxruntime as ort

        values = {
            name: ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array, self._raw_inputs[name])
            if name in self._raw_inputs
            else ort.OrtValue.ortvalue_from_numpy(array)
            for name, array in feeds.items()
        }
        outputs = self._session.run_with_ort_values(None, values)
        return [_array(value, spec) for value, spec in zip(outputs, self.outputs, strict=True)]


def _array(value: Any, spec: TensorSpec) -> NDArray[Any]:
    """Copies an OrtValue out; numpy() refuses the types that numpy does not have."""
    if spec.dtype not in RAW_BITS:
        return np.asarray(value.numpy())
    carrier = np.dtype(RAW_BITS[spec.dtype][0])
    count = math.prod(value.shape())
    buffer = (ctypes.c_uint8 * (count * carrier.itemsize)).from_address(value.data_ptr())
    return np.frombuffer(buffer, carrier).reshape(value.shape()).copy()


def session_options(threads: int, options: Mapping[str, str]) -> Any:
    """Returns `onnxruntime.SessionOptions` with vozmetro's settings.

    Args:
        threads: Threads inside one operator; operators run one after another.
        options: `session.*` configuration entries of ONNX Runtime, passed through.
    """
    import onnxruntime as ort

    settings = ort.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.inter_op_num_threads = 1
    settings.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    settings.log_severity_level = 3
    for key, value in options.items():
        if key.startswith("session."):
            settings.add_session_config_entry(key, value)
    return settings


def _spec(node: Any) -> TensorSpec:
    shape = tuple(size if isinstance(size, int) else (size or "?") for size in node.shape)
    return TensorSpec(node.name, _DTYPES.get(node.type, node.type), shape)


def _load(request: LoadRequest) -> OrtGraph:
    return OrtGraph(request.path, request.threads, request.options)


ENGINE = Engine(
    name="onnx",
    task="graph",
    extra="",
    package="onnxruntime",
    modules=("onnxruntime",),
    load=_load,
    defaults={"provider": "CPUExecutionProvider", "execution_mode": "sequential"},
)
