"""Any ONNX graph through ONNX Runtime, on the CPU or on a GPU with CUDA."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vozmetro.engines.base import Engine, LoadRequest, TensorSpec
from vozmetro.errors import InputError

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
CPU, CUDA = "cpu", "cuda"
PROVIDERS = (CPU, CUDA)
"""Values of the engine option `provider`: the device that a model runs on."""
# Raw-bit dtypes: (carrier dtype, TensorProto.DataType number from the ONNX specification).
RAW_BITS = {"bfloat16": ("uint16", 16), "float8e4m3fn": ("uint8", 17), "float8e5m2": ("uint8", 19)}


class OrtGraph:
    """A graph loaded in an `onnxruntime.InferenceSession`. Implements `Graph`."""

    def __init__(self, path: Path, threads: int, options: Mapping[str, str]) -> None:
        self._session = open_session(path, threads, options)
        self.inputs: Sequence[TensorSpec] = [
            tensor_spec(node) for node in self._session.get_inputs()
        ]
        self.outputs: Sequence[TensorSpec] = [
            tensor_spec(node) for node in self._session.get_outputs()
        ]
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


def open_session(path: Path, threads: int, options: Mapping[str, str]) -> Any:
    """Returns an `onnxruntime.InferenceSession` on the device that the options name.

    Args:
        path: The `.onnx`.
        threads: As for `session_options`.
        options: `provider`, and what `session_options` takes.

    Raises:
        InputError: As `providers`, and `cuda_unusable` where ONNX Runtime has the provider but
            cannot start it: it would go on with the CPU, and the figures would not be a GPU's.
    """
    import onnxruntime as ort

    wanted = providers(options)
    session = ort.InferenceSession(
        str(path), session_options(threads, options), providers=list(wanted)
    )
    if wanted[0] not in session.get_providers():
        raise InputError("cuda_unusable", version=ort.__version__)
    return session


def providers(options: Mapping[str, str]) -> tuple[str, ...]:
    """Returns ONNX Runtime's execution providers for the option `provider`, `cpu` or `cuda`.

    Raises:
        InputError: `provider_unknown`, or `cuda_missing` where this ONNX Runtime has no CUDA.
    """
    provider = options.get("provider", CPU)
    if provider == CPU:
        return ("CPUExecutionProvider",)
    if provider != CUDA:
        raise InputError("provider_unknown", given=provider, known=", ".join(PROVIDERS))
    import onnxruntime as ort

    if "CUDAExecutionProvider" not in ort.get_available_providers():
        raise InputError("cuda_missing", version=ort.__version__)
    # What a GPU has no kernel for runs on the CPU, as it would in use.
    return ("CUDAExecutionProvider", "CPUExecutionProvider")


def use_global_pool(threads: int) -> None:
    """Gives all later sessions with the option `pool=global` one set of threads to share.

    Sessions with a pool each would spin against each other on the same cores. Must be called
    before the process makes its first session.

    Args:
        threads: Threads inside one operator.
    """
    import onnxruntime as ort

    ort.set_global_thread_pool_sizes(threads, 1)


def session_options(threads: int, options: Mapping[str, str]) -> Any:
    """Returns `onnxruntime.SessionOptions` with vozmetro's settings.

    Args:
        threads: Threads inside one operator; operators run one after another.
        options: `session.*` configuration entries of ONNX Runtime, passed through; `pool=global`
            takes the threads of `use_global_pool` instead.
    """
    import onnxruntime as ort

    settings = ort.SessionOptions()
    if options.get("pool") == "global":
        settings.use_per_session_threads = False
    else:
        settings.intra_op_num_threads = threads
        settings.inter_op_num_threads = 1
    settings.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    settings.log_severity_level = 3
    for key, value in options.items():
        if key.startswith("session."):
            settings.add_session_config_entry(key, value)
    return settings


def tensor_spec(node: Any) -> TensorSpec:
    """Returns what a session's `NodeArg` declares."""
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
    defaults={"provider": CPU, "execution_mode": "sequential"},
    fixed=frozenset({"execution_mode"}),
)
