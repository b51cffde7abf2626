"""One weight at a time from where it lies to its quantized form in the data file.

The largest piece held is `PART` elements, whatever the size of the weight: a matrix whose scales
need all inputs is read twice, one that must be turned is read or written in strips.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from vozmetro.models.quantize import kernels
from vozmetro.models.quantize.datafile import DataFile
from vozmetro.models.quantize.payload import Floats, Payloads

if TYPE_CHECKING:
    from onnx import TensorProto

PART = 1 << 24
"""Elements read at once (64 MiB of float32)."""

Form = Literal["columns", "blocks", "table"]
"""`columns`: int8 [inputs, outputs] and a scale per output, as `MatMulIntegerToFloat` reads them.
`blocks`: uint8 [outputs, blocks, bytes] and a scale per block, as `MatMulNBits` does. `table`: int8
[rows, width] and a scale per row, to look up."""


@dataclass(frozen=True)
class Matrix:
    """A float32 weight as a layer uses it.

    Attributes:
        tensor: Where it lies, [outputs, inputs] or turned.
        turned: Whether it is stored as [inputs, outputs].
        alpha: Factor that the layer multiplies it by.
    """

    tensor: TensorProto
    turned: bool
    alpha: float = 1.0

    @property
    def shape(self) -> tuple[int, int]:
        """Outputs and inputs."""
        first, second = (int(size) for size in self.tensor.dims)
        return (second, first) if self.turned else (first, second)


@dataclass(frozen=True)
class Stored:
    """A quantized weight in the data file.

    Attributes:
        values: Its values.
        scales: Its scales.
        error: Relative Frobenius error.
    """

    values: TensorProto
    scales: TensorProto
    error: float


class Store:
    """Quantizes weights of one model into one data file.

    Args:
        payloads: Where they are read.
        data: Where they go.
        bits: 4 or 8, of `blocks`.
        block: Inputs that share a scale in `blocks`.
    """

    def __init__(self, payloads: Payloads, data: DataFile, bits: int, block: int) -> None:
        self._payloads = payloads
        self._data = data
        self._bits = bits
        self._block = block

    def sizes(self, form: Form, matrix: Matrix) -> tuple[int, int]:
        """Returns the bytes that the values and the scales will take."""
        outputs, inputs = matrix.shape
        if form == "blocks":
            blocks = -(-inputs // self._block)
            return outputs * blocks * self._block * self._bits // 8, 4 * outputs * blocks
        return outputs * inputs, 4 * outputs

    def put(self, form: Form, matrix: Matrix, names: tuple[str, str]) -> Stored:
        """Quantizes and stores a weight.

        Args:
            form: How.
            matrix: Which.
            names: Of the values and of the scales.

        Raises:
            ModelError: `quantize_not_finite`, or its file cannot be read.
            OutputError: The disk is full.
        """
        from onnx import TensorProto

        outputs, inputs = matrix.shape
        values = TensorProto(name=names[0], data_type=TensorProto.INT8)
        offset = self._data.reserve(values, self.sizes(form, matrix)[0])
        if form == "blocks":
            values.data_type = TensorProto.UINT8
            blocks = -(-inputs // self._block)
            values.dims[:] = [outputs, blocks, self._block * self._bits // 8]
            scales, error = self._blocks(matrix, offset)
        elif form == "table":
            values.dims[:] = [outputs, inputs]
            scales, error = self._rows(matrix, offset, turn=False)
            scales = scales[:, None]
        else:
            values.dims[:] = [inputs, outputs]
            known = self._columns if matrix.turned else self._turned
            scales, error = known(matrix, offset)
        stored = TensorProto(name=names[1], data_type=TensorProto.FLOAT, dims=scales.shape)
        scaled = np.ascontiguousarray(scales * np.float32(matrix.alpha))
        self._data.append(stored, scaled.nbytes, [scaled.tobytes()])
        return Stored(values, stored, error)

    def _columns(self, matrix: Matrix, offset: int) -> tuple[Floats, float]:
        """Stores [inputs, outputs] as it lies: once for the scales, once for the values."""
        outputs, inputs = matrix.shape
        step = 2 * max(1, PART // (2 * outputs))
        peaks = np.zeros(outputs, np.float32)
        kept: Floats | None = None
        for start in range(0, inputs, step):
            part = self._payloads.rows(matrix.tensor, start, min(start + step, inputs))
            peaks = np.maximum(
                peaks, kernels.column_peaks(kernels.usable(part, matrix.tensor.name))
            )
            kept = part if step >= inputs else None
        scales = kernels.int8_scales(peaks)
        error = _Error()
        for start in range(0, inputs, step):
            stop = min(start + step, inputs)
            part = kept if kept is not None else self._payloads.rows(matrix.tensor, start, stop)
            values = np.empty(part.shape, np.int8)
            small = max(1, kernels.ROWS_AT_ONCE // outputs)
            for at in range(0, len(part), small):
                rows = part[at : at + small]
                steps = rows / scales
                values[at : at + small] = found = np.rint(steps)
                error.add(rows, (found - steps) * scales)
            offset += self._data.write(offset, values)
        return scales, error.relative

    def _turned(self, matrix: Matrix, offset: int) -> tuple[Floats, float]:
        return self._rows(matrix, offset, turn=True)

    def _rows(self, matrix: Matrix, offset: int, *, turn: bool) -> tuple[Floats, float]:
        """Stores [outputs, inputs], turned for layers, as it is for tables."""
        outputs, inputs = matrix.shape
        scales = np.empty(outputs, np.float32)
        error = _Error()
        for start, part in self._strips(matrix):
            values, scale = kernels.int8_rows(part, paired=turn)
            scales[start : start + len(part)] = scale
            error.compare(part, values, scale, _row_values)
            if not turn:
                self._data.write(offset + start * inputs, values)
                continue
            strip = np.ascontiguousarray(values.T)
            if len(part) == outputs:
                self._data.write(offset, strip)
                continue
            for row in range(inputs):
                self._data.write(offset + row * outputs + start, strip[row])
        return scales, error.relative

    def _blocks(self, matrix: Matrix, offset: int) -> tuple[Floats, float]:
        outputs, inputs = matrix.shape
        pack, unpack = _block_kernels(self._bits)
        scales = np.empty((outputs, -(-inputs // self._block)), np.float32)
        error = _Error()
        for start, part in self._strips(matrix):
            values, scale = pack(part, self._block)
            scales[start : start + len(part)] = scale
            error.compare(part, values, scale, unpack)
            offset += self._data.write(offset, values)
        return scales, error.relative

    def _strips(self, matrix: Matrix) -> Iterator[tuple[int, Floats]]:
        """Yields some outputs at a time, [outputs, inputs], each with the first one's index."""
        outputs, inputs = matrix.shape
        step = max(1, PART // inputs)
        for start in range(0, outputs, step):
            stop = min(start + step, outputs)
            if matrix.turned:
                strip = self._payloads.columns(matrix.tensor, start, stop)
                part = np.ascontiguousarray(strip.T)
            else:
                part = self._payloads.rows(matrix.tensor, start, stop)
            yield start, kernels.usable(part, matrix.tensor.name)


class _Error:
    """Relative Frobenius error, summed over parts."""

    def __init__(self) -> None:
        self._difference = self._size = 0.0

    def add(self, wanted: Floats, difference: Floats) -> None:
        self._size += float(np.vdot(wanted, wanted))
        self._difference += float(np.vdot(difference, difference))

    def compare(
        self, wanted: Floats, stored: NDArray[Any], scales: Floats, unpack: Callable[..., Floats]
    ) -> None:
        """Adds rows and what is stored for them, some at a time, which caches hold."""
        inputs = wanted.shape[1]
        step = max(1, kernels.ROWS_AT_ONCE // inputs)
        for start in range(0, len(wanted), step):
            rows = slice(start, start + step)
            self.add(wanted[rows], unpack(stored[rows], scales[rows], inputs) - wanted[rows])

    @property
    def relative(self) -> float:
        return math.sqrt(self._difference / self._size) if self._size else 0.0


def _row_values(values: NDArray[np.int8], scales: Floats, _: int) -> Floats:
    return values * scales[:, None]


def _block_kernels(bits: int) -> tuple[Callable[..., Any], Callable[..., Floats]]:
    if bits == 4:
        return kernels.int4_blocks, kernels.int4_values
    return kernels.int8_blocks, kernels.int8_block_values
