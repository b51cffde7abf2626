"""The arithmetic of weight quantization, for one matrix [outputs, inputs] at a time.

INT8: symmetric, one scale per output (Jacob et al. 2018, "Quantization and Training of Neural
Networks for Efficient Integer-Arithmetic-Only Inference"). INT4: symmetric, one scale per block of
inputs, packed as ONNX Runtime's `MatMulNBits` reads it.

Why INT8 weights that are multiplied leave room for pairs. Inputs are quantized to uint8 as they
come. x86 without VNNI multiplies uint8 by int8 with VPMADDUBSW, which adds the products of inputs
0 and 1, 2 and 3, ... in 16 bits and saturates: 255 * (127 + 127) does not fit, silently. A file
made on one machine runs on another, so the weights must be right on every CPU. Measured by
`benchmarks/int8_weights.py` on 2 cores of a Zen 3 (AVX2): error of the output of the worst and the
median of the 48 linear layers of Whisper base's encoder on real speech, of a layer with uniform
random weights, and time of 2560 x 2560 for 64 inputs:

=====================================  =======  =======  =======  ==============================
stored                                 worst    median   uniform  speed
=====================================  =======  =======  =======  ==============================
int8, 8 bits                           12.1 %    2.3 %    9.1 %   3.6 ms
int8, 7 bits (`reduce_range`)           3.9 %    2.3 %    0.8 %   3.7 ms
uint8 around 128                        3.2 %    1.8 %    0.4 %   4.4 ms (no VNNI where there is)
int8, 8 bits, pairs fit in 16 (ours)    3.3 %    1.9 %    0.8 %   3.6 ms
=====================================  =======  =======  =======  ==============================

Ours picks each row's scale so that no pair can exceed 128 in sum. Large weights are rarely
neighbours, so that on trained weights it costs a scale 1.11 to 1.31 times that of 8 bits where 7
bits cost 2; the sums are exact on every CPU, and VNNI and ARM lose nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vozmetro.errors import ModelError

Floats = NDArray[np.float32]

MOST = 1e18
"""Weights from here on are damage: their squares leave float32, and no network has them."""
ROWS_AT_ONCE = 1 << 18
"""Elements worked on at once: a few passes over them stay in the processor's caches."""


def usable(values: Floats, name: str) -> Floats:
    """Returns the values, refusing those whose scale would ruin a whole row.

    Raises:
        ModelError: `quantize_not_finite`.
    """
    # NaN is on neither side of anything.
    if not (values.max(initial=0) < MOST and values.min(initial=0) > -MOST):
        raise ModelError("quantize_not_finite", weight=name)
    return values


