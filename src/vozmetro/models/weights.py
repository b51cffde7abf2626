"""The weights of an ONNX model: how many, of which precision, where they are stored."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import (
        AttributeProto,
        GraphProto,
        ModelProto,
        NodeProto,
        SparseTensorProto,
        TensorProto,
    )

# TensorProto.DataType -> (label, bits per element). Strings have no fixed size.
_TYPES = {
    1: ("FP32", 32),
    2: ("INT8", 8),  # uint8
    3: ("INT8", 8),
    4: ("INT16", 16),  # uint16
    5: ("INT16", 16),
    6: ("INT32", 32),
    7: ("INT64", 64),
    8: ("STRING", 0),
    9: ("BOOL", 8),
    10: ("FP16", 16),
    11: ("FP64", 64),
    12: ("INT32", 32),  # uint32
    13: ("INT64", 64),  # uint64
    16: ("BF16", 16),
    17: ("FP8", 8),
    18: ("FP8", 8),
    19: ("FP8", 8),
    20: ("FP8", 8),
    21: ("INT4", 4),  # uint4
    22: ("INT4", 4),
    23: ("FP4", 4),
    24: ("FP8", 8),  # e8m0
    25: ("INT2", 2),  # uint2
    26: ("INT2", 2),
}
_UNKNOWN_TYPE = ("OTHER", 0)
_WEIGHT_LABELS = frozenset({"FP64", "FP32", "FP16", "BF16", "FP8", "FP4", "INT8", "INT4", "INT2"})
"""Types that networks learn in; 16, 32 and 64-bit integers are indices, shapes and biases' sums."""

# Inputs that describe a quantization instead of holding weights, by operator.
_DESCRIBING: dict[str, frozenset[int]] = {
    "QuantizeLinear": frozenset({1, 2}),
    "DequantizeLinear": frozenset({1, 2}),
    "MatMulInteger": frozenset({2, 3}),
    "ConvInteger": frozenset({2, 3}),
    "QLinearConv": frozenset({1, 2, 4, 5, 6, 7}),
    "QLinearMatMul": frozenset({1, 2, 4, 5, 6, 7}),
    "QGemm": frozenset({1, 2, 4, 5, 7, 8}),
    "MatMulIntegerToFloat": frozenset({2, 3, 4, 5}),
    "DynamicQuantizeMatMul": frozenset({2, 3}),
    "DynamicQuantizeLSTM": frozenset({8, 9, 10, 11}),
    "MatMulNBits": frozenset({2, 3, 4}),
    "GatherBlockQuantized": frozenset({2, 3}),
    "QMoE": frozenset({3, 6, 9, 11, 12, 13}),
}
_DESCRIBING_SUFFIXES = ("_scale", "_scales", "_zero_point", "_zero_points", "_zp")
"""Names by ONNX Runtime's quantizers; dynamic quantization multiplies its scales by plain Mul."""

# Operators that pack several weights into a uint8: input position -> attribute with the bits.
_PACKED: dict[str, tuple[frozenset[int], str, int]] = {
    "MatMulNBits": (frozenset({1}), "bits", 4),
    "GatherBlockQuantized": (frozenset({0}), "bits", 4),
    "QMoE": (frozenset({2, 5, 8}), "expert_weight_bits", 4),
}


@dataclass(frozen=True)
class Stored:
    """A tensor that the file holds.

    Attributes:
        name: Initializer name, or the output of its Constant node.
        label: `FP32`, `INT8`, `INT4`...; `OTHER` for types this program does not know.
        elements: Weights in it, packed ones counted one by one.
        bytes: Size in the file.
        external: Whether it lies in a file beside the model.
        is_weight: Whether it counts as parameters.
    """

    name: str
    label: str
    elements: int
    bytes: int
    external: bool
    is_weight: bool


def tensors(model: ModelProto) -> Iterator[tuple[str, TensorProto]]:
    """Yields every stored tensor with its name: initializers and attributes, subgraphs too."""
    for graph in graphs(model):
        for tensor in graph.initializer:
            yield tensor.name, tensor
    for name, sparse in sparse_tensors(model):
        yield name, sparse.values
        yield f"{name}/indices", sparse.indices
    for name, attribute in _attributes(model):
        if attribute.HasField("t"):
            yield name, attribute.t
        for tensor in attribute.tensors:
            yield tensor.name, tensor


