"""The cost of a graph for one input: operations by arithmetic, bytes by what they hold."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vozmetro.errors import InputError, ModelError, VozmetroError
from vozmetro.models import slim
from vozmetro.models.cost.count import UNCOUNTED, Kind, moved, operations, reads
from vozmetro.models.cost.functions import prepared
from vozmetro.models.cost.propagate import Walk
from vozmetro.models.cost.values import SMALL, Value
from vozmetro.units import plain

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, ValueInfoProto

DATA = "data"
"""Key of `dims` for sizes that hang on data, such as how long a voice draws a word out."""
DATA_FACTOR = 3
"""Assumed size of those, in multiples of the longest input: a voice such as Piper's speaks 28
symbols a second and computes 86 frames of 256 samples (22.05 kHz) for them."""
_DEFAULTS = (
    (r"batch", 1),
    (r"past", 0),
    (r"frames?", 3000),
    (r"samples?|audio", 16_000),
)
"""Sizes of dynamic axes that nobody gave, by their name; 1 for any other."""
_PAST = re.compile(r"past|cache|cross\.|(^|[._/])(h|c|state|states)\d*([._/]|$)")
_MASK = re.compile(r"mask")
_DETAIL = 200
MOST_ELEMENTS = 1 << 50
"""Elements of an input beyond which a graph or a given size is absurd."""


@dataclass(frozen=True)
class NodeCost:
    """One node that computes or reads something.

    Attributes:
        name: In the graph.
        op: Operator.
        macs: Multiply-adds.
        kind: Arithmetic that they are done in.
        weight_bytes: Bytes of the file that it reads.
        activation_bytes: Bytes of computed tensors that it reads and writes, were there no cache.
        times: How often it runs (in a loop).
        size: Rows, inner size and columns of a matrix product with stored weights, else zeros.
    """

    name: str
    op: str
    macs: int
    kind: Kind
    weight_bytes: int
    activation_bytes: int
    times: int = 1
    size: tuple[int, int, int] = (0, 0, 0)


@dataclass(frozen=True)
class Cost:
    """What one inference takes.

    Attributes:
        macs: Multiply-adds by arithmetic (`fp32`, `fp16`, `int8`, `int4`).
        weight_bytes: Bytes of weights that must be read, each once.
        cache_bytes: Bytes of the inputs that carry what was computed before (keys and values).
        cache_growth: Bytes by which what is carried on is larger than what came in.
        activation_bytes: Bytes of computed tensors read and written, were there no cache at all.
        nodes: What computes or reads, in the order of the graph.
        dims: Size taken for every dynamic axis.
        assumed: Those of them that nobody gave.
        data_dependent: Nodes whose output's size hangs on data, and was assumed.
        branches: Branches taken of an `If` whose condition hangs on data: the cheaper.
        unknown: Operators that are not counted, and how often they occur.
        outputs: Shapes of the graph's outputs; None where unknown.
    """

    macs: Mapping[str, int]
    weight_bytes: int
    cache_bytes: int
    cache_growth: int
    activation_bytes: int
    nodes: tuple[NodeCost, ...]
    dims: Mapping[str, int]
    assumed: Mapping[str, int]
    data_dependent: tuple[str, ...]
    branches: Mapping[str, str]
    unknown: Mapping[str, int]
    outputs: Mapping[str, tuple[int, ...] | None]

    @property
    def total_macs(self) -> int:
        """Multiply-adds of every kind."""
        return sum(self.macs.values())

    @property
    def bytes(self) -> int:
        """Bytes that must be read: weights, and what was computed before."""
        return self.weight_bytes + self.cache_bytes


@dataclass
class _Count:
    """Adds up what the walk meets."""

    macs: dict[str, int] = field(default_factory=dict)
    read: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    activation_bytes: int = 0
    nodes: list[NodeCost] = field(default_factory=list)
    unknown: dict[str, int] = field(default_factory=dict)

    def visit(
        self, node: NodeProto, inputs: Sequence[Value], outputs: Sequence[Value], times: int
    ) -> None:
        """Counts one node."""
        found = operations(node, inputs, outputs)
        if node.op_type in UNCOUNTED:
            name = f"{node.domain or 'ai.onnx'}.{node.op_type}"
            self.unknown[name] = self.unknown.get(name, 0) + 1
        # What only hands a stored tensor on reads nothing: its reader does.
        handed = any(one.stored for one in outputs)
        read = {} if handed else reads(node, inputs, outputs)
        for name, size in read.items():
            self.read[name] = self.read.get(name, 0) + size
        for one in inputs:
            self.sizes.update(one.stored)
        activations = 0 if handed else moved(node, inputs, outputs) * times
        self.activation_bytes += activations
        if found is None and not read:
            return
        macs, kind = (found.macs * times, found.kind) if found else (0, "fp32")
        self.macs[kind] = self.macs.get(kind, 0) + macs
        self.nodes.append(
            NodeCost(
                name=node.name or (node.output[0] if node.output else ""),
                op=node.op_type,
                macs=macs,
                kind=kind,
                weight_bytes=sum(read.values()),
                activation_bytes=activations,
                times=times,
                size=_size(inputs, outputs, macs // times if read else 0),
            )
        )

    @property
    def weight_bytes(self) -> int:
        """Bytes read, of no tensor more than it holds: what is read twice may still be cached."""
        return sum(min(size, self.sizes.get(name, size)) for name, size in self.read.items())


def _size(inputs: Sequence[Value], outputs: Sequence[Value], macs: int) -> tuple[int, int, int]:
    """Rows, inner size and columns of a product of that many multiply-adds."""
    columns = outputs[0].size(-1) if outputs else 0
    inner = inputs[0].size(-1) if inputs else 0
    if not macs or not columns or not inner or macs % (columns * inner):
        return (0, 0, 0)
    return (macs // (columns * inner), inner, columns)


def cost(
    path: Path,
    dims: Mapping[str, int] | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
) -> Cost:
    """Returns what one inference of a graph takes.

    Args:
        path: The `.onnx`; only its structure is read.
        dims: Sizes of dynamic axes by their names in the graph; `data` for sizes that hang on
            data. What is left out gets a default, which the result tells.
        shapes: Whole shapes by input, which come before `dims`.

    Raises:
        InputError: `cost_dims` for a name that the graph does not have, or an impossible size.
        ModelError: What `slim.read` raises; `graph_absurd`; `cost_unknown` for a graph whose
            operators do not fit together.
    """
    model = slim.read(path)
    try:
        return cost_of(prepared(model, path), dims or {}, shapes or {})
    except VozmetroError:
        raise
    except Exception as error:
        # The file may be anybody's: an operator without inputs, a branch that is no graph...
        detail = f"{type(error).__name__}: {error}"[:_DETAIL]
        raise ModelError("cost_unknown", path=path, detail=plain(detail)) from error


def cost_of(
    model: ModelProto, dims: Mapping[str, int], shapes: Mapping[str, Sequence[int]]
) -> Cost:
    """The same for a model that is read already, without functions of its own."""
    graph = model.graph
    bound, assumed = _bound(graph, dims, shapes)
    inputs = {one.name: _input(one, bound, shapes.get(one.name, ())) for one in _free_inputs(graph)}
    longest = max((size for value in inputs.values() for size in value.shape or ()), default=1)
    dynamic = max([size for name, size in bound.items() if name != DATA], default=longest)
    length = dims.get(DATA, DATA_FACTOR * dynamic)
    inputs = {name: _known(name, value, dynamic) for name, value in inputs.items()}
    count = _Count()
    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 1)
    walk = Walk(opset, length, count.visit)
    found = walk.graph(graph, inputs)
    if walk.data_dependent:
        bound = {**bound, DATA: length}
        assumed = assumed if DATA in dims else {**assumed, DATA: length}
    carried = [value for name, value in inputs.items() if _PAST.search(name.lower())]
    names = [one.name for one in graph.output]
    outputs = dict(zip(names, found, strict=True))
    return Cost(
        macs={kind: macs for kind, macs in count.macs.items() if macs},
        weight_bytes=count.weight_bytes,
        cache_bytes=sum(value.bytes for value in carried),
        cache_growth=_growth(inputs, outputs),
        activation_bytes=count.activation_bytes,
        nodes=tuple(count.nodes),
        dims=bound,
        assumed=assumed,
        data_dependent=tuple(walk.data_dependent),
        branches=walk.branches,
        unknown={**walk.unknown, **count.unknown},
        outputs={name: value.shape for name, value in outputs.items()},
    )


def _free_inputs(graph: GraphProto) -> list[ValueInfoProto]:
    initialized = {tensor.name for tensor in graph.initializer}
    return [one for one in graph.input if one.name not in initialized]


def _bound(
    graph: GraphProto, dims: Mapping[str, int], shapes: Mapping[str, Sequence[int]]
) -> tuple[dict[str, int], dict[str, int]]:
    """Sizes of the dynamic axes by name, and those of them that were assumed."""
    symbols: dict[str, int | None] = {}
    for one in _free_inputs(graph):
        given = shapes.get(one.name, ())
        for axis, dim in enumerate(one.type.tensor_type.shape.dim):
            if dim.HasField("dim_value"):
                continue
            name = _symbol(one, axis)
            size = dims.get(name)
            symbols[name] = given[axis] if axis < len(given) else symbols.get(name, size)
    stray = [name for name in dims if name not in symbols and name != DATA]
    wrong = [name for name, size in dims.items() if not 0 <= size < MOST_ELEMENTS]
    if stray or wrong:
        known = ", ".join([*symbols, DATA])
        raise InputError("cost_dims", names=", ".join(stray + wrong), known=known)
    bound = {name: size for name, size in symbols.items() if size is not None}
    assumed: dict[str, int] = {}
    # Sums of other sizes come last.
    for name in sorted(symbols, key=lambda name: "total" in name):
        if name not in bound:
            bound[name] = _default(name, bound)
            # A sum of sizes that were given is no assumption.
            if "total" not in name or assumed or len(bound) == 1:
                assumed[name] = bound[name]
    return bound, assumed


def _default(name: str, bound: Mapping[str, int]) -> int:
    if "total" in name or "+" in name:
        parts = [size for key, size in bound.items() if "sequence" in key and "total" not in key]
        return sum(parts) or 1
    return next((size for pattern, size in _DEFAULTS if re.search(pattern, name)), 1)


def _symbol(port: ValueInfoProto, axis: int) -> str:
    name = port.type.tensor_type.shape.dim[axis].dim_param
    return name or f"{port.name}:{axis}"


def _input(port: ValueInfoProto, bound: Mapping[str, int], given: Sequence[int]) -> Value:
    tensor = port.type.tensor_type
    if not port.type.HasField("tensor_type") or not tensor.HasField("shape"):
        return Value(tensor.elem_type, tuple(given) or None)
    shape = [
        dim.dim_value if dim.HasField("dim_value") else bound[_symbol(port, axis)]
        for axis, dim in enumerate(tensor.shape.dim)
    ]
    value = Value(tensor.elem_type, tuple(shape))
    if value.elements > MOST_ELEMENTS:
        raise InputError("cost_dims", names=port.name, known=str(MOST_ELEMENTS))
    return value


def _known(name: str, value: Value, length: int) -> Value:
    """Fills in what an input certainly or probably holds: masks ones, lengths the length."""
    from onnx import helper

    if value.shape is None or value.element not in (6, 7, 9) or value.elements > SMALL:
        return value
    dtype = helper.tensor_dtype_to_np_dtype(value.element)
    if _MASK.search(name.lower()):
        return Value(value.element, value.shape, np.ones(value.shape, dtype))
    if value.elements == 1 and value.element != 9 and "len" in name.lower():
        return Value(value.element, value.shape, np.full(value.shape, length, dtype), True)
    return value


def _growth(inputs: Mapping[str, Value], outputs: Mapping[str, Value]) -> int:
    """Bytes by which carried tensors grow: `present.0.key` over `past_key_values.0.key`."""
    came = sum(value.bytes for name, value in inputs.items() if "past" in name.lower())
    left = sum(value.bytes for name, value in outputs.items() if "present" in name.lower())
    return max(0, left - came)
