"""A process that tries one untrusted model with little memory. `python -m vozmetro.models.trial`.

It checks the structure with ONNX's own checker, loads the graph in ONNX Runtime, and runs it once
on the smallest inputs, each step told to the parent on standard output as one JSON line. Native
code that a hostile file crashes, or fills the memory of, takes down this process and no other.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from vozmetro.errors import VozmetroError

_OUT_OF_MEMORY = ("bad_alloc", "bad allocation", "Failed to allocate", "Cannot allocate memory")
_LINE = 300
_RUNTIME_DOMAIN = "com.microsoft"
_RUNTIME_OPERATORS = frozenset({"SimplifiedLayerNormalization"})
"""Registered by ONNX Runtime in the standard domain, where no ONNX specification has them."""


def main() -> None:
    """Runs the steps in order and ends at the first that fails."""
    path, limit = Path(sys.argv[1]), int(sys.argv[2])
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    _limit(limit)

    def tell(step: str, **fields: Any) -> None:
        replies.write(json.dumps({"step": step, **fields}) + "\n")
        replies.flush()

    session: Any = None
    for step in ("check", "load", "run"):
        try:
            if step == "check":
                _check(path)
            elif step == "load":
                session = _load(path)
            else:
                _run(session)
        except VozmetroError as error:
            tell(step, problem="refused", detail=str(error))
        except Exception as error:  # the runtime's errors share no narrower base
            lines = [line for line in str(error).splitlines() if line.strip()] or [""]
            full = isinstance(error, MemoryError) or any(s in str(error) for s in _OUT_OF_MEMORY)
            problem = "memory" if full else "refused"
            tell(step, problem=problem, detail=" ".join(lines)[:_LINE])
            if step == "check" and not full:
                continue
        else:
            tell(step)
            continue
        return


def _limit(limit: int) -> None:
    """Caps what the process may write to; mapped weights that are only read do not count."""
    if sys.platform == "win32":
        return
    import resource

    kinds = [resource.RLIMIT_DATA] if sys.platform == "linux" else [resource.RLIMIT_AS]
    for kind in (*kinds, resource.RLIMIT_CORE):
        wanted = 0 if kind == resource.RLIMIT_CORE else limit
        _, hard = resource.getrlimit(kind)
        if hard != resource.RLIM_INFINITY:
            wanted = min(wanted, hard)
        resource.setrlimit(kind, (wanted, hard))


def _check(path: Path) -> None:
    """Runs ONNX's checker on the structure alone; payloads are replaced by empty tensors."""
    import onnx

    from vozmetro.models import slim, weights

    model = slim.read(path)
    values = [field.name for field in onnx.TensorProto.DESCRIPTOR.fields]
    payloads = [name for name in values if name.endswith("_data")]
    for _, tensor in weights.tensors(model):
        tensor.dims[:] = [0]
        for name in (*payloads, "data_location"):
            tensor.ClearField(name)
    _move_runtime_operators(model)
    onnx.checker.check_model(model)


def _move_runtime_operators(model: Any) -> None:
    """Moves operators that ONNX Runtime puts into ONNX's own domain to its domain.

    The checker knows ONNX's operators alone and passes over other domains; what these are given is
    checked when the graph is loaded.
    """
    from onnx import helper

    from vozmetro.models import weights

    moved = [node for node in weights.nodes(model) if node.op_type in _RUNTIME_OPERATORS]
    for node in moved:
        node.domain = _RUNTIME_DOMAIN
    if moved and all(one.domain != _RUNTIME_DOMAIN for one in model.opset_import):
        model.opset_import.append(helper.make_opsetid(_RUNTIME_DOMAIN, 1))


def _load(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _run(session: Any) -> None:
    """Runs once with 1 for every dynamic size: what fills the memory does so here."""
    import numpy as np

    dtypes = {"float": "float32", "double": "float64", "string": "object"}
    feeds = {}
    for node in session.get_inputs():
        kind = node.type.removeprefix("tensor(").removesuffix(")")
        shape = [size if isinstance(size, int) else 1 for size in node.shape]
        feeds[node.name] = np.zeros(shape, np.dtype(dtypes.get(kind, kind)))
        if kind == "string":
            feeds[node.name].fill("")
    session.run(None, feeds)


if __name__ == "__main__":
    main()
