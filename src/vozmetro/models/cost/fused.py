"""Shapes that ONNX Runtime's own operators give; onnx's shape inference does not know them.

Operators as documented in onnxruntime's `docs/ContribOperators.md`. Several of them also stand in
the standard domain of graphs that ONNX Runtime wrote (`SimplifiedLayerNormalization`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vozmetro.models.cost.values import UNKNOWN, Shape, Value

Inputs = Sequence[Value]
Attributes = Mapping[str, Any]
Rule = Callable[[Inputs, Attributes], list[Value]]

FLOAT, UINT8 = 1, 2


def _same(inputs: Inputs, _: Attributes) -> list[Value]:
    """One output like the first input."""
    return [Value(inputs[0].element, inputs[0].shape)]


def _widest(inputs: Inputs, _: Attributes) -> list[Value]:
    """One output like the input with most elements: elementwise with broadcasting."""
    most = max((one for one in inputs if one.shape is not None), key=lambda one: one.elements)
    return [Value(inputs[0].element, most.shape)]


def _skip_norm(inputs: Inputs, _: Attributes) -> list[Value]:
    """Output, mean, inverse deviation, and the sum that the next layer goes on with."""
    like = Value(inputs[0].element, inputs[0].shape)
    return [like, UNKNOWN, UNKNOWN, like]


def _last(like: Value, size: int, element: int = 0) -> Value:
    """Like a value with another last size."""
    shape = None if like.shape is None else (*like.shape[:-1], size)
    return Value(element or like.element, shape)


def _n_bits(inputs: Inputs, given: Attributes) -> list[Value]:
    return [_last(inputs[0], int(given["N"]))]


def _product(a: Value, b: Value, given: Attributes, element: int = 0) -> list[Value]:
    """Matrix product with the transpositions of `FusedMatMul`."""
    return [Value(element or a.element, product_shape(a, b, given))]


def product_shape(a: Value, b: Value, given: Attributes) -> Shape | None:
    """Returns the shape of a matrix product as numpy's matmul gives it, None where unknown."""
    if not a.shape or not b.shape or len(a.shape) < 2 or len(b.shape) < 2:
        return None
    rows = a.shape[-1] if given.get("transA") else a.shape[-2]
    columns = b.shape[-2] if given.get("transB") else b.shape[-1]
    batch = a.shape[:-2] if len(a.shape) >= len(b.shape) else b.shape[:-2]
    return (*batch, rows, columns)


def _matmul(inputs: Inputs, given: Attributes) -> list[Value]:
    return _product(inputs[0], inputs[1], given)


def _to_float(inputs: Inputs, given: Attributes) -> list[Value]:
    return _product(inputs[0], inputs[1], given, inputs[2].element or FLOAT)


def _q_linear_matmul(inputs: Inputs, given: Attributes) -> list[Value]:
    # a, scale, zero point, b, ...
    return _product(inputs[0], inputs[3], given)


def _grouped_query(inputs: Inputs, given: Attributes) -> list[Value]:
    """query, key, value, past_key, past_value, seqlens_k, total_sequence_length, ..."""
    query, key, past = inputs[0], inputs[1], inputs[3]
    heads, kv_heads = int(given["num_heads"]), int(given["kv_num_heads"])
    if query.shape is None:
        return [UNKNOWN] * 3
    batch, sequence, width = query.shape
    if key.shape is None:  # query, key and value in one
        width = width * heads // (heads + 2 * kv_heads)
    head = width // heads
    # Past and present may share one buffer, which is then as long as the longest text.
    length = max(past.size(2), _total(inputs, sequence))
    present = Value(past.element or query.element, (batch, kv_heads, length, head))
    return [Value(query.element, (batch, sequence, heads * head)), present, present]


def _total(inputs: Inputs, sequence: int) -> int:
    """Positions that the last query sees."""
    total = inputs[6].content if len(inputs) > 6 else None
    if total is not None and total.size:
        return int(total.reshape(-1)[0])
    return inputs[3].size(2) + sequence


