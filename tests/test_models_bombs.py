"""Small files that become large when they are read: refused by their structure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_zoo as zoo
import pytest
from onnx import TensorProto as T
from onnx import helper as h

from vozmetro.errors import ModelError
from vozmetro.models import slim
from vozmetro.models.checks import check_onnx

X, Y = (h.make_tensor_value_info(name, T.FLOAT, [1]) for name in "xy")
PLAIN = h.make_node("Identity", ["x"], ["y"])


def model(path: Path, *nodes, weights=(), inputs=(X,), functions=()) -> Path:
    graph = h.make_graph([*nodes, PLAIN], "g", list(inputs), [Y], list(weights))
    imports = [h.make_opsetid("", zoo.OPSET)]
    made = h.make_model(graph, opset_imports=imports, ir_version=zoo.IR, functions=list(functions))
    path.write_bytes(made.SerializeToString())
    return path


def refusal(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        check_onnx(path)
    for lang in ("es", "en"):
        assert "{" not in caught.value.message(lang)
    return caught.value.code


def sparse(dims, **external) -> onnx.SparseTensorProto:
    found = h.make_sparse_tensor(
        h.make_tensor("v", T.FLOAT, [1], [1.0]), h.make_tensor("i", T.INT64, [1], [0]), dims
    )
    if external:
        found.values.ClearField("float_data")
        found.values.data_location = T.EXTERNAL
        for key, value in external.items():
            found.values.external_data.add(key=key, value=value)
    return found


def with_default(value) -> onnx.FunctionProto:
    """A function with a default of an attribute."""
    return h.make_function(
        "own", "f", ["a"], ["b"], [h.make_node("Identity", ["a"], ["b"])],
        [h.make_opsetid("", zoo.OPSET)], attribute_protos=[h.make_attribute("v", value)],
    )  # fmt: skip


# Ranks and sizes ----------------------------------------------------------------------------


def test_a_million_dimensions(tmp_path):
    """Their product has 62 million binary digits, and as many steps on the way there."""
    dims = [1 << 62] * 1_000_000
    weight = T(name="w", dims=dims, data_type=T.FLOAT)
    assert refusal(model(tmp_path / "m.onnx", weights=[weight])) == "graph_absurd"
    port = h.make_tensor_value_info("x", T.FLOAT, dims[:100])
    assert refusal(model(tmp_path / "m.onnx", inputs=[port])) == "graph_absurd"
    node = h.make_node("Constant", [], ["z"], sparse_value=sparse(dims[:100]))
    assert refusal(model(tmp_path / "m.onnx", node)) == "graph_absurd"


def test_a_shape_of_a_million_numbers(tmp_path):
    size = T(name="s", dims=[100_000], data_type=T.INT64, int64_data=[1 << 62] * 100_000)
    node = h.make_node("ConstantOfShape", ["s"], ["z"])
    path = tmp_path / "m.onnx"
    # Unpacked, so that each number is a field of its own and stays.
    packed = size.SerializeToString()
    fields = b"".join(b"\x38" + _varint(1 << 62) for _ in range(100_000))
    tensor = T(name="s", dims=[100_000], data_type=T.INT64).SerializeToString() + fields
    assert T.FromString(tensor) == T.FromString(packed)
    content = model(path, node).read_bytes()
    graph = b"\x2a" + _varint(len(tensor)) + tensor
    path.write_bytes(content + b"\x3a" + _varint(len(graph)) + graph)
    assert refusal(path) == "graph_absurd"


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


@pytest.mark.parametrize("dims", [[1 << 20, 1 << 20], [-1]])
def test_a_sparse_tensor_that_is_large_when_written_out(dims, tmp_path):
    node = h.make_node("Constant", [], ["z"], sparse_value=sparse(dims))
    assert refusal(model(tmp_path / "m.onnx", node)) == "graph_absurd"


@pytest.mark.parametrize("given", [{"value_ints": [1 << 40]}, {"value_int": 1 << 40}])
def test_a_size_that_is_written_as_numbers(given, tmp_path):
    nodes = [
        h.make_node("Constant", [], ["size"], **given),
        h.make_node("ConstantOfShape", ["size"], ["big"]),
    ]
    assert refusal(model(tmp_path / "m.onnx", *nodes)) == "graph_absurd"


# Data elsewhere -----------------------------------------------------------------------------

AWAY = {"location": "../secret", "offset": "0", "length": "4"}


def away() -> onnx.TensorProto:
    tensor = T(name="t", dims=[1], data_type=T.FLOAT, data_location=T.EXTERNAL)
    for key, value in AWAY.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


@pytest.mark.parametrize(
    ("nodes", "functions"),
    [
        ([h.make_node("Constant", [], ["z"], sparse_value=sparse([4], **AWAY))], ()),
        ([h.make_node("Custom", ["x"], ["z"], many=[sparse([4], **AWAY)])], ()),
        ((), [with_default(away())]),
        ((), [with_default(h.make_graph([], "g", [], [], [away()]))]),
    ],
    ids=["sparse", "sparse list", "default", "default graph"],
)
def test_data_elsewhere_wherever_it_is_named(nodes, functions, tmp_path):
    (tmp_path / "secret").write_bytes(bytes(16))
    (tmp_path / "home").mkdir()
    path = model(tmp_path / "home" / "m.onnx", *nodes, functions=functions)
    assert refusal(path) == "external_outside"


def test_names_of_sparse_tensors_are_text(tmp_path):
    node = h.make_node("Custom", ["x"], ["z"], many=[sparse([4])])
    path = model(tmp_path / "m.onnx", node)
    content = path.read_bytes()
    assert content.count(b"\x42\x01v") == 1
    path.write_bytes(content.replace(b"\x42\x01v", b"\x42\x01\xff"))
    assert refusal(path) == "onnx_invalid"


# Messages -----------------------------------------------------------------------------------


@pytest.mark.parametrize("piece", [b"\x2a\x00", b"\x2a\x02\x0a\x00", b"\x2a\x80\x00"])
def test_many_messages_in_small_nodes(piece, tmp_path, monkeypatch):
    """Nodes of a kilobyte, full of attributes of two bytes."""
    monkeypatch.setattr(slim, "MOST_MESSAGES", 10_000)
    body = piece * (1000 // len(piece))
    node = b"\x0a" + _varint(len(body)) + body
    path = model(tmp_path / "m.onnx")
    graph = node * 50
    path.write_bytes(path.read_bytes() + b"\x3a" + _varint(len(graph)) + graph)
    assert refusal(path) == "graph_absurd"


def test_many_sizes_in_one_value_info(tmp_path, monkeypatch):
    monkeypatch.setattr(slim, "MOST_MESSAGES", 10_000)
    shape = b"\x0a\x00" * 20_000
    path = model(tmp_path / "m.onnx")
    for tag in (b"\x12", b"\x0a", b"\x12", b"\x6a", b"\x3a"):  # shape, tensor, type, info, graph
        shape = tag + _varint(len(shape)) + shape
    path.write_bytes(path.read_bytes() + shape)
    assert refusal(path) == "graph_absurd"


def test_a_large_model_has_few_messages_for_its_nodes():
    """Names as long as those of a mixture of experts: room for 100 000 operators."""
    names = [f"/model/layers.0/mlp/experts.{i}/gate_proj/MatMulNBits" for i in range(500)]
    nodes = [
        h.make_node(
            "MatMulNBits", [f"{name}_in", f"{name}_w", f"{name}_scales"], [f"{name}_out"],
            name=name, domain="com.microsoft", K=2048, N=768, bits=4, block_size=128,
            accuracy_level=4,
        )
        for name in names
    ]  # fmt: skip
    weights = [T(name=one, dims=[768, 16, 64], data_type=T.UINT8) for n in nodes for one in n.input]
    for weight in weights:
        weight.data_location = T.EXTERNAL
        for key, value in (("location", "m.onnx.data"), ("offset", "1234567"), ("length", "9")):
            weight.external_data.add(key=key, value=value)
    graph = h.make_graph(nodes, "g", [], [], weights).SerializeToString()
    assert np.ceil(slim._messages(graph) / len(nodes)) * 100_000 < slim.MOST_MESSAGES
