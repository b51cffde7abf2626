"""Multiply-adds and bytes of one node, from the shapes around it.

One multiply-add (MAC) counts as one, so that operations (FLOP) are twice as many. Elementwise
work, normalisation and softmax are not counted: on any machine they are small beside the products,
and leaving them out keeps the floor a floor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from vozmetro.models.cost.fused import product_shape
from vozmetro.models.cost.values import UNKNOWN, Value, attributes

if TYPE_CHECKING:
    from onnx import NodeProto

Kind = Literal["fp32", "fp16", "int8", "int4"]
"""Arithmetic: of floats, of 8-bit integers, of 4-bit weights with 8-bit or float inputs."""

Inputs = Sequence[Value]
Attributes = Mapping[str, Any]


class Ops(NamedTuple):
    """Operations of a node: multiply-adds and the arithmetic that they are done in."""

    macs: int
    kind: Kind


_GATHERING = frozenset({"Gather", "GatherND", "GatherElements", "GatherBlockQuantized"})
_VIEWS = frozenset(
    {"Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Shape", "Size", "Constant"}
)
"""Operators that move no data."""
UNCOUNTED = frozenset({"DeformConv", "Einsum", "Det", "STFT", "DFT", "Inverse", "CDist"})
"""Standard operators that compute much and have no rule here: listed, not silently zero."""
_HALF = frozenset({10, 16})
_EXPERT_WEIGHTS = (2, 5, 8)
_EXPERT_INPUTS = frozenset({*range(2, 11), 11, 12, 13})


def operations(node: NodeProto, inputs: Inputs, outputs: Inputs) -> Ops | None:
    """Returns what a node computes, None for operators that multiply no matrices."""
    rule = _RULES.get(node.op_type)
    if rule is None:
        return None
    try:
        return rule(inputs, outputs, attributes(node))
    except (KeyError, IndexError, TypeError, ZeroDivisionError):
        # A shape on which it hangs is unknown.
        return Ops(0, "fp32")


def counted(op: str) -> bool:
    """Whether an operator's multiply-adds are counted."""
    return op in _RULES


def _kind(*factors: Value) -> Kind:
    """The arithmetic of a product: integers, where ONNX Runtime fuses the dequantization."""
    quantized = [one.bits for one in factors]
    if 4 in quantized:
        return "int4"
    if all(quantized):
        return "int8"
    return "fp16" if all(one.element in _HALF for one in factors) else "fp32"


def _matmul(inputs: Inputs, _: Inputs, given: Attributes) -> Ops:
    a, b = inputs[0], inputs[1]
    return Ops(_product(a, b, given), _kind(a, b))


def _product(a: Value, b: Value, given: Attributes) -> int:
    if a.shape is not None and b.shape is not None and 1 in (len(a.shape), len(b.shape)):
        # A vector with a matrix: every element of the larger one takes part once.
        return max(a.elements, b.elements)
    shape = product_shape(a, b, given)
    if shape is None:
        return 0
    inner = a.size(-2) if given.get("transA") else a.size(-1)
    batch_a, batch_b = math.prod((a.shape or ())[:-2]), math.prod((b.shape or ())[:-2])
    return max(batch_a, batch_b) * shape[-2] * shape[-1] * inner


def _int_matmul(inputs: Inputs, _: Inputs, given: Attributes) -> Ops:
    return Ops(_product(inputs[0], inputs[1], given), "int8")


def _q_linear_matmul(inputs: Inputs, _: Inputs, given: Attributes) -> Ops:
    return Ops(_product(inputs[0], inputs[3], given), "int8")


def _gemm(inputs: Inputs, _: Inputs, given: Attributes) -> Ops:
    a, b = inputs[0], inputs[1]
    return Ops(_gemm_macs(a, b, given), _kind(a, b))


def _q_gemm(inputs: Inputs, _: Inputs, given: Attributes) -> Ops:
    return Ops(_gemm_macs(inputs[0], inputs[3], given), "int8")


def _gemm_macs(a: Value, b: Value, given: Attributes) -> int:
    columns = b.size(0) if given.get("transB") else b.size(1)
    return a.elements * columns


def _n_bits(inputs: Inputs, _: Inputs, given: Attributes) -> Ops:
    rows = inputs[0].elements // int(given["K"])
    kind: Kind = "int4" if int(given.get("bits", 4)) <= 4 else "int8"
    return Ops(rows * int(given["K"]) * int(given["N"]), kind)


