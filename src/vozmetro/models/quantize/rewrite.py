"""Replaces the nodes of a graph by quantized ones, and drops the weights that nobody reads now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vozmetro.models import weights
from vozmetro.models.quantize.plan import Plan
from vozmetro.models.quantize.survey import Path, Site
from vozmetro.models.quantize.versions import MICROSOFT

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

_ALIASES = frozenset({"Constant", "Identity", "Transpose"})

Names = Mapping[tuple[Any, ...], tuple[str, str]]
"""Names of values and scales, by `weight_key` of the site."""


def weight_key(site: Site) -> tuple[Any, ...]:
    """Returns what sites have in common that can read one and the same quantized weight."""
    return (*site.weight.key, site.turned, site.alpha, site.op == "Gather")


class Rewriter:
    """Rewrites one model in place.

    Attributes:
        fallback: Values read by layers of a `static` plan that has no range for them.
    """

    def __init__(self, model: ModelProto, sites: Sequence[Site], names: Names, plan: Plan) -> None:
        self._model = model
        self._names = names
        self._plan = plan
        self._sites = {(site.path, site.index): site for site in sites}
        # A bias is added by the product itself, which then comes where the Add was.
        self._adds = {(site.path, site.add): site for site in sites if site.add is not None}
        self._taken = set(_all_names(model))
        for pair in names.values():
            self._taken.update(pair)
        self.fallback: list[str] = []

    def rewrite(self) -> None:
        """Replaces every site."""
        _Graph(self, self._model.graph, ()).rewrite()

    def at(self, path: Path, index: int) -> Site | None:
        """Returns the site whose replacement belongs at a place."""
        site = self._sites.get((path, index))
        return self._adds.get((path, index)) if site is None or site.add is not None else site

    def is_gone(self, path: Path, index: int) -> bool:
        """Whether the node at a place is replaced elsewhere."""
        return (path, index) in self._sites

    def names(self, site: Site) -> tuple[str, str]:
        """Returns the names of a site's quantized weight."""
        return self._names[weight_key(site)]

    @property
    def plan(self) -> Plan:
        """How layers are quantized."""
        return self._plan

    def unique(self, name: str) -> str:
        """Returns the name, with a number behind it where it is taken, and takes it."""
        found, number = name, 1
        while found in self._taken:
            number += 1
            found = f"{name}_{number}"
        self._taken.add(found)
        return found


