"""How a model is to be quantized, and what became of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from vozmetro.errors import InputError

Mode = Literal["dynamic", "weight-only", "static"]
BLOCKS = (32, 64, 128)
"""Blocks that `MatMulNBits` has fast kernels for; it refuses 512."""


@dataclass(frozen=True)
class Plan:
    """How linear weights are stored and multiplied.

    Attributes:
        bits: 8 or 4.
        mode: `dynamic`: 8 bits, one scale per output, inputs quantized as they come. `static`: the
            same with ranges of the inputs known beforehand. `weight-only`: one scale per block of
            inputs, the inputs quantized inside the kernel by block (`MatMulNBits`); the only mode
            of 4 bits.
        block: Inputs that share a scale in `weight-only`.
        embeddings: Whether tables that are looked up (Gather) are stored at 8 bits too.
        ranges: Lowest and highest value by name of the value that a layer reads, for `static`.
            Layers without one are quantized as in `dynamic`, and that is said.

    Raises:
        InputError: `quantize_bits`, `quantize_block` or `quantize_int4_mode`.
    """

    bits: Literal[8, 4] = 8
    mode: Mode = "dynamic"
    block: int = 128
    embeddings: bool = False
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.bits not in (8, 4):
            raise InputError("quantize_bits", given=self.bits)
        if self.block not in BLOCKS:
            raise InputError("quantize_block", given=self.block)
        if self.bits == 4 and self.mode != "weight-only":
            raise InputError("quantize_int4_mode", mode=self.mode)

    @property
    def label(self) -> str:
        """The mark `vozmetro.precision` of the file: `int8`, `int8-static`, `int4-b128`..."""
        if self.mode == "weight-only":
            return f"int{self.bits}-b{self.block}"
        return "int8-static" if self.mode == "static" else "int8"


@dataclass(frozen=True)
class Layer:
    """A quantized weight.

    Attributes:
        name: Of the first node that reads it.
        weight: Name it had.
        op: `MatMul`, `Gemm` or `Gather`.
        outputs: Rows.
        inputs: Columns.
        nodes: Nodes that read it.
        error: Frobenius norm of (stored - weight) over that of the weight.
        bytes_before: In the source.
        bytes_after: Values and scales.
    """

    name: str
    weight: str
    op: str
    outputs: int
    inputs: int
    nodes: int
    error: float
    bytes_before: int
    bytes_after: int


@dataclass(frozen=True)
class Left:
    """A weight that stays as it was.

    Attributes:
        name: Of the tensor.
        op: First operator that reads it, empty if none does.
        parameters: Weights in it.
        bytes: Its size.
        reason: `vector`, `conv`, `embedding`, `left-hand`, `batched`, `dtype`, `function` or
            `operator`: the key `quantize.left_REASON` of the catalogues.
    """

    name: str
    op: str
    parameters: int
    bytes: int
    reason: str


@dataclass(frozen=True)
class QuantizeReport:
    """What was done to one graph.

    Attributes:
        source: The file that was read.
        output: The file that was written; its weights lie in the same name plus `.data`.
        precision: `Plan.label`.
        source_bytes: Size of the source with its external data.
        output_bytes: Size of the output with its data.
        parameters: Weights in the source.
        quantized_parameters: Of them, those that are stored with fewer bits now.
        weight_bytes: Bytes of all weights in the source.
        quantized_weight_bytes: Of them, those of the quantized ones.
        layers: In the order of the graph.
        left: Largest first.
        dynamic_fallback: Layers without a known range in `static`, by the name of their input.
        seconds: Wall time.
    """

    source: Path
    output: Path
    precision: str
    source_bytes: int
    output_bytes: int
    parameters: int
    quantized_parameters: int
    weight_bytes: int
    quantized_weight_bytes: int
    layers: tuple[Layer, ...]
    left: tuple[Left, ...]
    dynamic_fallback: tuple[str, ...]
    seconds: float

    @property
    def share(self) -> float:
        """Share of the weight bytes that are quantized, above 0 and at most 1."""
        return self.quantized_weight_bytes / self.weight_bytes

    @property
    def share_parameters(self) -> float:
        """Share of the parameters that are quantized."""
        return self.quantized_parameters / self.parameters


Listener = Callable[[str, int, int], None]
"""Told the name of a weight, the bytes read so far and all bytes to read."""
