"""What is known of a tensor while a graph is walked: its shape, and its content where it is small.

Shapes of one part of a graph often hang on the content of another (`Shape`, `Gather`, `Concat`,
`Reshape`...). So small contents are computed along with the shapes, by ONNX's own reference
implementation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vozmetro.models.weights import payload_bytes

if TYPE_CHECKING:
    from onnx import NodeProto, TensorProto, TypeProto

Shape = tuple[int, ...]

SMALL = 4096
"""Elements up to which a tensor's content is followed."""
_ELEMENTWISE = frozenset(
    {"Add", "Sub", "Mul", "Div", "Mod", "Pow", "Min", "Max", "Sum", "Where"}
    | {"Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "And", "Or", "Xor"}
)
_ARITHMETIC = _ELEMENTWISE | frozenset(
    {
        "Abs",
        "Neg",
        "Sign",
        "Exp",
        "Log",
        "Sqrt",
        "Reciprocal",
        "Floor",
        "Ceil",
        "Round",
        "Clip",
        "Not",
    }
    | {"Cast", "CastLike", "Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose"}
    | {"Concat", "Slice", "Split", "Gather", "GatherElements", "GatherND", "ScatterND"}
    | {"ScatterElements", "NonZero", "CumSum", "ArgMax", "ArgMin", "Range", "Expand"}
    | {"ConstantOfShape"}
    | {"ReduceSum", "ReduceProd", "ReduceMax", "ReduceMin", "ReduceMean"}
)
"""Operators that sizes are computed by. No others are run here, where nothing limits them: graphs
may be anybody's, and the operators of ONNX include regular expressions and decoders of images."""


@dataclass(frozen=True)
class Value:
    """A tensor in a graph.

    Attributes:
        element: `TensorProto.DataType`, 0 where it is unknown.
        shape: Its sizes; None where nothing is known.
        content: Its elements, where they are few and known.
        assumed: The content rests on an assumption about data.
        stored: Bytes of the file that reading this value reads, by initializer. Empty for what was
            computed from the model's inputs.
        bits: 4 or 8 where it was dequantized from that many, else 0.
    """

    element: int
    shape: Shape | None
    content: NDArray[Any] | None = None
    assumed: bool = False
    stored: Mapping[str, int] = field(default_factory=dict)
    bits: int = 0

    @property
    def elements(self) -> int:
        """Number of elements, 0 where the shape is unknown."""
        return math.prod(self.shape) if self.shape is not None else 0

    @property
    def bytes(self) -> int:
        """Bytes that it takes when computed; 0 where that is unknown."""
        from onnx import TensorProto

        return payload_bytes(TensorProto(data_type=self.element, dims=self.shape or ()))

    def size(self, axis: int) -> int:
        """Size along an axis, 0 where there is none."""
        if self.shape is None or not -len(self.shape) <= axis < len(self.shape):
            return 0
        return self.shape[axis]


UNKNOWN = Value(0, None)
"""A tensor of which nothing is known; also an input that is left out."""


def from_tensor(tensor: TensorProto, name: str) -> Value:
    """Returns the value of an initializer or a constant; large contents may be left out."""
    shape = tuple(int(size) for size in tensor.dims)
    value = Value(tensor.data_type, shape)
    return Value(
        tensor.data_type, shape, _content(tensor, value), stored={name: value.bytes} if name else {}
    )


def _content(tensor: TensorProto, value: Value) -> NDArray[Any] | None:
    from onnx import numpy_helper

    if value.elements > SMALL or tensor.data_location == tensor.EXTERNAL:
        return None
    try:
        content = np.asarray(numpy_helper.to_array(tensor))
    except (ValueError, TypeError, KeyError):
        # The payload was left out by the reader, or has a type that numpy does not hold.
        return None
    return content if content.shape == value.shape else None


def attributes(node: NodeProto) -> dict[str, Any]:
    """Returns a node's attributes by name."""
    from onnx import helper

    return {one.name: helper.get_attribute_value(one) for one in node.attribute}


def type_of(value: Value) -> TypeProto:
    """Returns the value's type as shape inference takes it."""
    from onnx import helper

    return helper.make_tensor_type_proto(value.element, value.shape)


def computed(node: NodeProto, inputs: Sequence[Value], opset: int) -> list[NDArray[Any]] | None:
    """Returns a node's outputs where its inputs' contents are known, else None."""
    if node.op_type not in _ARITHMETIC:
        return None
    contents = []
    for name, value in zip(node.input, inputs, strict=True):
        # Of texts, a sum is a longer text.
        if name and (value.content is None or value.content.dtype.kind not in "biuf"):
            return None
        contents.append(value.content if name else None)
    try:
        if _elements(node.op_type, [one for one in contents if one is not None]) > SMALL:
            return None
        found = _evaluated(node, contents, opset)
    except Exception:
        # The reference implementation raises whatever numpy does; then the content is unknown.
        return None
    return found if all(one.size <= SMALL for one in found) else None


def _elements(op: str, contents: Sequence[NDArray[Any]]) -> int:
    """Returns how many elements come out of an operator that makes more than go in, else 0.

    No less than inference says, where inference has failed or rests on an assumption.
    """
    if op == "Range":
        start, limit, delta = (one.reshape(-1)[0].item() for one in contents)
        steps: float = (limit - start) / delta
        return math.ceil(steps)
    if op == "ConstantOfShape":
        return math.prod(contents[0].tolist())
    if op in _ELEMENTWISE:
        return math.prod(np.broadcast_shapes(*(one.shape for one in contents)))
    if op == "Expand":
        return math.prod(np.broadcast_shapes(contents[0].shape, tuple(contents[1].tolist())))
    return 0


def _evaluated(
    node: NodeProto, contents: Sequence[NDArray[Any] | None], opset: int
) -> list[NDArray[Any]]:
    from onnx import NodeProto

    bare = NodeProto()
    bare.CopyFrom(node)
    bare.ClearField("name")
    bare.ClearField("doc_string")
    # Under common names, the many equal nodes of a graph share one evaluator.
    names = [f"i{index}" if name else "" for index, name in enumerate(node.input)]
    bare.input[:] = names
    bare.output[:] = [f"o{index}" for index in range(len(node.output))]
    feeds = {name: one for name, one in zip(names, contents, strict=True) if name}
    found = _evaluator(bare.SerializeToString(), opset).run(None, feeds, {})
    return [np.asarray(one) for one in found]


@cache
def _evaluator(serialized: bytes, opset: int) -> Any:
    from onnx import NodeProto, helper
    from onnx.reference import ReferenceEvaluator

    node = NodeProto()
    node.ParseFromString(serialized)
    # In a function, because a lone node would be run by the newest version of its operator.
    inputs = [name for name in node.input if name]
    imports = [helper.make_opsetid("", opset)]
    return ReferenceEvaluator(
        helper.make_function("vozmetro", "one", inputs, list(node.output), [node], imports)
    )
