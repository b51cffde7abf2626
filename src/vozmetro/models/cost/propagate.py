"""Walks a graph with concrete input shapes and gives the shape of every tensor on the way.

Standard operators go through onnx's own shape inference, node by node, with the contents that
`values` follows; ONNX Runtime's operators through `fused`. What hangs on data (how long a voice
draws a word out) takes a stated assumption and is listed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from vozmetro.models.cost import fused
from vozmetro.models.cost.values import (
    SMALL,
    UNKNOWN,
    Shape,
    Value,
    attributes,
    computed,
    from_tensor,
    type_of,
)

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

STANDARD = ("", "ai.onnx")
_SHAPING = frozenset(
    {"Range", "Reshape", "ConstantOfShape", "Expand", "Slice", "Tile", "Pad", "Resize", "TopK"}
    | {"NonZero", "Compress", "Unique", "OneHot", "NonMaxSuppression", "Upsample"}
)
"""Operators whose output's shape hangs on the content of an input."""
_MOVED = frozenset(
    {"Identity", "Cast", "CastLike", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten"}
    | {"DequantizeLinear", "Slice", "Split", "Concat", "Expand"}
)
"""Operators that only hand a stored tensor on; it is read where something is computed from it."""

_BOOL = 9
_COMPARISONS = frozenset({"GreaterOrEqual", "LessOrEqual", "Greater", "Less", "Equal"})

Visitor = Callable[["NodeProto", Sequence[Value], Sequence[Value], int], None]
"""Called with each node, its inputs, its outputs, and how many times it runs."""
_Visit = tuple["NodeProto", Sequence[Value], Sequence[Value], int]


@dataclass
class Walk:
    """One walk through a model.

    Attributes:
        opset: Version of the standard operators.
        length: Size assumed where the shape of something hangs on data.
        visit: Told of every node.
        data_dependent: Nodes whose output's shape was assumed.
        unknown: Operators without a rule, and how often they occur.
        branches: Branches taken, by node.
    """

    opset: int
    length: int
    visit: Visitor
    data_dependent: list[str] = field(default_factory=list)
    unknown: dict[str, int] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def graph(self, graph: GraphProto, known: Mapping[str, Value], times: int = 1) -> list[Value]:
        """Walks a graph whose inputs (and outer names) are `known`; returns its outputs."""
        scope = dict(known)
        for tensor in graph.initializer:
            scope[tensor.name] = from_tensor(tensor, tensor.name)
        for node in graph.node:
            inputs = [scope.get(name, UNKNOWN) if name else UNKNOWN for name in node.input]
            outputs = self._outputs(node, inputs, scope, times)
            self.visit(node, inputs, outputs, times)
            scope.update(
                (name, value) for name, value in zip(node.output, outputs, strict=False) if name
            )
        return [scope.get(one.name, UNKNOWN) for one in graph.output]

    def _outputs(
        self, node: NodeProto, inputs: list[Value], scope: Mapping[str, Value], times: int
    ) -> list[Value]:
        if node.op_type == "Constant" and node.domain in STANDARD:
            return [_constant(node)]
        if node.op_type == "If":
            return self._if(node, inputs, scope, times)
        if node.op_type in ("Loop", "Scan"):
            return self._loop(node, inputs, scope, times)
        outputs = self._shapes(node, inputs)
        outputs = self._contents(node, inputs, outputs)
        return [_handed_on(node, inputs, one) for one in outputs]

    # Shapes --------------------------------------------------------------------------------------

    def _shapes(self, node: NodeProto, inputs: list[Value]) -> list[Value]:
        schema = _schema(node.op_type, self.opset) if node.domain in STANDARD else None
        if schema is not None:
            outputs = self._inferred(schema, node, inputs)
            if outputs is None or (schema.has_function and outputs[0].shape is None):
                # Some operators that the standard defines by others have no inference of their own.
                if not schema.has_function:
                    self.data_dependent.append(_called(node))
                outputs = _like_first(node, inputs)
            return [self._completed(node, inputs, one) for one in outputs]
        rule = fused.RULES.get(node.op_type)
        if rule is not None:
            try:
                return rule(inputs, attributes(node))
            except (KeyError, IndexError, ValueError, ZeroDivisionError, TypeError):
                # Another variant of the operator than the rule knows.
                pass
        name = f"{node.domain or 'ai.onnx'}.{node.op_type}"
        self.unknown[name] = self.unknown.get(name, 0) + 1
        return _like_first(node, inputs)

    def _inferred(self, schema: Any, node: NodeProto, inputs: list[Value]) -> list[Value] | None:
        """Outputs by onnx's own inference, with -1 for sizes that it cannot tell."""
        from onnx import helper, numpy_helper, shape_inference

        types, data = {}, {}
        for name, value in zip(node.input, inputs, strict=True):
            if name:
                types[name] = type_of(value)
                if value.content is not None:
                    data[name] = numpy_helper.from_array(np.asarray(value.content, order="C"), name)
        try:
            found = shape_inference.infer_node_outputs(
                schema,
                node,
                types,
                data,
                opset_imports=[helper.make_opsetid("", self.opset)],
                ir_version=10,
            )
        except Exception:
            # onnx raises several kinds, of C++ and of Python, where assumed sizes do not agree.
            return None
        return [_value_of(found.get(name)) for name in node.output]

    def _completed(self, node: NodeProto, inputs: list[Value], value: Value) -> Value:
        """Fills in sizes that hang on data."""
        if value.shape is None and value.element == 0:
            return value
        first = inputs[0] if inputs else UNKNOWN
        shape = first.shape if value.shape is None else value.shape
        if shape is None:
            return value
        unsure = value.shape is None or any(size < 0 for size in shape)
        rests = node.op_type in _SHAPING and any(one.assumed for one in inputs[1:] or inputs)
        if node.op_type == "Range":
            rests = any(one.assumed for one in inputs)
        if unsure or rests:
            self.data_dependent.append(_called(node))
        if unsure:
            shape = tuple(
                size if size >= 0 else self._size(node, first, shape, axis)
                for axis, size in enumerate(shape)
            )
        return replace(value, shape=shape)

    def _size(self, node: NodeProto, first: Value, shape: Shape, axis: int) -> int:
        """A size that nothing tells: at most what the first input holds, else the assumption."""
        if node.op_type in ("NonZero", "Compress", "Unique"):
            return first.elements
        if node.op_type == "Reshape" and shape.count(-1) == 1:
            known = int(np.prod([size for size in shape if size > 0]))
            return max(1, first.elements // max(1, known))
        if first.shape is not None and len(first.shape) == len(shape) and node.op_type != "Range":
            return first.shape[axis]
        return self.length

    # Contents ------------------------------------------------------------------------------------

    def _contents(self, node: NodeProto, inputs: list[Value], outputs: list[Value]) -> list[Value]:
        if node.domain not in STANDARD or not outputs:
            return outputs
        assumed = any(one.assumed for one in inputs)
        if node.op_type in ("Shape", "Size") and inputs[0].shape is not None:
            sizes = np.array(inputs[0].shape, np.int64)
            if node.op_type == "Size":
                sizes = np.array(inputs[0].elements, np.int64)
            elif node.attribute:
                given = attributes(node)
                sizes = sizes[given.get("start", 0) : given.get("end")]
            return [replace(outputs[0], content=sizes, shape=sizes.shape)]
        if any(one.elements > SMALL for one in outputs):
            return outputs
        found = computed(node, inputs, self.opset)
        if found is not None:
            return [
                replace(value, content=content, shape=content.shape, assumed=assumed)
                for value, content in zip(outputs, found, strict=False)
            ]
        if node.op_type == "Cast" and outputs[0].element in (6, 7) and outputs[0].elements == 1:
            # A length that was computed as a float from the data: how long a word is drawn out.
            content = np.full(outputs[0].shape or (), self.length, np.int64)
            return [replace(outputs[0], content=content, assumed=True)]
        return outputs

    # Control flow --------------------------------------------------------------------------------

    def _if(
        self, node: NodeProto, inputs: list[Value], scope: Mapping[str, Value], times: int
    ) -> list[Value]:
        """Takes the branch that the condition says; where it hangs on data, the cheaper one."""
        given = attributes(node)
        names = ("then_branch", "else_branch")
        condition = inputs[0].content
        if condition is not None and condition.size:
            chosen = names[0] if bool(condition.reshape(-1)[0]) else names[1]
        else:
            tried = {name: self._tried(given[name], scope, times) for name in names}
            chosen = min(names, key=lambda name: tried[name].macs)
            self.branches[_called(node)] = chosen.removesuffix("_branch")
            return self._taken(tried[chosen])
        return self.graph(given[chosen], scope, times)

    def _tried(self, graph: GraphProto, scope: Mapping[str, Value], times: int) -> _Branch:
        """Walks a branch without counting it: once, as branches in branches double each level."""
        from vozmetro.models.cost.count import operations

        visits: list[_Visit] = []
        walk = Walk(self.opset, self.length, lambda *visit: visits.append(visit))
        outputs = walk.graph(graph, scope, times)
        counted = [(operations(*visit[:3]), visit[3]) for visit in visits]
        macs = sum(found.macs * times for found, times in counted if found)
        return _Branch(walk, visits, outputs, macs)

    def _taken(self, branch: _Branch) -> list[Value]:
        """Counts what was met in a branch that was tried."""
        for visit in branch.visits:
            self.visit(*visit)
        self.data_dependent += branch.walk.data_dependent
        self.branches |= branch.walk.branches
        for name, count in branch.walk.unknown.items():
            self.unknown[name] = self.unknown.get(name, 0) + count
        return branch.outputs

    def _loop(
        self, node: NodeProto, inputs: list[Value], scope: Mapping[str, Value], times: int
    ) -> list[Value]:
        """Runs the body as often as the loop says; once where that hangs on data."""
        given = attributes(node)
        body: GraphProto = given["body"]
        if node.op_type == "Scan":
            return self._scan(node, inputs, scope, times)
        content = inputs[0].content
        trips = int(content.reshape(-1)[0]) if content is not None and content.size else None
        if trips is None or trips > 1 << 31:
            self.data_dependent.append(_called(node))
            trips = 1
        carried = len(inputs) - 2
        if trips <= 0:
            return [*inputs[2:], *[UNKNOWN] * (len(node.output) - carried)]
        names = [one.name for one in body.input]
        known = dict(zip(names, [Value(7, ()), Value(9, ()), *inputs[2:]], strict=False))
        # What is carried changes from round to round.
        known = {name: replace(value, content=None) for name, value in known.items()}
        found = self.graph(body, {**scope, **known}, times * trips)[1:]
        return [
            *(replace(one, content=None) for one in found[:carried]),
            *(_stacked(one, trips) for one in found[carried:]),
        ]

    def _scan(
        self, node: NodeProto, inputs: list[Value], scope: Mapping[str, Value], times: int
    ) -> list[Value]:
        given = attributes(node)
        body: GraphProto = given["body"]
        scanned = int(given["num_scan_inputs"])
        states = inputs[: len(inputs) - scanned]
        parts = [
            Value(one.element, one.shape[1:] if one.shape else None)
            for one in inputs[len(states) :]
        ]
        trips = max(1, inputs[-1].size(0))
        known = dict(zip([one.name for one in body.input], [*states, *parts], strict=False))
        found = self.graph(body, {**scope, **known}, times * trips)
        return [*found[: len(states)], *(_stacked(one, trips) for one in found[len(states) :])]


@dataclass(frozen=True)
class _Branch:
    """A branch that was walked: what was met, what it gives, and its multiply-adds."""

    walk: Walk
    visits: Sequence[_Visit]
    outputs: list[Value]
    macs: int


def _stacked(value: Value, trips: int) -> Value:
    return Value(value.element, None if value.shape is None else (trips, *value.shape))


def _constant(node: NodeProto) -> Value:
    from onnx import numpy_helper

    name, given = next(iter(attributes(node).items()), ("", None))
    if name == "value" and given is not None:
        return from_tensor(given, node.output[0])
    if name in ("value_float", "value_floats"):
        array = np.asarray(given, np.float32)
    elif name in ("value_int", "value_ints"):
        array = np.asarray(given, np.int64)
    else:
        return UNKNOWN
    return from_tensor(numpy_helper.from_array(array), node.output[0])


def _schema(op: str, opset: int) -> Any:
    from onnx import defs

    try:
        return defs.get_schema(op, opset, "")
    except defs.SchemaError:
        return None


def _value_of(found: Any) -> Value:
    """A value from an inferred type, -1 for sizes that it leaves open."""
    if found is None or not found.HasField("tensor_type"):
        return UNKNOWN
    tensor = found.tensor_type
    if not tensor.HasField("shape"):
        return Value(tensor.elem_type, None)
    sizes = [one.dim_value if one.HasField("dim_value") else -1 for one in tensor.shape.dim]
    return Value(tensor.elem_type, tuple(sizes))


def _like_first(node: NodeProto, inputs: Sequence[Value]) -> list[Value]:
    """One output as wide as all inputs together, like the first in type; the others unknown."""
    shapes = [one.shape for one in inputs if one.shape is not None]
    try:
        shape = np.broadcast_shapes(*shapes) if shapes else None
    except ValueError:
        shape = inputs[0].shape
    element = _BOOL if node.op_type in _COMPARISONS else next(iter(inputs), UNKNOWN).element
    return [Value(element, shape), *([UNKNOWN] * (len(node.output) - 1))]


def _handed_on(node: NodeProto, inputs: Sequence[Value], value: Value) -> Value:
    """The value with what it still has to read of the file, where the node only hands it on."""
    given = [one for name, one in zip(node.input, inputs, strict=True) if name]
    bits = value.bits
    if node.op_type == "DequantizeLinear":
        bits = _stored_bits(given[0])
    elif node.op_type in _MOVED and given:
        bits = given[0].bits
    stored: dict[str, int] = {}
    if (
        node.op_type in _MOVED
        and given
        and all(one.stored or one.content is not None for one in given)
    ):
        for one in given:
            stored.update(one.stored)
    return replace(value, stored=stored, bits=bits)


def _stored_bits(value: Value) -> int:
    return 4 if value.element in (21, 22) else 8


def _called(node: NodeProto) -> str:
    return f"{node.op_type} {node.name or (node.output[0] if node.output else '')}".strip()