class _Graph:
    """Rewrites one graph and the graphs in it."""

    def __init__(self, model: Rewriter, graph: GraphProto, path: Path) -> None:
        self._model = model
        self._graph = graph
        self._path = path
        self._made: list[NodeProto] = []
        self._quantized: dict[str, list[str]] = {}

    def rewrite(self) -> None:
        nodes = list(self._graph.node)
        for index, node in enumerate(nodes):
            for at, attribute in enumerate(node.attribute):
                graphs = [attribute.g] if attribute.HasField("g") else list(attribute.graphs)
                for number, inner in enumerate(graphs):
                    _Graph(self._model, inner, (*self._path, index, at, number)).rewrite()
            site = self._model.at(self._path, index)
            if site is not None:
                self._replace(site, nodes[site.index], node.output[0])
            elif not self._model.is_gone(self._path, index):
                self._made.append(node)
        # Copies, because clearing the field frees the nodes in it.
        kept = [_copy(node) for node in self._made]
        del self._graph.node[:]
        self._graph.node.extend(kept)

    def _replace(self, site: Site, node: NodeProto, output: str) -> None:
        """Adds what stands for a node; `output` is the name it gives."""
        if site.op == "Gather":
            self._lookup(site, node.input[1], output)
            return
        x = node.input[0]
        if site.turn_input:
            x = self._node("Transpose", [x], name=f"{site.name}/input", perm=[1, 0])
        product = output if not site.rest else self._model.unique(f"{site.name}/product")
        self._product(site, x, node.input[0], product)
        if site.rest:
            rest = site.rest
            if site.beta != 1.0:
                beta = self._constant(np.float32(site.beta), f"{site.name}/beta")
                rest = self._node("Mul", [rest, beta], name=f"{site.name}/scaled")
            self._node("Add", [product, rest], output, name=f"{site.name}/add")

    def _product(self, site: Site, x: str, seen: str, output: str) -> None:
        plan, stored = self._model.plan, self._model.names(site)
        if plan.mode == "weight-only":
            shape = [int(size) for size in site.weight.tensor.dims]
            rows, columns = reversed(shape) if site.turned else shape
            inputs = [x, *stored, *(["", "", site.bias] if site.bias else [])]
            self._node(
                "MatMulNBits", inputs, output, name=site.name, domain=MICROSOFT,
                K=columns, N=rows, bits=plan.bits, block_size=plan.block, accuracy_level=4,
            )  # fmt: skip
            return
        quantized, scale, zero = self._input(x, seen)
        inputs = [quantized, stored[0], scale, stored[1], zero]
        inputs += ["", site.bias] if site.bias else []
        self._node("MatMulIntegerToFloat", inputs, output, name=site.name, domain=MICROSOFT)

    def _input(self, x: str, seen: str) -> list[str]:
        """Quantizes a value once in this graph, however many layers read it.

        Args:
            x: Its name.
            seen: Name under which its range is known: it may be turned.
        """
        if x in self._quantized:
            return self._quantized[x]
        plan = self._model.plan
        # Ranges are of the main graph, whose inner values can be seen while it runs.
        known = plan.ranges.get(seen) if plan.mode == "static" and not self._path else None
        if plan.mode == "static" and known is None:
            self._model.fallback.append(seen)
        if known is None:
            names = [self._model.unique(f"{x}_{kind}") for kind in ("quantized", "scale", "zero")]
            self._add("DynamicQuantizeLinear", [x], names, name=f"{x}_quantize")
        else:
            scale, zero = affine(*known)
            names = [
                self._model.unique(f"{x}_quantized"),
                self._constant(scale, f"{x}_scale"),
                self._constant(zero, f"{x}_zero"),
            ]
            self._add("QuantizeLinear", [x, *names[1:]], names[:1], name=f"{x}_quantize")
        self._quantized[x] = names
        return names

    def _lookup(self, site: Site, ids: str, output: str) -> None:
        values, scales = self._model.names(site)
        rows = self._node("Gather", [values, ids], name=site.name)
        floats = self._node("Cast", [rows], name=f"{site.name}/cast", to=1)
        found = self._node("Gather", [scales, ids], name=f"{site.name}/scale")
        self._node("Mul", [floats, found], output, name=f"{site.name}/mul")

    def _node(
        self, op: str, inputs: Sequence[str], output: str = "", *, name: str, **attributes: Any
    ) -> str:
        made = output or self._model.unique(f"{name}/out")
        self._add(op, inputs, [made], name=name, **attributes)
        return made

    def _add(
        self,
        op: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        *,
        name: str,
        domain: str = "",
        **attributes: Any,
    ) -> None:
        from onnx import helper

        self._made.append(
            helper.make_node(op, inputs, outputs, name=name, domain=domain, **attributes)
        )

    def _constant(self, value: Any, name: str) -> str:
        from onnx import numpy_helper

        name = self._model.unique(name)
        self._graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return name


def affine(low: float, high: float) -> tuple[np.float32, np.uint8]:
    """Returns scale and zero point of uint8 for a range, as `DynamicQuantizeLinear` defines them.

    The range is widened to hold 0, which must be exact; an empty one has the scale 1.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    scale = np.float32((high - low) / 255) or np.float32(1)
    return scale, np.uint8(np.clip(np.rint(-low / scale), 0, 255))


def prune(model: ModelProto) -> None:
    """Drops stored tensors, and nodes that only rename or turn them, which nothing reads."""
    while True:
        used = {name for node in weights.nodes(model) for name in node.input}
        graphs = list(weights.graphs(model))
        used.update(value.name for graph in graphs for value in graph.output)
        dropped = [_prune(graph, used) for graph in graphs]
        if not any(dropped):
            return


def _prune(graph: GraphProto, used: set[str]) -> bool:
    """Drops what `used` does not name; returns whether there was something."""
    stored = [at for at, tensor in enumerate(graph.initializer) if tensor.name not in used]
    gone = {graph.initializer[at].name for at in stored}
    nodes = [
        at
        for at, node in enumerate(graph.node)
        if node.op_type in _ALIASES and node.output and not used.intersection(node.output)
    ]
    # Before IR version 4, every initializer is also an input.
    ports = [at for at, value in enumerate(graph.input) if value.name in gone]
    for field, places in (
        (graph.initializer, stored),
        (graph.node, nodes),
        (graph.input, ports),
    ):
        for at in reversed(places):
            del field[at]
    return bool(stored or nodes)


def _all_names(model: ModelProto) -> Iterator[str]:
    for graph in weights.graphs(model):
        for value in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
            yield value.name
    for node in weights.nodes(model):
        yield node.name
        yield from node.input
        yield from node.output


def _copy(node: NodeProto) -> NodeProto:
    from onnx import NodeProto

    made = NodeProto()
    made.CopyFrom(node)
    return made


def graph_at(model: ModelProto, path: Path) -> GraphProto:
    """Returns the graph that a path leads to, in a model not yet rewritten."""
    graph = model.graph
    for node, attribute, number in zip(path[0::3], path[1::3], path[2::3], strict=True):
        holder = graph.node[node].attribute[attribute]
        graph = holder.g if holder.HasField("g") else holder.graphs[number]
    return graph
