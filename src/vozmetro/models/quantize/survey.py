"""Which weights of a graph can be quantized, where they are used, and why the others cannot.

Subgraphs (branches of `If`, bodies of loops, as merged decoders have) are part of it: a weight of
an outer graph is known by its name inside.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vozmetro.models import weights
from vozmetro.models.quantize.plan import Left

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

QUANTIZED_OPS = frozenset(
    {
        "ConvInteger", "DequantizeLinear", "DynamicQuantizeLSTM", "DynamicQuantizeMatMul",
        "GatherBlockQuantized", "MatMulBnb4", "MatMulFpQ4", "MatMulInteger",
        "MatMulIntegerToFloat", "MatMulNBits", "QAttention", "QGemm", "QLinearConv",
        "QLinearMatMul", "QMoE", "QOrderedMatMul",
    }
)  # fmt: skip
"""Operators that only a quantized graph has."""
_FLOAT = 1
_CONVOLUTIONS = frozenset({"Conv", "ConvTranspose", "FusedConv"})

Path = tuple[int, ...]
"""Way to a subgraph: index of the node, of its attribute, of the graph in it, and so on."""


@dataclass(frozen=True)
class Weight:
    """A stored tensor, as a name of it is seen by nodes.

    Attributes:
        tensor: It.
        path: The graph that stores it.
        name: Its name there.
        turned: Whether the seen value is its transpose.
    """

    tensor: TensorProto
    path: Path
    name: str
    turned: bool = False

    @property
    def key(self) -> tuple[Path, str]:
        """Equal for two names of one tensor."""
        return self.path, self.name


@dataclass(frozen=True)
class Site:
    """A node to be replaced.

    Attributes:
        path: The graph it is in.
        index: Its place there.
        op: `MatMul`, `Gemm` or `Gather`.
        name: Of the node, or of its output.
        weight: What it multiplies by or looks up in.
        turned: Whether the tensor lies as [inputs, outputs].
        alpha: Factor of the product.
        add: Place of the `Add` of a constant bias that becomes part of it, None if there is none.
        bias: Name of a constant vector to add, empty for none.
        rest: Name of what a Gemm adds that is no such vector, empty for none.
        beta: Factor of `rest`.
        turn_input: Whether a Gemm turns what it multiplies.
    """

    path: Path
    index: int
    op: str
    name: str
    weight: Weight
    turned: bool
    alpha: float = 1.0
    add: int | None = None
    bias: str = ""
    rest: str = ""
    beta: float = 1.0
    turn_input: bool = False


@dataclass
class Survey:
    """What was found.

    Attributes:
        sites: In the order of the graph.
        left: Weights that stay as they are, largest first.
        parameters: Weights in the model.
        weight_bytes: Their bytes.
        quantized_parameters: Of them, those that no node reads as they were any more.
        quantized_bytes: Their bytes.
    """

    sites: list[Site] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)
    parameters: int = 0
    weight_bytes: int = 0
    quantized_parameters: int = 0
    quantized_bytes: int = 0


def survey(model: ModelProto, embeddings: bool) -> Survey:
    """Looks through a model.

    Args:
        model: Its structure.
        embeddings: Whether tables that are looked up are quantized too.
    """
    walk = _Walk(embeddings)
    walk.graph(model.graph, (), {})
    # Both lists are in one order; holding the tensors keeps their identity.
    held = [tensor for _, tensor in weights.tensors(model)]
    found = Survey(sites=walk.sites)
    seen = {id(weight.tensor): weight for weight in walk.weights.values()}
    tied = _tied(model)
    for tensor, stored in zip(held, weights.stored(model), strict=True):
        if not stored.is_weight:
            continue
        # A second copy of a tied tensor takes room, but is no parameter.
        elements = 0 if stored.name in tied else stored.elements
        found.parameters += elements
        found.weight_bytes += stored.bytes
        weight = seen.get(id(tensor))
        uses = walk.uses.get(weight.key, []) if weight is not None else [("", "function")]
        others = [use for use in uses if use[1]]
        if uses and not others:
            found.quantized_parameters += elements
            found.quantized_bytes += stored.bytes
        elif others:
            op, reason = others[0]
            found.left.append(Left(stored.name, op, stored.elements, stored.bytes, reason))
    found.left.sort(key=lambda left: -left.bytes)
    return found


def _tied(model: ModelProto) -> set[str]:
    marks = {prop.key: prop.value for prop in model.metadata_props}
    return {name.strip() for name in marks.get("vozmetro.tied", "").split(",")}


@dataclass(frozen=True)
class _Here:
    """A graph while it is walked through: the weights that its nodes see, and who reads what."""

    graph: GraphProto
    path: Path
    scope: Mapping[str, Weight]
    readers: Mapping[str, list[int]]


class _Walk:
    """Goes through graphs in order and remembers every use of every weight.

    Attributes:
        sites: As in `Survey`.
        weights: Every stored tensor of graphs by key.
        uses: Operator and reason (empty: quantized there) of each use, by the weight's key.
    """

    def __init__(self, embeddings: bool) -> None:
        self._embeddings = embeddings
        self.sites: list[Site] = []
        self.weights: dict[tuple[Path, str], Weight] = {}
        self.uses: dict[tuple[Path, str], list[tuple[str, str]]] = {}

    def graph(self, graph: GraphProto, path: Path, outer: Mapping[str, Weight]) -> None:
        scope = dict(outer)
        for value in graph.input:
            scope.pop(value.name, None)
        for tensor in graph.initializer:
            self._know(scope, Weight(tensor, path, tensor.name), tensor.name)
        here = _Here(graph, path, scope, _readers(graph))
        for index, node in enumerate(graph.node):
            if self._is_alias(node, scope, path):
                continue
            for at, attribute in enumerate(node.attribute):
                graphs = [attribute.g] if attribute.HasField("g") else list(attribute.graphs)
                for number, inner in enumerate(graphs):
                    self.graph(inner, (*path, index, at, number), scope)
            site = self._site(node, index, here)
            if site is not None:
                self.sites.append(site)
            self._use(node, scope, site)
            for name in node.output:
                scope.pop(name, None)
        for value in graph.output:
            if value.name in scope and scope[value.name].path == path:
                self.uses.setdefault(scope[value.name].key, []).append(("", "operator"))

    def _know(self, scope: dict[str, Weight], weight: Weight, name: str) -> None:
        scope[name] = weight
        self.weights.setdefault(weight.key, weight)

    def _is_alias(self, node: NodeProto, scope: dict[str, Weight], path: Path) -> bool:
        """Whether a node only gives a stored tensor another name, or turns it."""
        if node.op_type == "Constant" and node.output:
            for attribute in node.attribute:
                if attribute.name == "value" and attribute.HasField("t"):
                    self._know(scope, Weight(attribute.t, path, node.output[0]), node.output[0])
                    return True
            return False
        source = scope.get(node.input[0]) if len(node.input) == 1 else None
        if source is None or node.domain not in ("", "ai.onnx") or len(node.output) != 1:
            return False
        if node.op_type == "Identity":
            scope[node.output[0]] = source
            return True
        if node.op_type == "Transpose" and len(source.tensor.dims) == 2:
            order = next((list(a.ints) for a in node.attribute if a.name == "perm"), [1, 0])
            turned = source.turned ^ (order == [1, 0])
            scope[node.output[0]] = Weight(source.tensor, source.path, source.name, turned)
            return True
        return False

    def _site(self, node: NodeProto, index: int, here: _Here) -> Site | None:
        """Returns the replacement of a node, None where it stays."""
        path, scope = here.path, here.scope
        gather = node.op_type == "Gather"
        inputs = list(node.input)
        known = node.domain in ("", "ai.onnx") and node.op_type in ("MatMul", "Gemm", "Gather")
        if not known or len(inputs) < 2 or not node.output:
            return None
        weight = scope.get(inputs[0 if gather else 1])
        if weight is None or not _is_matrix(weight.tensor):
            return None
        numbers = {a.name: a.f if a.name in ("alpha", "beta") else a.i for a in node.attribute}
        name = node.name or node.output[0]
        if gather:
            wanted = self._embeddings and not weight.turned and numbers.get("axis", 0) == 0
            return Site(path, index, "Gather", name, weight, False) if wanted else None
        if inputs[0] in scope:
            return None
        turned = not weight.turned
        if node.op_type == "Gemm":
            turned ^= bool(numbers.get("transB", 0))
            outputs = int(weight.tensor.dims[1 if turned else 0])
            beta, added = float(numbers.get("beta", 1.0)), inputs[2] if len(inputs) > 2 else ""
            is_bias = beta == 1.0 and _is_vector(scope.get(added), outputs)
            return Site(
                path=path, index=index, op="Gemm", name=name, weight=weight, turned=turned,
                alpha=float(numbers.get("alpha", 1.0)), bias=added if is_bias else "",
                rest="" if is_bias else added, beta=beta,
                turn_input=bool(numbers.get("transA", 0)),
            )  # fmt: skip
        outputs = int(weight.tensor.dims[1 if turned else 0])
        add, bias = _bias(here, node.output[0], outputs)
        return Site(path, index, "MatMul", name, weight, turned, add=add, bias=bias)

    def _use(self, node: NodeProto, scope: Mapping[str, Weight], site: Site | None) -> None:
        """Remembers which stored tensors a node reads, and why they stay, if they do."""
        for at, name in enumerate(node.input):
            weight = scope.get(name)
            if weight is None:
                continue
            replaced = site is not None and at == (0 if site.op == "Gather" else 1)
            reason = "" if replaced else _reason(node, at, weight.tensor)
            self.uses.setdefault(weight.key, []).append((node.op_type, reason))


def _is_matrix(tensor: TensorProto) -> bool:
    return len(tensor.dims) == 2 and tensor.data_type == _FLOAT and all(tensor.dims)


def _is_vector(weight: Weight | None, size: int) -> bool:
    return (
        weight is not None
        and list(weight.tensor.dims) == [size]
        and weight.tensor.data_type == _FLOAT
    )


def _readers(graph: GraphProto) -> dict[str, list[int]]:
    """Returns by name the nodes that read it; -1 for outputs and for reads inside subgraphs."""
    found: dict[str, list[int]] = {}
    for index, node in enumerate(graph.node):
        for name in node.input:
            found.setdefault(name, []).append(index)
        for attribute in node.attribute:
            graphs = [attribute.g] if attribute.HasField("g") else list(attribute.graphs)
            for inner in graphs:
                for name in _readers(inner):
                    found.setdefault(name, []).append(-1)
    for value in graph.output:
        found.setdefault(value.name, []).append(-1)
    return found


def _bias(here: _Here, product: str, outputs: int) -> tuple[int | None, str]:
    """Returns the `Add` of a constant vector that is all that reads a product, and its name."""
    reading = here.readers.get(product, [])
    if len(reading) != 1 or reading[0] < 0:
        return None, ""
    node = here.graph.node[reading[0]]
    if node.op_type != "Add" or node.domain not in ("", "ai.onnx"):
        return None, ""
    other = next((name for name in node.input if name != product), "")
    return (reading[0], other) if _is_vector(here.scope.get(other), outputs) else (None, "")


def _reason(node: NodeProto, at: int, tensor: TensorProto) -> str:
    """Returns why a stored tensor that a node reads is not quantized there."""
    product = node.op_type in ("MatMul", "Gemm")
    reasons = {
        "vector": len(tensor.dims) < 2,
        "conv": node.op_type in _CONVOLUTIONS,
        "dtype": tensor.data_type != _FLOAT,
        "embedding": node.op_type == "Gather",
        "left-hand": product and at == 0,
        "batched": product and len(tensor.dims) > 2,
    }
    return next((reason for reason, holds in reasons.items() if holds), "operator")