def _multi_head(inputs: Inputs, given: Attributes) -> list[Value]:
    """query, key, value, bias, key_padding_mask, attention_bias, past_key, past_value."""
    query, key, value = (_at(inputs, index) for index in range(3))
    past = _at(inputs, 6)
    if query.shape is None:
        return [UNKNOWN] * 3
    heads = int(given["num_heads"])
    batch, sequence = query.shape[:2]
    if len(query.shape) == 5:  # packed [batch, sequence, heads, 3, head]
        head = query.shape[4]
        length, width = sequence, heads * head
    elif value.shape is not None and len(value.shape) == 4:  # [batch, heads, length, head]
        length, head = value.shape[2], value.shape[3]
        width = heads * head
    else:
        width = value.size(-1) if value.shape is not None else query.shape[-1]
        length = key.size(1) if key.shape is not None else sequence
        head = width // heads
    total = length + past.size(2)
    present = Value(query.element, (batch, heads, total, head))
    return [Value(query.element, (batch, sequence, width)), present, present]


def _attention(inputs: Inputs, given: Attributes) -> list[Value]:
    """com.microsoft Attention: input, weights of q, k and v, bias, mask, past."""
    x, weights, past = inputs[0], inputs[1], _at(inputs, 4)
    if x.shape is None:
        return [UNKNOWN] * 2
    heads = int(given["num_heads"])
    sizes = given.get("qkv_hidden_sizes")
    width = int(sizes[2]) if sizes else weights.size(-1) // 3
    batch, sequence = x.shape[:2]
    present = (2, batch, heads, past.size(3) + sequence, width // heads)
    return [_last(x, width), Value(x.element, present)]


def _gathered_block(inputs: Inputs, given: Attributes) -> list[Value]:
    """Rows of a table stored in 4 or 8 bits per weight; two weights of 4 bits in a uint8."""
    table, ids, scales = inputs[:3]
    if table.shape is None or ids.shape is None:
        return [UNKNOWN]
    packed = 8 // int(given.get("bits", 4)) if table.element == UINT8 else 1
    axis = int(given.get("gather_axis", 0)) % len(table.shape)
    sizes = [*table.shape[:-1], table.shape[-1] * packed]
    return [Value(scales.element, (*sizes[:axis], *ids.shape, *sizes[axis + 1 :]))]


def _quantized_input(inputs: Inputs, _: Attributes) -> list[Value]:
    zero = _at(inputs, 2)
    return [Value(zero.element or UINT8, inputs[0].shape, bits=8)]


def _dequantized(inputs: Inputs, _: Attributes) -> list[Value]:
    return [Value(inputs[1].element or FLOAT, inputs[0].shape)]


def _concatenated(inputs: Inputs, given: Attributes) -> list[Value]:
    """QLinearConcat: scale and zero point of the output, then (tensor, scale, zero point)..."""
    parts = inputs[2::3]
    if not parts or any(one.shape is None for one in parts):
        return [UNKNOWN]
    shape = list(parts[0].shape or ())
    axis = int(given["axis"])
    shape[axis] = sum(one.size(axis) for one in parts)
    return [Value(parts[0].element, tuple(shape))]


def _at(inputs: Inputs, index: int) -> Value:
    return inputs[index] if index < len(inputs) else UNKNOWN


RULES: Mapping[str, Rule] = {
    "MatMulNBits": _n_bits,
    "MatMulBnb4": _n_bits,
    "MatMulIntegerToFloat": _to_float,
    "DynamicQuantizeMatMul": _matmul,
    "FusedMatMul": _matmul,
    "TransposeMatMul": _matmul,
    "QLinearMatMul": _q_linear_matmul,
    "GroupQueryAttention": _grouped_query,
    "MultiHeadAttention": _multi_head,
    "DecoderMaskedMultiHeadAttention": _multi_head,
    "Attention": _attention,
    "GatherBlockQuantized": _gathered_block,
    "QuantizeLinear": _quantized_input,
    "DequantizeLinear": _dequantized,
    "QLinearConcat": _concatenated,
    "SkipLayerNormalization": _skip_norm,
    "SkipSimplifiedLayerNormalization": _skip_norm,
    **dict.fromkeys(
        [
            "SimplifiedLayerNormalization",
            "LayerNormalization",
            "RMSNormalization",
            "RotaryEmbedding",
            "Gelu",
            "FastGelu",
            "QuickGelu",
            "BiasGelu",
            "MoE",
            "QMoE",
            "QLinearSigmoid",
            "QLinearLeakyRelu",
            "QLinearSoftmax",
            "Trilu",
            "Inverse",
        ],
        _same,
    ),
    **dict.fromkeys(["BiasAdd", "BiasSplitGelu", "QLinearAdd", "QLinearMul"], _widest),
}
"""Operator -> its outputs, for those that onnx has no schema for."""
