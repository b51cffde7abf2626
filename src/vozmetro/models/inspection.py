"""What a model file says about itself, and how much RAM loading it takes.

The RAM arithmetic is `sum over dtypes of (stored bytes x copies) + overhead`. `COPIES` and
`OVERHEAD` were measured as the peak resident set of a fresh process that loads and runs one
model: 24 MatMul layers of 2048 x 2048 under ONNX Runtime 1.32 (CPU, 2 threads) and Whisper base and
tiny.en under CTranslate2 4.8 with compute type int8. BF16 and INT2 are taken to be like FP16 and
INT4, and CTranslate2's other dtypes follow its FP16: what is stored, plus an int8 copy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from vozmetro import units

Format = Literal["ONNX", "CTranslate2"]

COPIES: Mapping[str, tuple[float, float]] = {
    # label: (weights in the .onnx itself, weights in external data)
    "FP16": (3.2, 2.4),  # kept, and cast to FP32 for the CPU's kernels
    "BF16": (3.2, 2.4),
    "INT8": (2.1, 1.2),  # packed beside the parsed file; external data is mapped and dropped
    "INT4": (2.3, 1.3),
    "INT2": (2.3, 1.3),
}
"""Times an ONNX weight byte is held at the peak, by label; `OTHER_COPIES` for the rest."""
OTHER_COPIES = (1.1, 1.1)
CTRANSLATE2_COPIES: Mapping[str, float] = {"FP32": 1.25, "FP16": 1.5, "BF16": 1.5, "INT16": 1.5}
"""The same for CTranslate2, which turns stored floats into int8 while it still holds them."""
OVERHEAD: Mapping[Format, int] = {"ONNX": 100 * units.MB, "CTranslate2": 150 * units.MB}
"""Bytes for Python, the runtime and working memory of short utterances."""


@dataclass(frozen=True)
class Port:
    """An input or output as declared.

    Attributes:
        name: Name in the graph.
        dtype: numpy dtype name, `string`, or the kind of a value that is no tensor.
        shape: Fixed sizes as int, dynamic ones as their symbolic name (`?` if it has none).
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class Inspection:
    """What the file tells, without loading its weights.

    Attributes:
        format: `ONNX` or `CTranslate2`.
        precision: Label by where most weight bytes lie: `FP32`, `FP16`, `BF16`, `INT8`, `INT4`;
            `none` for a graph without weights.
        parameters: Number of weights; scales, zero-points and shape constants are not counted.
        bytes_by_dtype: Stored bytes by label, everything counted.
        weight_bytes: Their sum.
        expected_ram: Peak bytes that loading and running is expected to need.
        opset: Version of the ONNX operators, None for other formats.
        ir_version: Version of the ONNX file layout, None for other formats.
        weights: `dummy` where the file's metadata says that its weights are random.
        inputs: As declared; empty for CTranslate2.
        outputs: As declared; empty for CTranslate2.
        marks: What the file's metadata says, by key (`vozmetro.task`, `vozmetro.seed`...).
        english_only: Whether a Whisper vocabulary has no languages; None where it does not apply.
    """

    format: Format
    precision: str
    parameters: int | None
    bytes_by_dtype: Mapping[str, int]
    weight_bytes: int
    expected_ram: int
    opset: int | None = None
    ir_version: int | None = None
    weights: Literal["real", "dummy"] = "real"
    inputs: tuple[Port, ...] = ()
    outputs: tuple[Port, ...] = ()
    marks: Mapping[str, str] = field(default_factory=dict)
    english_only: bool | None = None

    @property
    def overhead(self) -> int:
        """The part of `expected_ram` that does not grow with the weights, in bytes."""
        return OVERHEAD[self.format]

    @property
    def copies(self) -> float:
        """Times the weights are held at the peak, over all dtypes."""
        return (self.expected_ram - self.overhead) / self.weight_bytes if self.weight_bytes else 1.0


def onnx_ram(inline: Mapping[str, int], external: Mapping[str, int]) -> int:
    """Returns the peak bytes to expect of ONNX Runtime.

    Args:
        inline: Bytes stored in the `.onnx` by label.
        external: Bytes stored beside it by label.
    """
    total = sum(size * COPIES.get(label, OTHER_COPIES)[0] for label, size in inline.items())
    total += sum(size * COPIES.get(label, OTHER_COPIES)[1] for label, size in external.items())
    return round(total) + OVERHEAD["ONNX"]


def ctranslate2_ram(stored: Mapping[str, int]) -> int:
    """Returns the peak bytes to expect of CTranslate2 with int8 computation."""
    total = sum(size * CTRANSLATE2_COPIES.get(label, 1.0) for label, size in stored.items())
    return round(total) + OVERHEAD["CTranslate2"]


def majority(weights: Mapping[str, int]) -> str:
    """Returns the label that holds most bytes, `none` where there are no weights."""
    return max(weights, key=weights.__getitem__) if weights else "none"
