"""Tiny ONNX models for the quantizer: every way in which a weight can be read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper

INPUTS, OUTPUTS = 70, 48  # 70 inputs are no multiple of any block


def weight(name: str, *shape: int, scale: float = 0.1) -> np.ndarray:
    rng = np.random.default_rng(list(name.encode()))
    return (rng.standard_normal(shape) * scale).astype(np.float32)


def stored(name: str, values: np.ndarray) -> onnx.TensorProto:
    return numpy_helper.from_array(np.ascontiguousarray(values), name)


def port(name: str, shape: Sequence[int | str] | None, dtype: int = T.FLOAT) -> Any:
    return h.make_tensor_value_info(name, dtype, shape)


def save(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    weights: Sequence[onnx.TensorProto],
    inputs: Sequence[Any] = (),
    outputs: Sequence[Any] = (),
    *,
    metadata: dict[str, str] | None = None,
    opset: int = 17,
) -> Path:
    inputs = inputs or [port("x", ["rows", INPUTS])]
    outputs = outputs or [port("y", None)]
    graph = h.make_graph(list(nodes), "zoo", list(inputs), list(outputs), list(weights))
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", opset)], ir_version=8)
    h.set_model_props(model, metadata or {})
    path.write_bytes(model.SerializeToString())
    return path


def matmul(path: Path, *, bias: bool = False, **kwargs: Any) -> Path:
    """`x` [rows, 70] -> `y` [rows, 48]."""
    nodes = [h.make_node("MatMul", ["x", "w"], ["product" if bias else "y"], name="layer")]
    weights = [stored("w", weight("w", INPUTS, OUTPUTS))]
    if bias:
        nodes.append(h.make_node("Add", ["product", "b"], ["y"]))
        weights.append(stored("b", weight("b", OUTPUTS, scale=1)))
    return save(path, nodes, weights, **kwargs)


def gemm(
    path: Path, *, turn_a: bool, turn_b: bool, alpha: float, beta: float, bias: Sequence[int] | None
) -> Path:
    """A Gemm with whatever it can have; `x` is [70, 5] where `turn_a`, else [5, 70]."""
    shape = (OUTPUTS, INPUTS) if turn_b else (INPUTS, OUTPUTS)
    weights = [stored("w", weight("w", *shape))]
    names = ["x", "w"]
    if bias is not None:
        names.append("c")
        weights.append(stored("c", weight("c", *bias, scale=1)))
    node = h.make_node(
        "Gemm", names, ["y"], name="layer",
        transA=int(turn_a), transB=int(turn_b), alpha=alpha, beta=beta,
    )  # fmt: skip
    inputs = [port("x", [INPUTS, 5] if turn_a else [5, INPUTS])]
    return save(path, [node], weights, inputs)


def shared(path: Path) -> Path:
    """One weight read by two layers of one input, and turned by a third."""
    nodes = [
        h.make_node("MatMul", ["x", "w"], ["one"], name="first"),
        h.make_node("Relu", ["one"], ["positive"]),
        h.make_node("Transpose", ["w"], ["turned"], perm=[1, 0]),
        h.make_node("MatMul", ["positive", "turned"], ["back"], name="turning"),
        h.make_node("Sub", ["x", "back"], ["rest"]),
        h.make_node("MatMul", ["rest", "w"], ["two"], name="second"),
        h.make_node("MatMul", ["x", "v"], ["three"], name="third"),
        h.make_node("Sum", ["one", "two", "three"], ["y"]),
    ]
    weights = [stored(name, weight(name, INPUTS, OUTPUTS)) for name in "wv"]
    return save(path, nodes, weights)


def branches(path: Path) -> Path:
    """An `If` as merged decoders have: a weight of its own in a branch, and an outer one in both.

    `x` [rows, 70], `flag` bool -> `y` [rows, 48].
    """
    made = {}
    for name in ("then", "else"):
        own = f"{name}_w"
        nodes = [
            h.make_node("MatMul", ["x", own], [f"{name}_a"], name=f"{name}_own"),
            h.make_node("MatMul", ["x", "outer"], [f"{name}_b"], name=f"{name}_outer"),
            h.make_node("Add", [f"{name}_a", f"{name}_b"], [f"{name}_y"]),
        ]
        made[name] = h.make_graph(
            nodes, name, [], [port(f"{name}_y", None)], [stored(own, weight(own, INPUTS, OUTPUTS))]
        )
    node = h.make_node("If", ["flag"], ["y"], then_branch=made["then"], else_branch=made["else"])
    inputs = [port("x", ["rows", INPUTS]), port("flag", [], T.BOOL)]
    return save(path, [node], [stored("outer", weight("outer", INPUTS, OUTPUTS))], inputs)


def loop(path: Path) -> Path:
    """A `Loop` whose body multiplies what it carries by a square weight, three times."""
    body = h.make_graph(
        [
            h.make_node("MatMul", ["carried", "w"], ["next"], name="inside"),
            h.make_node("Identity", ["go"], ["go_on"]),
        ],
        "body",
        [port("i", [], T.INT64), port("go", [], T.BOOL), port("carried", None)],
        [port("go_on", [], T.BOOL), port("next", None)],
        [stored("w", weight("w", INPUTS, INPUTS))],
    )
    node = h.make_node("Loop", ["times", "", "x"], ["y"], body=body)
    return save(path, [node], [stored("times", np.array(3, np.int64))])


def tied(path: Path, *, metadata: dict[str, str] | None = None) -> Path:
    """A table looked up by `ids` and, turned, the head: `ids` [1, n] -> `y` [1, n, 48]."""
    nodes = [
        h.make_node("Gather", ["table", "ids"], ["words"], name="lookup"),
        h.make_node("Transpose", ["table"], ["turned"], perm=[1, 0]),
        h.make_node("MatMul", ["words", "turned"], ["y"], name="head"),
    ]
    inputs = [port("ids", [1, "n"], T.INT64)]
    table = stored("table", weight("table", OUTPUTS, INPUTS))
    return save(path, nodes, [table], inputs, metadata=metadata)


def mixed(path: Path) -> Path:
    """One weight for each reason to be left, and a layer."""
    nodes = [
        h.make_node("Unsqueeze", ["x", "one"], ["planes"]),
        h.make_node("Conv", ["planes", "kernel"], ["folded"], pads=[1, 1]),
        h.make_node("Squeeze", ["folded", "one"], ["flat"]),
        h.make_node("MatMul", ["left", "flat"], ["mixed"], name="on_the_left"),
        h.make_node("MatMul", ["mixed", "batch"], ["many"], name="in_batches"),
        h.make_node("ReduceMean", ["many"], ["mean"], axes=[0], keepdims=0),
        h.make_node("MatMul", ["mean", "w"], ["product"], name="layer"),
        h.make_node("Mul", ["product", "gain"], ["y"]),
    ]
    weights = [
        stored("one", np.array([1], np.int64)),
        stored("kernel", weight("kernel", 1, 1, 3)),
        stored("left", weight("left", 5, 5)),
        stored("batch", weight("batch", 2, INPUTS, INPUTS)),
        stored("w", weight("w", INPUTS, OUTPUTS)),
        stored("gain", weight("gain", OUTPUTS)),
    ]
    return save(path, nodes, weights, [port("x", [5, INPUTS])], opset=17)


def only_conv(path: Path) -> Path:
    """`x` [1, 70, frames] -> `y`: nothing that the quantizer takes."""
    nodes = [h.make_node("Conv", ["x", "kernel"], ["y"])]
    kernel = stored("kernel", weight("kernel", OUTPUTS, INPUTS, 3))
    return save(path, nodes, [kernel], [port("x", [1, INPUTS, "frames"])])


def encoder(path: Path, *, bands: int = 80, width: int = 64) -> Path:
    """A speech encoder in little: `input_features` [1, 80, frames] -> `states` [1, frames, 64]."""
    nodes = [
        h.make_node("Transpose", ["input_features"], ["frames"], perm=[0, 2, 1]),
        h.make_node("MatMul", ["frames", "w1"], ["a"], name="up"),
        h.make_node("Add", ["a", "b1"], ["b"]),
        h.make_node("Relu", ["b"], ["c"]),
        h.make_node("MatMul", ["c", "w2"], ["states"], name="down"),
    ]
    weights = [
        stored("w1", weight("w1", bands, 4 * width)),
        stored("b1", weight("b1", 4 * width)),
        stored("w2", weight("w2", 4 * width, width)),
    ]
    inputs = [port("input_features", [1, bands, "frames"])]
    return save(path, nodes, weights, inputs, [port("states", [1, "frames", width])])


def typed_weight(path: Path) -> Path:
    """A weight stored as `float_data` instead of raw bytes."""
    values = weight("w", INPUTS, OUTPUTS)
    tensor = h.make_tensor("w", T.FLOAT, values.shape, values.ravel().tolist())
    return save(path, [h.make_node("MatMul", ["x", "w"], ["y"], name="layer")], [tensor])


def constant_weight(path: Path) -> Path:
    """A weight in a Constant node, seen through an Identity."""
    nodes = [
        h.make_node("Constant", [], ["c"], value=stored("value", weight("w", INPUTS, OUTPUTS))),
        h.make_node("Identity", ["c"], ["w"]),
        h.make_node("MatMul", ["x", "w"], ["y"], name="layer"),
    ]
    return save(path, nodes, [])


def old_opset(path: Path) -> Path:
    """Opset 10, where Clip has its limits as attributes and nothing quantizes as it comes."""
    nodes = [
        h.make_node("Clip", ["x"], ["limited"], min=-1.0, max=1.0),
        h.make_node("MatMul", ["limited", "w"], ["y"], name="layer"),
    ]
    return save(path, nodes, [stored("w", weight("w", INPUTS, OUTPUTS))], opset=10)


def external(source: Path, path: Path) -> Path:
    """The same model with its weights in `<name>.weights`, the first of them at an odd place."""
    model = onnx.load(source)
    data = b"\0" * 8
    for tensor in model.graph.initializer:
        place = {"location": f"{path.name}.weights", "offset": str(len(data))}
        place["length"] = str(len(tensor.raw_data))
        data += tensor.raw_data
        tensor.ClearField("raw_data")
        tensor.data_location = T.EXTERNAL
        for key, value in place.items():
            tensor.external_data.add(key=key, value=value)
    path.with_name(f"{path.name}.weights").write_bytes(data)
    path.write_bytes(model.SerializeToString())
    return path
