"""Writes an ONNX graph node by node, its weights streamed to a file beside it.

Weights are quantized while they are written, so that a model never exists in full precision and
never lies in memory whole. Nothing appears under the final names before everything is written.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from vozmetro.models.convert.source import Rows
from vozmetro.models.quantize.datafile import DataFile
from vozmetro.models.quantize.kernels import int4_blocks, int8_rows, usable
from vozmetro.models.quantize.store import PART
from vozmetro.models.quantize.versions import MICROSOFT

__all__ = ["MICROSOFT", "GraphBuilder", "Matrix", "Precision", "Scheme", "parts_of"]

Precision = Literal["fp32", "int8", "int4"]
Matrix = NDArray[np.float32] | Rows

OPSET, IR_VERSION = 21, 10
INLINE_BYTES = 1024
"""Tensors up to this size stay in the `.onnx`, where shapes and constants can be read."""


@dataclass(frozen=True)
class Scheme:
    """How linear weights are stored.

    Attributes:
        precision: `fp32`; `int8`: symmetric per output, inputs quantized as they come, right on
            every CPU (`kernels` says how); `int4`: symmetric per block, 8-bit arithmetic
            (`accuracy_level` 4).
        block: Inputs that share a scale in `int4`: 32, 64 or 128.
    """

    precision: Precision = "fp32"
    block: int = 128


class GraphBuilder:
    """A graph in the making; use it as a context manager and `save` at the end.

    Args:
        path: The `.onnx` to write; weights go to the same name plus `.data`.
        scheme: How `linear` and `embedding` store weights.
        name: Name of the graph.

    Raises:
        OutputError: `unwritable` or `disk_full`, here and in every method that stores weights.
    """

    def __init__(self, path: Path, scheme: Scheme, name: str) -> None:
        self.path = path
        self.scheme = scheme
        self._name = name
        self._nodes: list[Any] = []
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []
        self._initializers: list[Any] = []
        self._names: set[str] = set()
        self._quantized_inputs: dict[str, list[str]] = {}
        self._metadata: dict[str, str] = {}
        self._data = DataFile(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._data.__exit__(kind, error, traceback)

    # Names, ports and constants ------------------------------------------------------------------

    def unique(self, name: str) -> str:
        """Returns the name, with a number behind it where it is taken, and takes it."""
        found, number = name, 1
        while found in self._names:
            number += 1
            found = f"{name}_{number}"
        self._names.add(found)
        return found

    def input(self, name: str, dtype: Any, shape: Sequence[int | str]) -> str:
        """Declares a graph input; sizes as int, dynamic ones as a name."""
        self._inputs.append(_port(name, dtype, shape))
        self._names.add(name)
        return name

    def optional(self, name: str, default: NDArray[Any], shape: Sequence[int | str]) -> str:
        """Declares a graph input that has a value where it is not given (ONNX IR 4)."""
        self.weight(name, default)
        self._inputs.append(_port(name, default.dtype, shape))
        return name

    def output(self, name: str, dtype: Any, shape: Sequence[int | str]) -> str:
        """Declares a graph output, which a node must make under that name."""
        self._outputs.append(_port(name, dtype, shape))
        return name

    def constant(self, values: Any, dtype: Any = None, name: str = "constant") -> str:
        """Stores a small array (shapes, scalars) and returns its name."""
        return self.weight(name, np.asarray(values, dtype=dtype))

    def weight(self, name: str, array: NDArray[Any], *, element: int | None = None) -> str:
        """Stores an array as it is and returns its name.

        Args:
            name: Wished name.
            array: Any dtype that ONNX has.
            element: `TensorProto.DataType` where numpy's dtype does not say it.
        """
        tensor = self._tensor(name, array.dtype, array.shape)
        tensor.data_type = element or tensor.data_type
        array = np.ascontiguousarray(array)
        if array.nbytes <= INLINE_BYTES:
            tensor.raw_data = array.tobytes()
        else:
            self._data.append(tensor, array.nbytes, [array])
        return str(tensor.name)

    def _tensor(self, name: str, dtype: Any, shape: Sequence[int]) -> Any:
        """Adds an initializer that has no values yet."""
        from onnx import TensorProto, helper

        tensor = TensorProto(name=self.unique(name), dims=shape)
        tensor.data_type = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        self._initializers.append(tensor)
        return tensor

    def _streamed(
        self, name: str, dtype: Any, shape: tuple[int, ...], parts: Iterable[NDArray[Any]]
    ) -> str:
        """Stores an array that comes in parts along its first axis, as `weight` would whole."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if size <= INLINE_BYTES:
            return self.weight(name, np.concatenate(list(parts)))
        tensor = self._tensor(name, dtype, shape)
        self._data.append(tensor, size, parts)
        return str(tensor.name)

    def _turned(
        self,
        name: str,
        dtype: Any,
        shape: tuple[int, int],
        parts: Iterable[tuple[int, NDArray[Any]]],
    ) -> str:
        """Stores a matrix [outputs, inputs] as [inputs, outputs].

        Args:
            name: Wished name.
            dtype: Of the values.
            shape: Outputs and inputs.
            parts: Some rows at a time, each with the first one's number.
        """
        outputs, inputs = shape
        item = np.dtype(dtype).itemsize
        if outputs * inputs * item <= INLINE_BYTES:
            return self.weight(name, np.concatenate([part for _, part in parts]).T)
        tensor = self._tensor(name, dtype, (inputs, outputs))
        offset = self._data.reserve(tensor, outputs * inputs * item)
        for start, part in parts:
            strip = np.ascontiguousarray(part.T)
            if len(part) == outputs:
                self._data.write(offset, strip)
                continue
            for row in range(inputs):
                self._data.write(offset + (row * outputs + start) * item, strip[row])
        return str(tensor.name)

    # Nodes ---------------------------------------------------------------------------------------

    def node(
        self,
        op: str,
        inputs: Sequence[str],
        *,
        name: str | None = None,
        outputs: int | Sequence[str] = 1,
        domain: str = "",
        **attributes: Any,
    ) -> list[str]:
        """Adds a node and returns the names of its outputs.

        Args:
            op: Operator.
            inputs: Names; empty ones are left out inputs.
            name: Wished name of the node, from which its outputs are named.
            outputs: How many, or their names (`""` for one left out).
            domain: `MICROSOFT` for ONNX Runtime's own operators.
            **attributes: As the operator defines them; None is left out.
        """
        from onnx import helper

        name = self.unique(name or op)
        if isinstance(outputs, int):
            made = [self.unique(f"{name}/{index}") for index in range(outputs)]
        else:
            made = list(outputs)
            self._names.update(made)
        given = {key: value for key, value in attributes.items() if value is not None}
        self._nodes.append(
            helper.make_node(op, list(inputs), made, name=name, domain=domain, **given)
        )
        return made

    def op(self, op: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        """Adds a node with one output and returns its name; `node` for anything else."""
        return self.node(op, inputs, name=name, **attributes)[0]

    def linear(
        self,
        x: str,
        name: str,
        weights: Matrix,
        bias: NDArray[np.float32] | None = None,
        *,
        output: str | None = None,
        precision: Precision | None = None,
    ) -> str:
        """Adds x @ weights.T + bias in the scheme's precision and returns its name.

        Args:
            x: float32 [..., inputs].
            name: Wished name.
            weights: float32 [outputs, inputs], as PyTorch stores a linear layer; `Rows` where it
                is large or made of several.
            bias: float32 [outputs].
            output: Name of the result, where it is fixed.
            precision: Overrides the scheme's.
        """
        chosen = precision or self.scheme.precision
        extra = [self.weight(f"{name}.bias", bias)] if bias is not None else []
        made: int | Sequence[str] = [output] if output else 1
        if chosen == "int4":
            stored = self._int4(name, weights)
            return self.node(
                "MatMulNBits",
                [x, *stored, *(["", "", *extra] if extra else [])],
                name=name,
                outputs=made,
                domain=MICROSOFT,
                K=weights.shape[1],
                N=weights.shape[0],
                bits=4,
                block_size=self.scheme.block,
                accuracy_level=4,
            )[0]
        if chosen == "int8":
            stored = self._int8(name, weights)
            quantized, x_scale, x_zero = self._quantized(x)
            inputs = [quantized, stored[0], x_scale, stored[1], x_zero]
            return self.node(
                "MatMulIntegerToFloat",
                [*inputs, *(["", *extra] if extra else [])],
                name=name,
                outputs=made,
                domain=MICROSOFT,
            )[0]
        product = [x, self._turned(f"{name}.weight", np.float32, weights.shape, parts_of(weights))]
        if not extra:
            return self.node("MatMul", product, name=name, outputs=made)[0]
        summed = self.op("MatMul", *product, name=name)
        return self.node("Add", [summed, *extra], name=f"{name}.add", outputs=made)[0]

    def _int4(self, name: str, weights: Matrix) -> list[str]:
        """Stores a matrix as `MatMulNBits` reads it: packed values, scales."""
        rows, columns = weights.shape
        blocks = -(-columns // self.scheme.block)
        scales = np.empty((rows, blocks), np.float32)

        def packed() -> Iterator[NDArray[np.uint8]]:
            for start, part in parts_of(weights):
                values, scales[start : start + len(part)] = int4_blocks(
                    usable(part, name), self.scheme.block
                )
                yield values

        shape = (rows, blocks, self.scheme.block // 2)
        stored = self._streamed(f"{name}.weight_q4", np.uint8, shape, packed())
        return [stored, self.weight(f"{name}.weight_scales", scales)]

    def _int8(self, name: str, weights: Matrix) -> list[str]:
        """Stores a matrix as `MatMulIntegerToFloat` reads it: values [inputs, outputs], scales."""
        scale = np.empty(weights.shape[0], np.float32)

        def values() -> Iterator[tuple[int, NDArray[np.int8]]]:
            for start, part in parts_of(weights):
                rows, scale[start : start + len(part)] = int8_rows(usable(part, name))
                yield start, rows

        stored = self._turned(f"{name}.weight_q8", np.int8, weights.shape, values())
        return [stored, self.weight(f"{name}.weight_scale", scale)]

    def _quantized(self, x: str) -> list[str]:
        """Quantizes a value to uint8 once, however many layers read it."""
        if x not in self._quantized_inputs:
            self._quantized_inputs[x] = self.node(
                "DynamicQuantizeLinear", [x], name=f"{x}.quantized", outputs=3
            )
        return self._quantized_inputs[x]

    def embedding(self, ids: str, name: str, weights: Matrix) -> str:
        """Adds the rows of a table that `ids` (int64) ask for and returns the name.

        Tables are stored at 8 bits per row in `int8` and `int4` (a lookup reads one row, so that
        fewer bits would save no time, only accuracy).
        """
        from onnx import TensorProto

        if self.scheme.precision == "fp32":
            parts = (part for _, part in parts_of(weights))
            table = self._streamed(f"{name}.weight", np.float32, weights.shape, parts)
            return self.op("Gather", table, ids, name=name)
        scale = np.empty((weights.shape[0], 1), np.float32)

        def values() -> Iterator[NDArray[np.int8]]:
            for start, part in parts_of(weights):
                rows, scale[start : start + len(part), 0] = int8_rows(
                    usable(part, name), paired=False
                )
                yield rows

        table = self._streamed(f"{name}.weight_q8", np.int8, weights.shape, values())
        rows = self.op("Gather", table, ids, name=name)
        scales = self.weight(f"{name}.weight_scale", scale)
        found = self.op("Gather", scales, ids, name=f"{name}.scale")
        return self.op(
            "Mul", self.op("Cast", rows, to=TensorProto.FLOAT), found, name=f"{name}.mul"
        )

    # The end -------------------------------------------------------------------------------------

    def mark(self, marks: Mapping[str, str]) -> None:
        """Adds metadata of the model (`metadata_props`)."""
        self._metadata.update(marks)

    def save(self) -> Path:
        """Writes both files under their final names and returns the path of the `.onnx`."""
        from onnx import helper

        graph = helper.make_graph(
            self._nodes, self._name, self._inputs, self._outputs, self._initializers
        )
        imports = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
        model = helper.make_model(
            graph, opset_imports=imports, ir_version=IR_VERSION, producer_name="vozmetro"
        )
        helper.set_model_props(model, dict(sorted(self._metadata.items())))
        self._data.publish(model)
        return self.path


def parts_of(weights: Matrix) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yields the number of the first row and the rows, a part at a time.

    Quantization works row by row, so that the parts' size does not change what is written.
    """
    if not isinstance(weights, Rows):
        yield 0, weights
        return
    rows, columns = weights.shape
    step = max(1, PART // columns)
    for start in range(0, rows, step):
        yield start, weights.read(start, min(start + step, rows))


def _port(name: str, dtype: Any, shape: Sequence[int | str]) -> Any:
    from onnx import helper

    element = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return helper.make_tensor_value_info(name, element, list(shape))
