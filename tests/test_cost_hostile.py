"""Costs of graphs made to do harm: an error of ours, in little time and memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper

from vozmetro.errors import ModelError
from vozmetro.models.checks import check_onnx
from vozmetro.models.cost import cost, values
from vozmetro.models.cost.propagate import Walk
from vozmetro.models.cost.values import UNKNOWN, Value, computed
from vozmetro.models.overview import overview

X, Y = (h.make_tensor_value_info(name, T.FLOAT, [1, 8]) for name in "xy")
FLAG = h.make_tensor_value_info("flag", T.BOOL, [])
PLAIN = h.make_node("Identity", ["x"], ["y"])


def save(
    path: Path, nodes: list[Any], weights: Any = (), inputs: Any = (X,), functions: Any = ()
) -> Path:
    graph = h.make_graph(nodes, "g", list(inputs), [Y], list(weights))
    imports = [h.make_opsetid("", 21), h.make_opsetid("own", 1)]
    made = h.make_model(graph, opset_imports=imports, ir_version=10, functions=list(functions))
    path.write_bytes(made.SerializeToString())
    return path


def function(name: str, *called: str) -> onnx.FunctionProto:
    """Calls others, one after the other."""
    names = ["a", *(f"v{i}" for i in range(len(called) - 1)), "b"]
    nodes = [
        h.make_node(one, [names[i]], [names[i + 1]], domain="own") for i, one in enumerate(called)
    ] or [h.make_node("Identity", ["a"], ["b"])]
    imports = [h.make_opsetid("", 21), h.make_opsetid("own", 1)]
    return h.make_function("own", name, ["a"], ["b"], nodes, imports)


def refusal(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        cost(path)
    for lang in ("es", "en"):
        assert "{" not in caught.value.message(lang)
    return caught.value.code


# What does not fit together -----------------------------------------------------------------


@pytest.mark.parametrize(
    "node",
    [
        h.make_node("If", [], ["z"]),
        h.make_node("If", ["x"], ["z"], then_branch=3, else_branch=3),
        h.make_node("Loop", [], ["z"]),
        h.make_node("Scan", ["x"], ["z"]),
        h.make_node("Shape", [], ["z"]),
        h.make_node("DequantizeLinear", [], ["z"]),
        h.make_node("Shape", ["x"], ["z"], start="here"),
    ],
    ids=lambda node: f"{node.op_type}-{len(node.input)}",
)
def test_operators_without_what_they_need(node: onnx.NodeProto, tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", [node, PLAIN])
    check_onnx(path)
    assert refusal(path) == "cost_unknown"
    (part,) = overview(str(path)).parts
    assert part.operations is None
    assert part.uncounted is not None
    assert part.uncounted.code == "cost_unknown"


def test_a_weight_of_no_type_that_is_known(tmp_path: Path) -> None:
    weight = T(name="w", dims=[2], data_type=77, raw_data=b"1234")
    assert cost(save(tmp_path / "m.onnx", [PLAIN], [weight])).total_macs == 0


# Functions ----------------------------------------------------------------------------------


def test_functions_that_multiply(tmp_path: Path) -> None:
    """Twelve that call the one before ten times: 10^12 nodes from 4 kB."""
    made = [function("f0"), *(function(f"f{i + 1}", *[f"f{i}"] * 10) for i in range(12))]
    nodes = [h.make_node("f12", ["x"], ["y"], domain="own")]
    path = save(tmp_path / "m.onnx", nodes, functions=made)
    check_onnx(path)
    assert refusal(path) == "graph_absurd"


def test_functions_in_a_circle(tmp_path: Path) -> None:
    made = [function("one", "two"), function("two", "one")]
    nodes = [h.make_node("one", ["x"], ["y"], domain="own")]
    assert refusal(save(tmp_path / "m.onnx", nodes, functions=made)) == "graph_cyclic"


def test_functions_in_a_long_chain(tmp_path: Path) -> None:
    made = [function("f0"), *(function(f"f{i + 1}", f"f{i}") for i in range(500))]
    nodes = [h.make_node("f500", ["x"], ["y"], domain="own")]
    assert refusal(save(tmp_path / "m.onnx", nodes, functions=made)) == "graph_absurd"


def test_a_function_that_is_handed_a_graph(tmp_path: Path) -> None:
    body = h.make_graph([h.make_node("Identity", ["x"], ["i"])], "b", [], [])
    nodes = [h.make_node("f", ["x"], ["y"], domain="own", body=body)]
    assert refusal(save(tmp_path / "m.onnx", nodes, functions=[function("f")])) == "graph_absurd"


def test_functions_are_written_out(tmp_path: Path) -> None:
    made = [function("one"), function("two", "one", "one")]
    nodes = [h.make_node("two", ["x"], ["y"], domain="own")]
    found = cost(save(tmp_path / "m.onnx", nodes, functions=made))
    assert found.unknown == {}
    assert found.outputs == {"y": (1, 8)}


# Branches and rounds ------------------------------------------------------------------------


def nested(depth: int) -> onnx.GraphProto:
    """A branch with a branch in it; the other of each computes more."""
    out = h.make_tensor_value_info(f"o{depth}", T.FLOAT, [1, 8])
    if not depth:
        return h.make_graph([h.make_node("Identity", ["x"], ["o0"])], "b", [], [out])
    weight = h.make_tensor(f"w{depth}", T.FLOAT, [8, 8], bytes(256), raw=True)
    product = h.make_node("MatMul", ["x", f"w{depth}"], [f"m{depth}"])
    given = h.make_tensor_value_info(f"m{depth}", T.FLOAT, [1, 8])
    other = h.make_graph([product], "c", [], [given], [weight])
    node = h.make_node(
        "If", ["flag"], [f"o{depth}"], then_branch=nested(depth - 1), else_branch=other
    )
    return h.make_graph([node], "b", [], [out])


def test_each_branch_is_walked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    depth, walked = 25, []
    real = Walk.graph

    def counted(self: Walk, graph: onnx.GraphProto, *given: Any) -> list[Value]:
        walked.append(graph.name)
        assert len(walked) < 1000
        return real(self, graph, *given)

    monkeypatch.setattr(Walk, "graph", counted)
    inner = nested(depth).node
    path = save(
        tmp_path / "m.onnx",
        [*inner, h.make_node("Identity", [f"o{depth}"], ["y"])],
        inputs=(X, FLAG),
    )
    found = cost(path)
    assert len(walked) == 1 + 2 * depth
    assert found.total_macs == 0
    assert found.outputs == {"y": (1, 8)}
    assert len(found.branches) == depth
    assert set(found.branches.values()) == {"then"}


@pytest.mark.parametrize("rounds", [0, -3])
def test_a_loop_that_never_runs(rounds: int, tmp_path: Path) -> None:
    ports = [
        h.make_tensor_value_info("i", T.INT64, []),
        h.make_tensor_value_info("c", T.BOOL, []),
        h.make_tensor_value_info("s", T.FLOAT, [1, 8]),
    ]
    body = h.make_graph(
        [h.make_node("MatMul", ["s", "w"], ["next"]), h.make_node("Identity", ["c"], ["again"])],
        "body",
        ports,
        [
            h.make_tensor_value_info("again", T.BOOL, []),
            h.make_tensor_value_info("next", T.FLOAT, [1, 8]),
        ],
    )
    weights = [
        h.make_tensor("rounds", T.INT64, [], [rounds]),
        h.make_tensor("w", T.FLOAT, [8, 8], bytes(256), raw=True),
    ]
    node = h.make_node("Loop", ["rounds", "", "x"], ["y"], body=body)
    found = cost(save(tmp_path / "m.onnx", [node], weights))
    assert found.total_macs == 0
    assert found.outputs == {"y": (1, 8)}


# Contents -----------------------------------------------------------------------------------


def test_only_arithmetic_of_sizes_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pattern takes hours on this text, in any process that tries it."""
    run: list[str] = []
    real = values._evaluated

    def told(node: onnx.NodeProto, *given: Any) -> Any:
        run.append(node.op_type)
        return real(node, *given)

    monkeypatch.setattr(values, "_evaluated", told)
    nodes = [
        h.make_node("RegexFullMatch", ["text"], ["matches"], pattern="(a+)+$"),
        h.make_node("Add", ["one", "one"], ["two"]),
        PLAIN,
    ]
    weights = [
        numpy_helper.from_array(np.array(["a" * 40 + "b"], object), "text"),
        numpy_helper.from_array(np.array([1], np.int64), "one"),
    ]
    cost(save(tmp_path / "m.onnx", nodes, weights))
    assert run == ["Add"]


@pytest.mark.parametrize(
    ("op", "contents"),
    [
        ("Range", (0, 1 << 33, 1)),
        ("ConstantOfShape", ([1 << 33],)),
        ("Expand", ([1], [1 << 20, 1 << 20])),
        ("Add", (np.ones((4096, 1)), np.ones((1, 4096)))),
        ("Add", (np.array(["text"], object), np.array(["text"], object))),
        ("Gather", (np.ones((1, 4096)), np.zeros(4096, np.int64))),
    ],
)
def test_no_content_grows(op: str, contents: tuple[Any, ...]) -> None:
    arrays = [np.asarray(one) for one in contents]
    inputs = [Value(7, one.shape, one) for one in arrays]
    node = h.make_node(op, [f"i{index}" for index in range(len(arrays))], ["o"])
    assert computed(node, inputs, 21) is None


def test_small_contents_are_computed() -> None:
    node = h.make_node("Range", ["a", "b", "c"], ["o"])
    inputs = [Value(7, (), np.array(one)) for one in (0, 6, 2)]
    (found,) = computed(node, inputs, 21) or [None]
    assert found is not None
    assert found.tolist() == [0, 2, 4]
    assert computed(node, [*inputs[:2], UNKNOWN], 21) is None
