"""The cost of a graph: right answers worked out by hand, and laws that any cost obeys."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_zoo
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto as T
from onnx import helper as h

from vozmetro.errors import InputError
from vozmetro.models import architectures
from vozmetro.models.convert.builder import MICROSOFT, GraphBuilder, Scheme
from vozmetro.models.cost import cost
from vozmetro.models.cost.architecture import token_weights
from vozmetro.models.cost.ctranslate2 import whisper_cost
from vozmetro.models.resolve import resolve

BATCH, WIDTH, INNER = 2, 48, 96


def save(path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any], weights: Any) -> Path:
    graph = h.make_graph(nodes, "g", inputs, outputs, weights)
    imports = [h.make_opsetid("", 21), h.make_opsetid("com.microsoft", 1)]
    model = h.make_model(graph, opset_imports=imports, ir_version=10)
    path.write_bytes(model.SerializeToString())
    return path


def tensor(name: str, *shape: int, element: int = T.FLOAT) -> onnx.TensorProto:
    size = math.prod(shape) * onnx.helper.tensor_dtype_to_np_dtype(element).itemsize
    return h.make_tensor(name, element, shape, bytes(size), raw=True)


def info(name: str, *shape: int | str, element: int = T.FLOAT) -> Any:
    return h.make_tensor_value_info(name, element, shape)


# Products ----------------------------------------------------------------------------------------


def test_matmul_by_hand(tmp_path: Path) -> None:
    path = save(
        tmp_path / "m.onnx",
        [h.make_node("MatMul", ["x", "w"], ["y"])],
        [info("x", "batch", "rows", WIDTH)],
        [info("y", "batch", "rows", INNER)],
        [tensor("w", WIDTH, INNER)],
    )
    found = cost(path, {"batch": BATCH, "rows": 5})
    assert found.macs == {"fp32": BATCH * 5 * WIDTH * INNER}
    assert found.weight_bytes == 4 * WIDTH * INNER
    assert found.outputs == {"y": (BATCH, 5, INNER)}
    assert found.assumed == {}
    assert found.nodes[0].size == (BATCH * 5, WIDTH, INNER)


def test_gemm_by_hand(tmp_path: Path) -> None:
    path = save(
        tmp_path / "g.onnx",
        [h.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1)],
        [info("x", "rows", WIDTH)],
        [info("y", "rows", INNER)],
        [tensor("w", INNER, WIDTH), tensor("b", INNER)],
    )
    found = cost(path, {"rows": 7})
    assert found.macs == {"fp32": 7 * WIDTH * INNER}
    assert found.weight_bytes == 4 * (WIDTH * INNER + INNER)


def test_grouped_and_strided_convolution_by_hand(tmp_path: Path) -> None:
    path = save(
        tmp_path / "c.onnx",
        [
            h.make_node("Conv", ["x", "w"], ["y"], strides=[2], pads=[1, 1], group=4),
            h.make_node("ConvTranspose", ["y", "v"], ["z"], strides=[2]),
        ],
        [info("x", 1, 8, "t")],
        [info("z", 1, 6, "u")],
        [tensor("w", 12, 2, 3), tensor("v", 12, 6, 4)],
    )
    found = cost(path, {"t": 20})
    # 10 positions x 12 channels x (2 channels of the group x 3); 10 x 12 inputs x (6 x 4).
    assert [node.macs for node in found.nodes] == [10 * 12 * 2 * 3, 10 * 12 * 6 * 4]
    assert found.outputs == {"z": (1, 6, 22)}


def test_lstm_by_hand(tmp_path: Path) -> None:
    path = save(
        tmp_path / "l.onnx",
        [h.make_node("LSTM", ["x", "w", "r"], ["y"], hidden_size=16, direction="bidirectional")],
        [info("x", "length", 1, 10)],
        [info("y", "length", 2, 1, 16)],
        [tensor("w", 2, 64, 10), tensor("r", 2, 64, 16)],
    )
    assert cost(path, {"length": 9}).macs == {"fp32": 9 * 2 * 4 * 16 * (10 + 16)}


@pytest.mark.parametrize(
    ("precision", "kind", "weight_bytes"),
    [
        ("fp32", "fp32", 4 * 256 * 384),
        ("int8", "int8", 256 * 384 + 4 * 384),
        ("int4", "int4", 256 * 384 // 2 + 4 * 384 * 2),
    ],
)
def test_linear_layers_in_every_precision(
    tmp_path: Path, precision: Any, kind: str, weight_bytes: int
) -> None:
    weights = np.random.default_rng(0).standard_normal((384, 256)).astype(np.float32)
    with GraphBuilder(tmp_path / "m.onnx", Scheme(precision), "linear") as graph:
        x = graph.input("x", np.float32, [1, "rows", 256])
        graph.output("y", np.float32, [1, "rows", 384])
        graph.linear(x, "layer", weights, output="y")
        path = graph.save()
    found = cost(path, {"rows": 6})
    assert found.macs == {kind: 6 * 256 * 384}
    assert found.weight_bytes == weight_bytes
    assert found.unknown == {}


def test_a_lookup_reads_its_rows_only(tmp_path: Path) -> None:
    table = np.zeros((1000, 64), np.float32)
    with GraphBuilder(tmp_path / "e.onnx", Scheme("fp32"), "lookup") as graph:
        ids = graph.input("ids", np.int64, [1, "sequence"])
        graph.output("y", np.float32, [1, "sequence", 64])
        found = graph.embedding(ids, "table", table)
        graph.node("Identity", [found], outputs=["y"])
        path = graph.save()
    assert cost(path, {"sequence": 3}).weight_bytes == 3 * 64 * 4
    # Never more than the table.
    assert cost(path, {"sequence": 5000}).weight_bytes == 1000 * 64 * 4


def test_a_table_that_is_the_head_too_is_read_once(tmp_path: Path) -> None:
    path = save(
        tmp_path / "t.onnx",
        [
            h.make_node("Gather", ["table", "ids"], ["x"]),
            h.make_node("Transpose", ["table"], ["head"]),
            h.make_node("MatMul", ["x", "head"], ["y"]),
        ],
        [info("ids", 1, "n", element=T.INT64)],
        [info("y", 1, "n", 100)],
        [tensor("table", 100, 8)],
    )
    found = cost(path, {"n": 2})
    assert found.weight_bytes == 100 * 8 * 4
    assert found.macs == {"fp32": 2 * 8 * 100}


def test_dequantized_products_count_as_integers(tmp_path: Path) -> None:
    found = cost(onnx_zoo.int4_model(tmp_path / "m.onnx"), {"rows": 3})
    assert found.macs == {"int4": 3 * 64 * 32}
    assert found.weight_bytes == 64 * 32 // 2 + 32 * 4


# Attention ---------------------------------------------------------------------------------------

HEADS, KV_HEADS, HEAD, VOCABULARY, LAYERS = 8, 2, 16, 512, 3
HIDDEN, FEED = 64, 128


def decoder(path: Path, precision: Any = "int4") -> Path:
    """A decoder of the Qwen kind with random weights, as INTERFACES describe its ports."""
    rng = np.random.default_rng(0)

    def matrix(rows: int, columns: int) -> Any:
        return rng.standard_normal((rows, columns)).astype(np.float32)

    with GraphBuilder(path, Scheme(precision, 32), "lm") as graph:
        ids = graph.input("input_ids", np.int64, [1, "sequence"])
        mask = graph.input("attention_mask", np.int64, [1, "total_sequence"])
        past, present = [], []
        for i in range(LAYERS):
            for kind in ("key", "value"):
                shape = [1, KV_HEADS, "past_sequence", HEAD]
                past.append(graph.input(f"past_key_values.{i}.{kind}", np.float32, shape))
                shape = [1, KV_HEADS, "total_sequence", HEAD]
                present.append(graph.output(f"present.{i}.{kind}", np.float32, shape))
        graph.output("logits", np.float32, [1, 1, VOCABULARY])
        x = graph.embedding(ids, "embed", matrix(VOCABULARY, HIDDEN))
        axis = graph.constant([1], np.int64)
        total = graph.op("ReduceSum", mask, axis, keepdims=0)
        seqlens = graph.op("Cast", graph.op("Sub", total, axis), to=T.INT32)
        length = graph.op("Gather", graph.op("Shape", mask), graph.constant(1, np.int64), axis=0)
        length = graph.op("Cast", length, to=T.INT32)
        scale = graph.weight("norm", np.ones(HIDDEN, np.float32))
        for i in range(LAYERS):
            normed = graph.op("SimplifiedLayerNormalization", x, scale, axis=-1, epsilon=1e-6)
            parts = [
                graph.linear(normed, f"{i}.{name}", matrix(size, HIDDEN))
                for name, size in (
                    ("q", HEADS * HEAD), ("k", KV_HEADS * HEAD), ("v", KV_HEADS * HEAD)
                )
            ]  # fmt: skip
            inputs = [*parts, *past[2 * i : 2 * i + 2], seqlens, length]
            outputs = ["", *present[2 * i : 2 * i + 2]]
            outputs[0] = graph.unique(f"{i}.attended")
            graph.node(
                "GroupQueryAttention", inputs, outputs=outputs, domain=MICROSOFT,
                num_heads=HEADS, kv_num_heads=KV_HEADS,
            )  # fmt: skip
            attended = graph.linear(outputs[0], f"{i}.o", matrix(HIDDEN, HEADS * HEAD))
            normed, _, _, x = graph.node(
                "SkipSimplifiedLayerNormalization", [attended, x, scale], outputs=4,
                domain=MICROSOFT,
            )  # fmt: skip
            gate = graph.linear(normed, f"{i}.gate", matrix(FEED, HIDDEN))
            up = graph.linear(normed, f"{i}.up", matrix(FEED, HIDDEN))
            act = graph.op("Mul", gate, graph.op("Sigmoid", gate))
            x = graph.op("Add", x, graph.linear(
                graph.op("Mul", act, up), f"{i}.down", matrix(HIDDEN, FEED)))  # fmt: skip
        bounds = [graph.constant([one], np.int64) for one in (-1, np.iinfo(np.int64).max, 1)]
        last = graph.op("Slice", x, bounds[0], bounds[1], bounds[2])
        graph.linear(last, "head", matrix(VOCABULARY, HIDDEN), output="logits")
        graph.mark({"vozmetro.task": "language-model"})
        return graph.save()


def projections() -> int:
    """Weights of one layer."""
    attention = HIDDEN * HEAD * (2 * HEADS + 2 * KV_HEADS)
    return attention + 3 * HIDDEN * FEED


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
def test_prefill_and_decode_of_a_language_model(tmp_path: Path, precision: Any) -> None:
    path = decoder(tmp_path / "lm.onnx", precision)
    head = HIDDEN * VOCABULARY

    prefill = cost(path, {"sequence": 10, "past_sequence": 0, "total_sequence": 10})
    attended = LAYERS * 2 * HEADS * HEAD * (10 * 11 // 2)  # causal: 1 + 2 + ... + 10 pairs
    products = 10 * LAYERS * projections() + head
    assert prefill.total_macs == products + attended
    assert prefill.macs.get("fp32", 0) == attended + (products if precision == "fp32" else 0)

    decode = cost(path, {"sequence": 1, "past_sequence": 20, "total_sequence": 21})
    attended = LAYERS * 2 * HEADS * HEAD * 21
    assert decode.total_macs == LAYERS * projections() + head + attended
    assert decode.cache_bytes == LAYERS * 2 * KV_HEADS * 20 * HEAD * 4
    assert decode.cache_growth == LAYERS * 2 * KV_HEADS * HEAD * 4
    assert decode.outputs["logits"] == (1, 1, VOCABULARY)
    assert decode.outputs["present.0.key"] == (1, KV_HEADS, 21, HEAD)
    assert decode.unknown == {}
    assert decode.data_dependent == ()
    if precision == "fp32":
        norms = 4 * HIDDEN
        looked_up = 4 * HIDDEN
        small = 8 * 5  # the constants around the mask and the slice
        weights = 4 * (LAYERS * projections() + head)
        assert abs(decode.weight_bytes - weights - norms - looked_up) <= small


def test_total_and_past_are_understood_by_name(tmp_path: Path) -> None:
    path = decoder(tmp_path / "lm.onnx", "int4")
    found = cost(path, {"sequence": 1, "past_sequence": 20})
    assert found.dims["total_sequence"] == 21
    assert found.assumed == {}


def test_attention_with_its_own_projections(tmp_path: Path) -> None:
    path = save(
        tmp_path / "a.onnx",
        [h.make_node("Attention", ["x", "w", "b"], ["y"], domain="com.microsoft", num_heads=4)],
        [info("x", 1, "n", 32)],
        [info("y", 1, "n", 32)],
        [tensor("w", 32, 96), tensor("b", 96)],
    )
    assert cost(path, {"n": 6}).total_macs == 6 * 32 * 96 + 2 * 32 * 6 * 6


def test_multi_head_attention_over_an_encoder(tmp_path: Path) -> None:
    path = save(
        tmp_path / "a.onnx",
        [
            h.make_node(
                "MultiHeadAttention", ["q", "k", "v"], ["y"], domain="com.microsoft", num_heads=4
            )
        ],
        [info("q", 1, "n", 32), info("k", 1, 4, "m", 8), info("v", 1, 4, "m", 8)],
        [info("y", 1, "n", 32)],
        [],
    )
    assert cost(path, {"n": 3, "m": 50}).macs == {"fp32": 2 * 32 * 3 * 50}


# Mixtures of experts -----------------------------------------------------------------------------


def moe(path: Path, experts: int = 16, width: int = 64, inner: int = 32, k: int = 2) -> Path:
    """A QMoE of INT4: gate and up fused in the first weights, down in the second."""
    return save(
        path,
        [
            h.make_node(
                "QMoE",
                ["x", "router", "w1", "s1", "", "w2", "s2"],
                ["y"],
                domain="com.microsoft",
                k=k,
                expert_weight_bits=4,
            )
        ],
        [info("x", "tokens", width), info("router", "tokens", experts)],
        [info("y", "tokens", width)],
        [
            tensor("w1", experts, 2 * inner, width // 2, element=T.UINT8),
            tensor("s1", experts, 2 * inner),
            tensor("w2", experts, width, inner // 2, element=T.UINT8),
            tensor("s2", experts, width),
        ],
    )


def test_one_token_reads_its_experts_only(tmp_path: Path) -> None:
    found = cost(moe(tmp_path / "q.onnx"), {"tokens": 1})
    each = 3 * 64 * 32  # weights of an expert
    assert found.macs == {"int4": 2 * each}
    assert found.weight_bytes == 2 * (each // 2 + 4 * (64 + 64))


def test_many_tokens_may_all_choose_the_same_experts(tmp_path: Path) -> None:
    found = cost(moe(tmp_path / "q.onnx"), {"tokens": 4096})
    assert found.weight_bytes == 2 * (3 * 64 * 32 // 2 + 4 * (64 + 64))


# Real and awkward graphs -------------------------------------------------------------------------


def test_whisper_base_encoder_layer_counts(tmp_path: Path) -> None:
    """One layer of Whisper base at 1500 positions: 12 d^2 for each position, 2 n^2 d attention."""
    d, n = 512, 1500
    zeros = np.zeros((4 * d, d), np.float32)
    with GraphBuilder(tmp_path / "e.onnx", Scheme("fp32"), "encoder") as graph:
        x = graph.input("x", np.float32, [1, "frames", d])
        graph.output("y", np.float32, [1, "frames", d])
        shape = graph.constant([0, 0, 8, 64], np.int64)
        heads = []
        for name, perm in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])):
            made = graph.linear(x, name, zeros[:d])
            heads.append(graph.op("Transpose", graph.op("Reshape", made, shape), perm=perm))
        scores = graph.op("Softmax", graph.op("MatMul", heads[0], heads[1]), axis=-1)
        mixed = graph.op("Transpose", graph.op("MatMul", scores, heads[2]), perm=[0, 2, 1, 3])
        flat = graph.op("Reshape", mixed, graph.constant([0, 0, -1], np.int64))
        x = graph.op("Add", x, graph.linear(flat, "o", zeros[:d]))
        inner = graph.op("Gelu", graph.linear(x, "fc1", zeros))
        out = graph.linear(inner, "fc2", zeros.reshape(d, 4 * d))
        graph.node("Add", [x, out], outputs=["y"])
        path = graph.save()
    found = cost(path, {"frames": n})
    assert found.macs == {"fp32": 12 * d * d * n + 2 * n * n * d}
    assert found.outputs == {"y": (1, n, d)}


def test_ctranslate2_whisper_base_is_of_the_published_size() -> None:
    found = whisper_cost(resolve("whisper-base").path, "int8", 4, 20)
    d, n, layers = 512, 1500, 6
    convolved = 80 * d * 3 * 3000 + d * d * 3 * n
    attention = layers * 2 * n * n * d
    assert found.encoder.macs["fp32"] == convolved + attention
    # 12 d^2 a layer, and the keys and values of six layers of cross-attention.
    assert found.encoder.macs["int8"] == n * (layers * 12 * d * d + layers * 2 * d * d)
    # The decoder: 4 d^2 of self-attention, 2 of cross-attention, 8 of the feed-forward, the head.
    per_token = layers * 14 * d * d + 51865 * d
    assert found.step.macs["int8"] == pytest.approx(per_token, rel=1e-3)
    assert found.prefill.macs["fp32"] == 2 * layers * d * (4 * n + 10)


def test_a_real_voice_is_resolved_but_for_its_length() -> None:
    path = resolve("piper-joe-graph").path
    short, long = cost(path, {"phonemes": 20, "data": 100}), cost(path, {"phonemes": 20})
    assert short.outputs["output"] == (1, 1, 1, 256 * 100)
    assert short.assumed == {"batch_size": 1}
    assert short.unknown == {}
    assert long.assumed["data"] == 60
    # Only the sums of durations and the masks of the flows hang on data.
    assert {one.split()[0] for one in long.data_dependent} == {"Range", "NonZero"}
    # 15.6 million parameters, less the rows of the table that are not looked up.
    assert 61e6 < short.weight_bytes < 63.2e6


@pytest.mark.parametrize(
    "name",
    ["waveform_model", "mel_model", "tokens_model", "piper_like", "fp16_model", "int_inputs",
     "constant_model", "raises_model", "big_claim_model", "string_input_model", "function_model",
     "int8_dynamic_model", "matmul_nbits_int4_model", "external_data_model", "branches_model"],
)  # fmt: skip
def test_the_zoo_is_resolved(tmp_path: Path, name: str) -> None:
    found = cost(getattr(onnx_zoo, name)(tmp_path / "m.onnx"))
    assert found.unknown == {}
    assert found.data_dependent == ()
    assert all(shape is not None for shape in found.outputs.values())


def test_unknown_operators_are_listed(tmp_path: Path) -> None:
    found = cost(onnx_zoo.custom_op_model(tmp_path / "m.onnx"))
    assert found.unknown == {"my.company.Secret": 1}


def test_the_cheaper_branch_counts(tmp_path: Path) -> None:
    branches = {}
    for name, rows in (("then", 4), ("else", 64)):
        weight = h.make_node("Constant", [], [name], value=tensor("v", 8, rows))
        made = h.make_node("MatMul", ["x", name], [f"{name}_y"])
        branches[name] = h.make_graph([weight, made], name, [], [info(f"{name}_y", 1, rows)])
    node = h.make_node(
        "If", ["flag"], ["y"], then_branch=branches["then"], else_branch=branches["else"]
    )
    ports = [info("x", 1, 8), info("flag", element=T.BOOL)]
    found = cost(save(tmp_path / "i.onnx", [node], ports, [info("y", 1, "n")], []))
    assert found.macs == {"fp32": 8 * 4}
    assert found.branches == {"If y": "then"}


def test_a_loop_counts_each_round(tmp_path: Path) -> None:
    body = h.make_graph(
        [
            h.make_node("MatMul", ["s", "w"], ["next"]),
            h.make_node("Identity", ["c"], ["again"]),
            h.make_node("Identity", ["next"], ["kept"]),
        ],
        "body",
        [info("i", element=T.INT64), info("c", element=T.BOOL), info("s", 1, 8)],
        [info("again", element=T.BOOL), info("next", 1, 8), info("kept", 1, 8)],
    )
    path = save(
        tmp_path / "l.onnx",
        [h.make_node("Loop", ["trips", "", "x"], ["y", "all"], body=body)],
        [info("x", 1, 8)],
        [info("y", 1, 8), info("all", 5, 1, 8)],
        [h.make_tensor("trips", T.INT64, [], [5]), tensor("w", 8, 8)],
    )
    found = cost(path)
    assert found.macs == {"fp32": 5 * 64}
    assert found.weight_bytes == 4 * 64 + 8  # the matrix once, and the number of rounds
    assert found.outputs["all"] == (5, 1, 8)


@pytest.mark.parametrize("dims", [{"nothing": 3}, {"frames": -1}, {"frames": 1 << 60}])
def test_impossible_sizes_are_refused(tmp_path: Path, dims: dict[str, int]) -> None:
    path = onnx_zoo.mel_model(tmp_path / "m.onnx")
    with pytest.raises(InputError) as caught:
        cost(path, dims)
    assert caught.value.code == "cost_dims"


# Laws --------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 4), st.integers(1, 200), st.integers(1, 5))
def test_a_product_is_linear_in_rows(
    tmp_path_factory: pytest.TempPathFactory, batch: int, rows: int, times: int
) -> None:
    folder = tmp_path_factory.mktemp("cost")
    path = save(
        folder / "m.onnx",
        [h.make_node("MatMul", ["x", "w"], ["y"])],
        [info("x", "batch", "rows", 16)],
        [info("y", "batch", "rows", 8)],
        [tensor("w", 16, 8)],
    )
    once = cost(path, {"batch": batch, "rows": rows})
    more = cost(path, {"batch": batch, "rows": rows * times})
    assert more.total_macs == times * once.total_macs
    assert more.weight_bytes == once.weight_bytes
    assert more.activation_bytes == times * once.activation_bytes


@pytest.fixture(scope="module")
def small_decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return decoder(tmp_path_factory.mktemp("lm") / "lm.onnx", "int4")


@settings(max_examples=8, deadline=None)
@given(sequence=st.integers(1, 8), past=st.integers(0, 60))
def test_longer_costs_more(small_decoder: Path, sequence: int, past: int) -> None:
    path = small_decoder

    def of(sequence: int, past: int) -> Any:
        dims = {"sequence": sequence, "past_sequence": past, "total_sequence": sequence + past}
        return cost(path, dims)

    base = of(sequence, past)
    assert of(sequence + 1, past).total_macs > base.total_macs
    assert of(sequence, past + 1).total_macs > base.total_macs
    assert of(sequence, past + 1).cache_bytes > base.cache_bytes
    assert of(sequence + 1, past).weight_bytes >= base.weight_bytes
    # A prompt at once does what its tokens one by one do, the heads of all but the last apart.
    split = sum(of(1, past + i).total_macs for i in range(sequence))
    assert split - base.total_macs == (sequence - 1) * HIDDEN * VOCABULARY


# Without a file ----------------------------------------------------------------------------------


def test_weights_that_a_token_reads_of_known_architectures() -> None:
    # 36 layers of 4 projections and 3 feed-forward matrices, and the tied head.
    attention = 2560 * (2 * 4096 + 2 * 1024)
    layers = 36 * (attention + 3 * 2560 * 9728)
    assert token_weights(architectures.load("qwen3-vl-4b")) == layers + 151936 * 2560
    # "A3B": three of thirty thousand million parameters are active.
    assert 2.9e9 < token_weights(architectures.load("qwen3-omni-30b-a3b")) < 3.4e9


def test_no_token_of_an_architecture_that_makes_no_text() -> None:
    with pytest.raises(InputError) as caught:
        token_weights(architectures.load("whisper-base"))
    assert caught.value.code == "roofline_architecture"
