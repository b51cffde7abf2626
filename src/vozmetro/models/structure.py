"""Whether a graph can be a model at all: no cycles, no name made twice, no absurd sizes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vozmetro.errors import ModelError
from vozmetro.models import weights
from vozmetro.models.inspection import Port

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

MOST_ELEMENTS = 1 << 34
"""Elements of one tensor that no model for one machine has: 64 GiB of FP32."""
MOST_NODES = 1_000_000
"""Operators of the largest graph that is read; exported mixtures of experts have about 100 000."""
MOST_RANK = 64
"""Dimensions of one tensor: as many as numpy has. Products of a million of them take hours."""
# Operators that fill a tensor of a size given in the graph: position of the input that says it.
_FILLERS = {"ConstantOfShape": 0, "Expand": 1, "Tile": 1, "Resize": 3}


def check_ranks(path: Path, model: ModelProto) -> None:
    """Refuses tensors of more dimensions than any has; to be called before sizes are multiplied.

    Raises:
        ModelError: `graph_absurd`.
    """
    ranks = [(name, len(tensor.dims)) for name, tensor in weights.tensors(model)]
    ranks += [(name, len(sparse.dims)) for name, sparse in weights.sparse_tensors(model)]
    for port in (*model.graph.input, *model.graph.output):
        ranks.append((port.name, len(port.type.tensor_type.shape.dim)))
    for name, rank in ranks:
        if rank > MOST_RANK:
            raise ModelError("graph_absurd", path=path, name=name)


def check(path: Path, model: ModelProto, ports: Iterable[Port]) -> None:
    """Refuses a graph that no runtime can execute, or only to fill the memory.

    Raises:
        ModelError: `graph_cyclic`, `graph_duplicate` or `graph_absurd`.
    """
    if sum(1 for _ in weights.nodes(model)) > MOST_NODES:
        raise ModelError("graph_absurd", path=path, name=f"> {MOST_NODES:,} nodes")
    named = [(port.name, [one for one in port.shape if isinstance(one, int)]) for port in ports]
    # What a sparse tensor holds is small; what it is written out to may be anything.
    named += [(name, list(sparse.dims)) for name, sparse in weights.sparse_tensors(model)]
    for name, sizes in named:
        if _is_absurd(sizes) or any(size < 0 for size in sizes):
            raise ModelError("graph_absurd", path=path, name=name)
    _check_fills(path, model)
    for graph in weights.graphs(model):
        _check_names(path, graph)
        _check_order(path, graph.node)
    for function in model.functions:
        _check_order(path, function.node)


def _is_absurd(sizes: Iterable[int]) -> bool:
    """Returns whether a tensor of these sizes is too large, without multiplying on from there."""
    elements = 1
    for size in sizes:
        elements *= max(size, 1)
        if elements > MOST_ELEMENTS:
            return True
    return False


def _check_fills(path: Path, model: ModelProto) -> None:
    """Refuses operators that are told, by a constant, to make more than a machine holds."""
    constants = dict(weights.tensors(model))
    listed = {
        node.output[0]: [*attribute.ints, attribute.i]
        for node in weights.nodes(model)
        if node.op_type == "Constant" and node.output
        for attribute in node.attribute
        if attribute.name in ("value_int", "value_ints")
    }
    for node in weights.nodes(model):
        position = _FILLERS.get(node.op_type)
        sizes: list[int] = []
        if position is not None and position < len(node.input):
            name = node.input[position]
            tensor = constants.get(name)
            if tensor is not None and tensor.data_type == tensor.INT64:
                sizes = list(tensor.int64_data)
                sizes += np.frombuffer(
                    tensor.raw_data[: len(tensor.raw_data) // 8 * 8], "<i8"
                ).tolist()
            else:
                sizes = listed.get(name, [])
        elif node.op_type.startswith("Random"):
            sizes = [size for one in node.attribute if one.name == "shape" for size in one.ints]
        if _is_absurd(sizes):
            raise ModelError("graph_absurd", path=path, name=node.name or node.op_type)


def _check_names(path: Path, graph: GraphProto) -> None:
    made = {value.name for value in graph.input}
    for node in graph.node:
        for name in node.output:
            if name and name in made:
                raise ModelError("graph_duplicate", path=path, name=name)
            made.add(name)


def _check_order(path: Path, nodes: Iterable[NodeProto]) -> None:
    """Removes nodes that wait for nothing until none is left (Kahn, 1962); a cycle stays over."""
    listed = list(nodes)
    maker = {name: index for index, node in enumerate(listed) for name in node.output if name}
    waits: list[int] = []
    readers: dict[int, list[int]] = {}
    for index, node in enumerate(listed):
        needs = {maker[name] for name in _read(node) if name in maker}
        waits.append(len(needs))
        for need in needs:
            readers.setdefault(need, []).append(index)
    ready = deque(index for index, count in enumerate(waits) if not count)
    done = 0
    while ready:
        done += 1
        for reader in readers.get(ready.popleft(), ()):
            waits[reader] -= 1
            if not waits[reader]:
                ready.append(reader)
    if done < len(listed):
        stuck = next(index for index, count in enumerate(waits) if count)
        name = listed[stuck].name or listed[stuck].op_type
        raise ModelError("graph_cyclic", path=path, name=name)


def _read(node: NodeProto) -> set[str]:
    """Returns every name that a node reads: inputs, and what its branches and bodies capture."""
    read = set(node.input)
    waiting = list(weights.subgraphs(node))
    own: set[str] = set()
    while waiting:
        graph = waiting.pop()
        own.update(value.name for value in graph.input)
        own.update(tensor.name for tensor in graph.initializer)
        read.update(value.name for value in graph.output)
        for inner in graph.node:
            own.update(inner.output)
            read.update(inner.input)
            waiting.extend(weights.subgraphs(inner))
    return read - (own - set(node.input))
