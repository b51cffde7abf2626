"""A model's own functions, written out before its graph is walked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

from vozmetro.errors import ModelError
from vozmetro.models import structure, weights

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

_Key = tuple[str, str, str]
_MAIN: _Key = ("", "", "")
_MOST_CALLS = 100
"""Functions in functions: they are written out by recursion."""
_PIECE = 256


def prepared(model: ModelProto, path: Path) -> ModelProto:
    """Returns the model with its own functions written out.

    Raises:
        ModelError: `graph_absurd` where that is more than any model has.
    """
    if not model.functions:
        return model
    from onnx import inliner

    _check_functions(model, path)
    inlined: ModelProto = inliner.inline_local_functions(model)
    return inlined


def _check_functions(model: ModelProto, path: Path) -> None:
    """Refuses functions that call each other in a circle, or grow beyond measure.

    Ten functions that each call the one before ten times are a small file and a whole memory.
    """
    own = {(one.domain, one.name, one.overload): one for one in model.functions}
    calls: dict[_Key, list[_Key]] = {}
    sizes: dict[_Key, int] = {}
    handed = 0
    for key, nodes in [(_MAIN, _in(model.graph.node)), *((k, _in(f.node)) for k, f in own.items())]:
        calls[key], sizes[key] = [], 0
        for node in nodes:
            callee = (node.domain, node.op_type, node.overload)
            sizes[key] += 1 + node.ByteSize() // _PIECE
            if callee not in own:
                continue
            calls[key].append(callee)
            handed = max([handed, *(one.ByteSize() for one in node.attribute)])
            if any(weights.subgraphs(node)):
                # It would be written out wherever the function reads it, with calls of its own.
                raise ModelError("graph_absurd", path=path, name=node.op_type)
    # What is handed to a function may be written out at each of its nodes.
    sizes = {key: size * (1 + handed // _PIECE) for key, size in sizes.items()}
    depths: dict[_Key, int] = {}
    for key in _ordered(calls, path):
        sizes[key] += sum(sizes[callee] for callee in calls[key])
        depths[key] = 1 + max((depths[callee] for callee in calls[key]), default=0)
        if sizes[key] > structure.MOST_NODES or depths[key] > _MOST_CALLS:
            raise ModelError("graph_absurd", path=path, name=key[1])


def _ordered(calls: Mapping[_Key, Sequence[_Key]], path: Path) -> list[_Key]:
    """Returns functions behind those that they call."""
    try:
        return list(TopologicalSorter(calls).static_order())
    except CycleError as error:
        raise ModelError("graph_cyclic", path=path, name=error.args[1][0][1]) from error


def _in(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    """Yields nodes and those of their branches and bodies."""
    waiting = [nodes]
    while waiting:
        for node in waiting.pop():
            yield node
            waiting.extend(graph.node for graph in weights.subgraphs(node))