def _conv(position: int) -> Callable[[Inputs, Inputs, Attributes], Ops]:
    """Convolution whose weights [out, in / group, kernel...] are that input."""

    def rule(inputs: Inputs, outputs: Inputs, _: Attributes) -> Ops:
        x, weights = inputs[0], inputs[position]
        kind: Kind = "int8" if position == 3 else _kind(x, weights)
        return Ops(outputs[0].elements * (weights.elements // weights.size(0)), kind)

    return rule


def _int_conv(inputs: Inputs, outputs: Inputs, _: Attributes) -> Ops:
    weights = inputs[1]
    return Ops(outputs[0].elements * (weights.elements // weights.size(0)), "int8")


def _transposed_conv(inputs: Inputs, _: Inputs, __: Attributes) -> Ops:
    # Every input element meets the weights [in, out / group, kernel...] of its channel.
    x, weights = inputs[0], inputs[1]
    return Ops(x.elements * (weights.elements // weights.size(0)), _kind(x, weights))


def _recurrent(gates: int, first: int = 1) -> Callable[[Inputs, Inputs, Attributes], Ops]:
    """LSTM, GRU and RNN: x [length, batch, in], W [directions, gates x hidden, in], R."""

    def rule(inputs: Inputs, _: Inputs, given: Attributes) -> Ops:
        x = inputs[0]
        hidden = int(given["hidden_size"])
        directions = 2 if given.get("direction", b"forward") == b"bidirectional" else 1
        steps = x.size(0) * x.size(1)
        macs = steps * directions * gates * hidden * (x.size(2) + hidden)
        return Ops(macs, "fp32" if first else "int8")

    return rule


def _pairs(queries: int, keys: int, causal: bool, window: int = -1) -> int:
    """Pairs of a query and a key that it sees; the last query sees the last key."""
    if not causal:
        return queries * keys
    past = keys - queries
    if window <= 0 or window >= keys:
        return queries * past + queries * (queries + 1) // 2
    return sum(min(past + position, window) for position in range(1, queries + 1))


def _grouped_query(inputs: Inputs, outputs: Inputs, given: Attributes) -> Ops:
    batch, queries, width = outputs[0].shape or (0, 0, 0)
    total = _seen(inputs, outputs, queries)
    window = int(given.get("local_window_size", -1))
    return Ops(2 * batch * width * _pairs(queries, total, True, window), "fp32")


def _seen(inputs: Inputs, outputs: Inputs, queries: int) -> int:
    content = inputs[6].content if len(inputs) > 6 else None
    if content is not None and content.size:
        return int(content.reshape(-1)[0])
    past = inputs[3] if len(inputs) > 3 else UNKNOWN
    return past.size(2) + queries if past.shape else outputs[1].size(2)


def _multi_head(inputs: Inputs, outputs: Inputs, given: Attributes) -> Ops:
    batch, queries, width = outputs[0].shape or (0, 0, 0)
    total = _present_length(inputs, outputs, queries)
    causal = bool(given.get("unidirectional", 0))
    return Ops(2 * batch * width * _pairs(queries, total, causal), "fp32")


def _present_length(inputs: Inputs, outputs: Inputs, queries: int) -> int:
    if len(outputs) > 1 and outputs[1].shape:
        return outputs[1].size(2)
    key = inputs[1] if len(inputs) > 1 else UNKNOWN
    if key.shape is None:
        return queries
    return key.size(2) if len(key.shape) == 4 else key.size(1)


def _attention(inputs: Inputs, outputs: Inputs, given: Attributes) -> Ops:
    if len(inputs) > 1 and inputs[1].shape is not None and len(inputs[1].shape) == 2:
        return _projected_attention(inputs, outputs, given)
    # The standard operator: query, key, value of [batch, length, width] or [batch, heads, ...].
    query, key, past = inputs[0], inputs[1], inputs[4] if len(inputs) > 4 else UNKNOWN
    queries = query.size(-2)
    keys = key.size(-2) + past.size(2)
    macs = (query.elements + outputs[0].elements) // queries
    return Ops(macs * _pairs(queries, keys, bool(given.get("is_causal", 0))), "fp32")


def _projected_attention(inputs: Inputs, outputs: Inputs, given: Attributes) -> Ops:
    """com.microsoft Attention computes q, k and v itself."""
    x, weights = inputs[0], inputs[1]
    projected = x.elements * weights.size(1)
    queries, past = x.size(1), inputs[4] if len(inputs) > 4 else UNKNOWN
    causal = bool(given.get("unidirectional", 0))
    pairs = _pairs(queries, queries + past.size(3), causal)
    return Ops(projected + 2 * x.size(0) * outputs[0].size(-1) * pairs, "fp32")


def _experts(default_bits: int) -> Callable[[Inputs, Inputs, Attributes], Ops]:
    """MoE and QMoE: `k` experts for each token, whose stacked weights are three inputs."""

    def rule(inputs: Inputs, _: Inputs, given: Attributes) -> Ops:
        bits = int(given.get("expert_weight_bits", default_bits)) if default_bits < 32 else 32
        router = inputs[1]
        tokens, experts = router.elements // router.size(-1), router.size(-1)
        packed = 8 // bits if bits < 8 else 1
        held = sum(inputs[i].elements * packed for i in _EXPERT_WEIGHTS if i < len(inputs))
        kind: Kind = "int4" if bits == 4 else "int8" if bits == 8 else "fp32"
        return Ops(tokens * int(given.get("k", 1)) * held // experts, kind)

    return rule


_RULES: Mapping[str, Callable[[Inputs, Inputs, Attributes], Ops]] = {
    "MatMul": _matmul,
    "FusedMatMul": _matmul,
    "TransposeMatMul": _matmul,
    "MatMulInteger": _int_matmul,
    "MatMulIntegerToFloat": _int_matmul,
    "DynamicQuantizeMatMul": _int_matmul,
    "QLinearMatMul": _q_linear_matmul,
    "Gemm": _gemm,
    "FusedGemm": _gemm,
    "QGemm": _q_gemm,
    "MatMulNBits": _n_bits,
    "MatMulBnb4": _n_bits,
    "Conv": _conv(1),
    "FusedConv": _conv(1),
    "NhwcConv": _conv(1),
    "QLinearConv": _conv(3),
    "ConvInteger": _int_conv,
    "ConvTranspose": _transposed_conv,
    "LSTM": _recurrent(4),
    "GRU": _recurrent(3),
    "RNN": _recurrent(1),
    "DynamicQuantizeLSTM": _recurrent(4, first=0),
    "GroupQueryAttention": _grouped_query,
    "MultiHeadAttention": _multi_head,
    "DecoderMaskedMultiHeadAttention": _multi_head,
    "Attention": _attention,
    "MoE": _experts(32),
    "QMoE": _experts(4),
}


def reads(node: NodeProto, inputs: Inputs, outputs: Inputs) -> dict[str, int]:
    """Returns the bytes of the file that a node reads, by initializer.

    A lookup reads the rows that it is asked for. A mixture of experts reads at least those of one
    token, because all may choose the same; how many more they do depends on what is said.
    """
    if node.op_type in _GATHERING and inputs and inputs[0].stored:
        return _rows(node, inputs, outputs)
    share = 1.0
    if node.op_type in ("MoE", "QMoE") and len(inputs) > 1 and inputs[1].size(-1):
        share = min(1.0, int(attributes(node).get("k", 1)) / inputs[1].size(-1))
    found: dict[str, int] = {}
    for index, value in enumerate(inputs):
        part = share if share < 1 and index in _EXPERT_INPUTS else 1.0
        for name, size in value.stored.items():
            found[name] = max(found.get(name, 0), round(size * part))
    return found


def _rows(node: NodeProto, inputs: Inputs, outputs: Inputs) -> dict[str, int]:
    table, ids = inputs[0], inputs[1]
    if node.op_type == "Gather":
        axis = int(attributes(node).get("axis", 0))
        share = min(1.0, ids.elements / table.size(axis)) if table.size(axis) else 0.0
    elif node.op_type == "GatherBlockQuantized":
        rows = table.size(int(attributes(node).get("gather_axis", 0)))
        share = min(1.0, ids.elements / rows) if rows else 0.0
    else:
        share = min(1.0, outputs[0].elements / table.elements) if table.elements else 0.0
    found = {name: round(size * share) for name, size in table.stored.items()}
    if node.op_type == "GatherBlockQuantized":
        for value in inputs[2:]:
            found.update({name: round(size * share) for name, size in value.stored.items()})
    for name, size in ids.stored.items():
        found[name] = size
    return found


def moved(node: NodeProto, inputs: Inputs, outputs: Inputs) -> int:
    """Returns the bytes of computed tensors that a node reads and writes, were there no cache."""
    if node.op_type in _VIEWS:
        return 0
    read = sum(one.bytes for one in inputs if not one.stored and one.element)
    return read + sum(one.bytes for one in outputs if one.element)
