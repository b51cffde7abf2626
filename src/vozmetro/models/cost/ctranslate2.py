"""The cost of a Whisper in CTranslate2's format, which has no graph: from the shapes it stores.

Encoder and decoder are as in Radford et al. 2022, "Robust Speech Recognition via Large-Scale Weak
Supervision": two convolutions, then transformer layers; the encoder always sees 3000 frames here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vozmetro.models.cost.count import Kind
from vozmetro.models.ctranslate2 import Variable, read_variables

FRAMES = 3000
_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "int16": 2}
"""Bytes of a weight by compute type; 1 for every kind of int8."""


@dataclass(frozen=True)
class Part:
    """Bytes of weights, and multiply-adds by arithmetic."""

    bytes: int
    macs: dict[str, int]


@dataclass(frozen=True)
class WhisperCost:
    """What a Whisper takes.

    Attributes:
        encoder: One window, with the keys and values of cross-attention.
        prefill: The prompt of a transcript.
        step: One token.
    """

    encoder: Part
    prefill: Part
    step: Part


def whisper_cost(folder: Path, compute_type: str, prompt: int, past: int) -> WhisperCost:
    """Returns the cost of one window of 30 s.

    Args:
        folder: With `model.bin`.
        compute_type: CTranslate2's, e.g. `int8`.
        prompt: Tokens before the first word.
        past: Tokens before the one that is counted.

    Raises:
        ModelError: What `read_variables` raises.
    """
    held = [
        one
        for one in read_variables(folder / "model.bin")
        if one.name.endswith("weight") and len(one.shape) > 1
    ]
    encoder = [one for one in held if one.name.startswith("encoder/")]
    decoder = [one for one in held if one.name.startswith("decoder/")]
    # Keys and values of cross-attention are made once, of the encoder's output.
    crossed = [one for one in decoder if one.name.endswith("/attention/linear_1/weight")]
    embedding = next(one for one in decoder if one.name == "decoder/embeddings/weight")
    tables = ("decoder/embeddings/weight", "decoder/position_encodings/weight")
    # Each token passes all these; the head is the embedding table.
    linear = [one for one in decoder if one not in crossed and one.name not in tables]
    width, positions = embedding.shape[1], FRAMES // 2
    layers = len(crossed)
    kind: Kind = "int8" if compute_type.startswith("int8") else "fp32"
    size = _BYTES.get(compute_type, 1)

    def step(tokens: int, before: int) -> Part:
        seen = tokens * before + tokens * (tokens + 1) // 2
        products = tokens * _elements(linear) + _elements([embedding])
        attention = 2 * layers * width * (seen + tokens * positions)
        return Part(
            (_elements([*linear, embedding])) * size
            + 2 * 4 * layers * width * (before + positions),
            _macs(kind, products, attention),
        )

    matrices = [one for one in encoder if "conv" not in one.name and "position" not in one.name]
    convolutions = [one for one in encoder if "conv" in one.name]
    depth = len({one.name.split("/")[1] for one in matrices if "layer_" in one.name})
    # The first convolution keeps the frames, the second one halves them.
    convolved = sum(
        math.prod(one.shape) * (FRAMES if "conv1" in one.name else positions)
        for one in convolutions
    )
    return WhisperCost(
        encoder=Part(
            _elements([*matrices, *convolutions, *crossed]) * size,
            _macs(
                kind,
                _elements([*matrices, *crossed]) * positions,
                convolved + 2 * depth * positions**2 * width,
            ),
        ),
        prefill=step(prompt, 0),
        step=step(1, past),
    )


def _macs(kind: Kind, products: int, rest: int) -> dict[str, int]:
    """Multiply-adds of the products, and of what stays in float32."""
    if kind == "fp32":
        return {"fp32": products + rest}
    return {kind: products, "fp32": rest}


def _elements(variables: Sequence[Variable]) -> int:
    return sum(math.prod(one.shape) for one in variables)