def int8_rows(weights: Floats, *, paired: bool = True) -> tuple[NDArray[np.int8], Floats]:
    """Quantizes each row on its own; a row of zeros has the scale 1.

    Args:
        weights: float32 [outputs, inputs], finite.
        paired: Whether the sum of weights 0 and 1, 2 and 3, ... must stay within 128, so that
            integer kernels add their products with uint8 in 16 bits without saturating. False
            for what is only looked up or turned back to float32.

    Returns:
        int8 [outputs, inputs] within +-127 and its scales, float32 [outputs]: weights = values *
        scale, each to within half a scale.
    """
    values = np.empty(weights.shape, np.int8)
    scales = np.empty(len(weights), np.float32)
    step = max(1, ROWS_AT_ONCE // max(1, weights.shape[1]))
    for start in range(0, len(weights), step):
        rows = weights[start : start + step]
        scale = int8_scales(row_peaks(rows, paired=paired))
        scales[start : start + step] = scale
        values[start : start + step] = np.rint(rows / scale[:, None])
    return values, scales


def int8_scales(peaks: Floats) -> Floats:
    """Returns the scales with which values up to `peaks` stay within 127 (0 gives the scale 1)."""
    # Rounding adds at most a half to each of a pair: 127 in sum becomes 128.
    scales = (peaks / np.float32(127)).astype(np.float32)
    # Denormal scales lose the digits that make a row's own maximum 127; such rows become zeros.
    scales[scales < np.finfo(np.float32).tiny] = 1
    return scales


def row_peaks(weights: Floats, *, paired: bool = True) -> Floats:
    """Returns what `int8_scales` needs of weights [outputs, inputs]: float32 [outputs]."""
    most = np.maximum(weights.max(axis=1, initial=0), -weights.min(axis=1, initial=0))
    even = weights.shape[1] // 2 * 2
    if paired and even:
        sums = weights[:, 0:even:2] + weights[:, 1:even:2]
        most = np.maximum(most, np.maximum(sums.max(axis=1), -sums.min(axis=1)))
    return np.asarray(most, np.float32)


def column_peaks(weights: Floats, *, paired: bool = True) -> Floats:
    """The same of weights [inputs, outputs], or of some inputs from an even one on."""
    most = np.maximum(weights.max(axis=0, initial=0), -weights.min(axis=0, initial=0))
    even = len(weights) // 2 * 2
    if paired and even:
        sums = weights[0:even:2] + weights[1:even:2]
        most = np.maximum(most, np.maximum(sums.max(axis=0), -sums.min(axis=0)))
    return np.asarray(most, np.float32)


def int4_blocks(weights: Floats, block: int) -> tuple[NDArray[np.uint8], Floats]:
    """Quantizes each block of `block` inputs on its own to 4 bits around 8.

    The scale is the value of largest magnitude over -8, so that it is met exactly.

    Args:
        weights: float32 [outputs, inputs].
        block: 32, 64 or 128; the last block of a row is padded with zeros.

    Returns:
        uint8 [outputs, blocks, block / 2], even inputs in the low half, and scales,
        float32 [outputs, blocks]: weights = (nibble - 8) * scale.
    """
    rows, inputs = weights.shape
    blocks = -(-inputs // block)
    packed = np.empty((rows, blocks, block // 2), np.uint8)
    scales = np.empty((rows, blocks), np.float32)
    step = max(1, ROWS_AT_ONCE // max(1, blocks * block))
    for start in range(0, rows, step):
        part = weights[start : start + step]
        if blocks * block != inputs:
            part = np.pad(part, [(0, 0), (0, blocks * block - inputs)])
        part = part.reshape(len(part), blocks, block)
        low, high = part.min(axis=2), part.max(axis=2)
        scale = np.where(-low > high, low, high) / np.float32(-8)
        scale[np.abs(scale) < np.finfo(np.float32).tiny] = 0
        scales[start : start + step] = scale
        scale = np.where(scale == 0, np.float32(1), scale)
        q = part * (np.float32(1) / scale)[..., None]
        q += np.float32(8.5)
        np.clip(q, 0, 15.5, out=q)
        nibbles = q.astype(np.uint8)
        packed[start : start + step] = nibbles[..., 0::2] | (nibbles[..., 1::2] << 4)
    return packed, scales


def int4_values(packed: NDArray[np.uint8], scales: Floats, inputs: int) -> Floats:
    """Returns the float32 [outputs, inputs] that `int4_blocks` stands for."""
    nibbles = np.empty((*packed.shape[:2], packed.shape[2] * 2), np.uint8)
    nibbles[..., 0::2] = packed & 15
    nibbles[..., 1::2] = packed >> 4
    values = (nibbles.astype(np.float32) - 8) * scales[..., None]
    return values.reshape(len(packed), -1)[:, :inputs]


def int8_blocks(weights: Floats, block: int) -> tuple[NDArray[np.uint8], Floats]:
    """Quantizes each block of `block` inputs on its own to 8 bits around 128, for `MatMulNBits`.

    Its kernels widen before they add, so that pairs need no room.

    Args:
        weights: float32 [outputs, inputs].
        block: 32, 64 or 128; the last block of a row is padded with zeros.

    Returns:
        uint8 [outputs, blocks, block] and scales, float32 [outputs, blocks]:
        weights = (value - 128) * scale.
    """
    rows, inputs = weights.shape
    blocks = -(-inputs // block)
    values = np.empty((rows, blocks, block), np.uint8)
    scales = np.empty((rows, blocks), np.float32)
    step = max(1, ROWS_AT_ONCE // max(1, blocks * block))
    for start in range(0, rows, step):
        part = weights[start : start + step]
        if blocks * block != inputs:
            part = np.pad(part, [(0, 0), (0, blocks * block - inputs)])
        part = part.reshape(len(part), blocks, block)
        scale = int8_scales(np.maximum(part.max(axis=2), -part.min(axis=2)))
        scales[start : start + step] = scale
        values[start : start + step] = np.rint(part / scale[..., None]) + np.float32(128)
    return values, scales


def int8_block_values(values: NDArray[np.uint8], scales: Floats, inputs: int) -> Floats:
    """Returns the float32 [outputs, inputs] that `int8_blocks` stands for."""
    found = (values.astype(np.float32) - 128) * scales[..., None]
    return found.reshape(len(values), -1)[:, :inputs]