def sparse_tensors(model: ModelProto) -> Iterator[tuple[str, SparseTensorProto]]:
    """Yields every sparse tensor with its name; its own `dims` are the size when written out."""
    for graph in graphs(model):
        for sparse in graph.sparse_initializer:
            yield sparse.values.name, sparse
    for name, attribute in _attributes(model):
        if attribute.HasField("sparse_tensor"):
            yield name, attribute.sparse_tensor
        for sparse in attribute.sparse_tensors:
            yield sparse.values.name, sparse


def _attributes(model: ModelProto) -> Iterator[tuple[str, AttributeProto]]:
    """Yields every attribute with what its tensor is called: of nodes, and functions' defaults."""
    for node in nodes(model):
        for attribute in node.attribute:
            yield node.output[0] if node.output else node.name, attribute
    for function in model.functions:
        for attribute in function.attribute_proto:
            yield attribute.name, attribute


def nodes(model: ModelProto) -> Iterator[NodeProto]:
    """Yields every node: of the graph, of subgraphs, and of the model's own functions."""
    for graph in graphs(model):
        yield from graph.node
    for function in model.functions:
        yield from function.node


def graphs(model: ModelProto) -> Iterator[GraphProto]:
    """Yields the graph and every subgraph in it (branches, loop bodies)."""
    waiting = [model.graph]
    for function in model.functions:
        waiting.extend(_graphs_in(function.attribute_proto))
        for node in function.node:
            waiting.extend(subgraphs(node))
    while waiting:
        graph = waiting.pop()
        yield graph
        for node in graph.node:
            waiting.extend(subgraphs(node))


def subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    """Yields a node's own branches or body, not those inside them."""
    yield from _graphs_in(node.attribute)


def _graphs_in(attributes: Iterable[AttributeProto]) -> Iterator[GraphProto]:
    for attribute in attributes:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def stored(model: ModelProto) -> list[Stored]:
    """Returns every stored tensor, with what it counts for."""
    describing, packed = _roles(model)
    return [_stored(name, tensor, describing, packed) for name, tensor in tensors(model)]


def payload_bytes(tensor: TensorProto) -> int:
    """Returns the bytes that a tensor's values take when packed (0 for strings)."""
    _, bits = _TYPES.get(tensor.data_type, _UNKNOWN_TYPE)
    return (_elements(tensor) * bits + 7) // 8


def _elements(tensor: TensorProto) -> int:
    return math.prod(int(size) for size in tensor.dims)


def _stored(
    name: str, tensor: TensorProto, describing: set[str], packed: dict[str, tuple[int, int]]
) -> Stored:
    label, _ = _TYPES.get(tensor.data_type, _UNKNOWN_TYPE)
    elements = _elements(tensor)
    if name in packed and label == "INT8":
        bits, weights = packed[name]
        elements = elements * 8 // bits
        # Rows are filled up to whole blocks: that is stored, and is no weight.
        elements = min(elements, weights) if weights > 0 else elements
        label = f"INT{bits}"
    describes = name in describing or name.endswith(_DESCRIBING_SUFFIXES)
    return Stored(
        name=name,
        label=label,
        elements=elements,
        bytes=payload_bytes(tensor),
        external=tensor.data_location == tensor.EXTERNAL,
        # Single values are constants of the formulas (0.5, -inf), not weights.
        is_weight=label in _WEIGHT_LABELS and elements > 1 and not describes,
    )


def _roles(model: ModelProto) -> tuple[set[str], dict[str, tuple[int, int]]]:
    """Returns what describes quantization, and the bits and weights (0: all) of what is packed."""
    describing: set[str] = set()
    packed: dict[str, tuple[int, int]] = {}
    for node in nodes(model):
        positions = _DESCRIBING.get(node.op_type, frozenset())
        describing.update(name for i, name in enumerate(node.input) if i in positions and name)
        if node.op_type in _PACKED:
            inputs, attribute, default = _PACKED[node.op_type]
            given = {one.name: one.i for one in node.attribute}
            bits = given.get(attribute, default)
            weights = given.get("N", 0) * given.get("K", 0) if node.op_type == "MatMulNBits" else 0
            if bits in {1, 2, 4, 8}:
                names = [name for i, name in enumerate(node.input) if i in inputs]
                packed |= dict.fromkeys(names, (bits, weights))
    return describing, packed
