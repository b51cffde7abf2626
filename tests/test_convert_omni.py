"""Graphs of Qwen3-Omni's parts against recorded outputs of `transformers` and against NumPy.

The recordings in `data/parity/omni_*.npz` are made by `tests/convert/test_omni_parity.py`.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import omni_tiny
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from vozmetro import packages
from vozmetro.errors import ModelError
from vozmetro.models.convert import moe, omni
from vozmetro.models.convert.attention import Positions, Tower
from vozmetro.models.convert.audio_encoder import EncoderShape
from vozmetro.models.convert.builder import GraphBuilder, Scheme
from vozmetro.models.convert.code2wav import Code2WavShape
from vozmetro.models.convert.decoder_shape import DecoderShape
from vozmetro.models.convert.moe import Experts, MoeFeed, forced_choices
from vozmetro.models.quantize.kernels import (
    int4_blocks,
    int4_values,
    int8_block_values,
    int8_blocks,
)

CLOSE = 1e-4
PARTS = ("thinker", "talker", "talker_projection", "code_predictor", "audio_encoder", "code2wav")


def open_session(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("omni")


@pytest.mark.parametrize("component", PARTS)
def test_parity_with_what_transformers_said(component: str, folder: Path) -> None:
    session = open_session(omni_tiny.write(component, folder))
    recorded = np.load(omni_tiny.PARITY / f"omni_{component}.npz")
    for number, feeds in enumerate(omni_tiny.feeds(component)):
        for index, ours in enumerate(omni_tiny.run(session, feeds)):
            theirs = recorded[f"{number}.{index}"]
            assert ours.shape == theirs.shape
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=CLOSE * np.abs(theirs).max())


def test_the_recordings_are_small() -> None:
    sizes = [path.stat().st_size for path in omni_tiny.PARITY.glob("omni_*.npz")]
    assert len(sizes) == len(PARTS)
    assert max(sizes) < 60_000


def test_talker_with_its_cache(folder: Path) -> None:
    """Nine tokens at once, or five and then one by one: the same last logits."""
    session = open_session(omni_tiny.write("talker", folder))
    whole = omni_tiny.feeds("talker")[1]["inputs_embeds"]
    expected = omni_tiny.run(session, {"inputs_embeds": whole})
    names = [port.name for port in session.get_outputs()]
    caches = {
        port.name: np.zeros((1, 1, 0, 32), np.float32)
        for port in session.get_inputs()
        if port.name.startswith("past")
    }
    seen = 0
    for count in (5, 1, 1, 1, 1):
        given = {"inputs_embeds": whole[:, seen : seen + count]}
        seen += count
        given["attention_mask"] = np.ones((1, seen), np.int64)
        found = dict(zip(names, session.run(None, {**given, **caches}), strict=True))
        caches = {n: found[n.replace("past_key_values", "present")] for n in caches}
    assert seen == whole.shape[1]
    np.testing.assert_allclose(found["logits"], expected[0], atol=1e-5)
    np.testing.assert_allclose(found["hidden"], expected[1], atol=1e-5)


def test_code_predictor_steps_have_heads_of_their_own(folder: Path) -> None:
    session = open_session(omni_tiny.write("code_predictor", folder))
    x = omni_tiny.feeds("code_predictor")[0]["inputs_embeds"]
    found = [omni_tiny.run(session, {"inputs_embeds": x, "step": np.array([n])})[0] for n in (0, 2)]
    assert not np.allclose(found[0], found[1])


def test_codes_are_looked_up_in_the_table_of_their_group(folder: Path) -> None:
    source = omni_tiny.DummySource(omni_tiny.CONFIG, "code_predictor", "talker")
    order = omni.Order(folder / "codec_embedding.onnx", Scheme(), {})
    session = open_session(omni.write_codec_embedding(source, omni_tiny.CONFIG, order))
    [found] = session.run(None, {"codes": np.array([[4, 90 + 4, 90 + 2 * 60 + 4]])})
    prefix = "talker.code_predictor.model.codec_embedding"
    expected = [
        source.read("talker.model.codec_embedding.weight")[4],
        source.read(f"{prefix}.0.weight")[4],
        source.read(f"{prefix}.2.weight")[4],
    ]
    np.testing.assert_array_equal(found[0], expected)


# Mixtures of experts -----------------------------------------------------------------------------


class Arrays:
    """A `WeightSource` of arrays."""

    weights = "real"

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        self.arrays = arrays

    def names(self) -> Sequence[str]:
        return list(self.arrays)

    def shape(self, name: str) -> tuple[int, ...]:
        return self.arrays[name].shape

    def read(self, name: str) -> np.ndarray:
        return self.arrays[name].astype(np.float32)


EXPERTS = Experts(count=6, per_token=2, width=32)
HIDDEN = 64
SHAPE = DecoderShape("test", HIDDEN, 1, 1, 1, HIDDEN, 32, 10, 1e-6, 1e4, context=64, prefix="m.")
PREFIX = "m.layers.0.mlp."


def experts_weights(**scale: float) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    sizes = {
        "gate.weight": (EXPERTS.count, HIDDEN),
        "experts.gate_up_proj": (EXPERTS.count, 2 * EXPERTS.width, HIDDEN),
        "experts.down_proj": (EXPERTS.count, HIDDEN, EXPERTS.width),
    }
    return {
        f"{PREFIX}{name}": rng.standard_normal(size, np.float32) * scale.get(name, 0.1)
        for name, size in sizes.items()
    }


def feed_graph(
    path: Path, source: Any, scheme: Scheme, experts: Experts, forced: int | None = None
) -> onnxruntime.InferenceSession:
    with GraphBuilder(path, scheme, "feed") as builder:
        x = builder.input("x", np.float32, [1, "sequence", HIDDEN])
        mask = builder.input("mask", np.int64, [1, "total"])
        builder.output("y", np.float32, [1, "sequence", HIDDEN])
        tower = Tower(builder, source, SHAPE, Positions("", "", "", ""))
        y = MoeFeed(experts, mask, forced)(tower, 0, x)
        builder.node("Identity", [y], outputs=["y"])
        builder.save()
    return open_session(path)


def dense(x: np.ndarray, weights: dict[str, np.ndarray], experts: Experts) -> np.ndarray:
    """The definition: softmax over all, the largest, perhaps divided by their sum."""
    logits = x @ weights[f"{PREFIX}gate.weight"].T
    shares = np.exp(logits - logits.max(-1, keepdims=True))
    shares /= shares.sum(-1, keepdims=True)
    out = np.zeros_like(x)
    for token, row in enumerate(shares):
        chosen = np.argsort(-row)[: experts.per_token]
        total = row[chosen].sum() if experts.normalize else 1
        for expert in chosen:
            both = weights[f"{PREFIX}experts.gate_up_proj"][expert] @ x[token]
            gate, up = both[: experts.width], both[experts.width :]
            inside = gate / (1 + np.exp(-gate)) * up
            down = weights[f"{PREFIX}experts.down_proj"][expert] @ inside
            out[token] += row[expert] / total * down
    return out


def error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
def test_experts_are_mixed_as_defined(precision: str, normalize: bool, tmp_path: Path) -> None:
    experts = replace(EXPERTS, normalize=normalize)
    weights = experts_weights()
    stored = dict(weights)
    if precision != "fp32":  # what the graph's numbers stand for: only the inputs are rounded
        for name in (f"{PREFIX}experts.gate_up_proj", f"{PREFIX}experts.down_proj"):
            flat = weights[name].reshape(-1, weights[name].shape[-1])
            quantize, back = (
                (int4_blocks, int4_values)
                if precision == "int4"
                else (int8_blocks, int8_block_values)
            )
            stored[name] = back(*quantize(flat, 32), flat.shape[1]).reshape(weights[name].shape)
    session = feed_graph(
        tmp_path / "feed.onnx", Arrays(weights), Scheme(precision, block=32), experts
    )
    x = np.random.default_rng(2).standard_normal((1, 9, HIDDEN), np.float32)
    [found] = session.run(None, {"x": x, "mask": np.ones((1, 9), np.int64)})
    off = error(found[0], dense(x[0], stored, experts))
    assert off < (1e-5 if precision == "fp32" else 0.02)


def test_experts_one_by_one_as_hubs_keep_them(tmp_path: Path) -> None:
    weights = experts_weights()
    apart = {f"{PREFIX}gate.weight": weights[f"{PREFIX}gate.weight"]}
    for expert in range(EXPERTS.count):
        gate, up = np.split(weights[f"{PREFIX}experts.gate_up_proj"][expert], 2)
        down = weights[f"{PREFIX}experts.down_proj"][expert]
        for name, array in (("gate", gate), ("up", up), ("down", down)):
            apart[f"{PREFIX}experts.{expert}.{name}_proj.weight"] = array
    for name, source in (("a", weights), ("b", apart)):
        feed_graph(tmp_path / f"{name}.onnx", Arrays(source), Scheme("int4", 32), EXPERTS)
    first, second = ((tmp_path / f"{n}.onnx.data").read_bytes() for n in "ab")
    assert first == second


def test_forced_choices_are_even_and_distinct() -> None:
    experts = Experts(count=128, per_token=8, width=16)
    table = forced_choices(experts, 3000, seed=4)
    assert np.all((table > 0).sum(axis=1) == 8)
    each = (table > 0).sum(axis=0)
    # 3000 * 8 / 128 on average; five standard deviations of a binomial.
    assert np.all(np.abs(each - 187.5) < 5 * np.sqrt(187.5))
    assert np.array_equal(forced_choices(experts, 5000, seed=4)[:3000], table)
    assert not np.array_equal(forced_choices(experts, 3000, seed=5), table)


def many_experts() -> dict[str, Any]:
    config = copy.deepcopy(omni_tiny.CONFIG)
    config["thinker_config"]["text_config"] |= {
        "num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 16,
        "num_hidden_layers": 6,
    }  # fmt: skip
    return config


def routed(path: Path, layers: int) -> onnxruntime.InferenceSession:
    """Returns a session that also puts out what the experts are chosen by."""
    model = onnx.load(path)
    for node in model.graph.node:
        if node.op_type in {"MoE", "QMoE"}:
            model.graph.output.append(
                helper.make_tensor_value_info(node.input[1], TensorProto.FLOAT, None)
            )
    assert sum(node.op_type == "QMoE" for node in model.graph.node) == layers
    onnx.save(model, path.with_name("routed.onnx"))
    return open_session(path.with_name("routed.onnx"))


def choices(session: onnxruntime.InferenceSession, tokens: int, past: int) -> list[np.ndarray]:
    """Runs `tokens` after `past` of zeros; returns the chosen experts [tokens, 8] of each layer."""
    feeds: dict[str, np.ndarray] = {
        port.name: np.zeros((1, 2, past, 32), np.float32) for port in session.get_inputs()[2:]
    }
    # All tokens alike: without forced routing, all would go the same way.
    feeds |= {
        "input_ids": np.full((1, tokens), 7),
        "attention_mask": np.ones((1, past + tokens), int),
    }
    names = [o.name for o in session.get_outputs() if "mlp" in o.name]
    return [np.argsort(-logits)[:, :8] for logits in session.run(names, feeds)]


@pytest.mark.parametrize("forced", [9, None])
def test_tokens_of_dummies_reach_as_many_experts_as_random_ones(
    forced: int | None, tmp_path: Path
) -> None:
    config = many_experts()
    source = omni_tiny.DummySource(config, "thinker", "thinker_head")
    order = omni.Order(tmp_path / "thinker.onnx", Scheme("int4", 16), {}, forced=forced)
    session = routed(omni.write_thinker(source, config, order), 6)
    tokens = 24
    found = choices(session, tokens, past=3)
    assert [len(rows) for rows in found] == [tokens] * 5 + [1]
    distinct = [len(np.unique(rows)) for rows in found[:5]]
    # Each expert is missed by a token with probability 1 - 8/128.
    expected = 128 * (1 - (1 - 8 / 128) ** tokens)
    if forced is None:
        assert max(distinct) < expected / 4
        return
    assert np.all(np.abs(np.array(distinct) - expected) < 12)
    # One token at a time goes the ways that it goes among others, and not those of the one before.
    alone = [choices(session, 1, past=past)[2] for past in (3, 4, 5)]
    for number, rows in enumerate(alone):
        assert set(rows[0]) == set(found[2][number])
    assert set(alone[0][0]) != set(alone[1][0])
    layers = [frozenset(rows[0]) for rows in found[:5]]
    assert len(set(layers)) == 5


def test_the_router_is_still_there(tmp_path: Path) -> None:
    """Forced or not, the same matrices are multiplied, so that the cost is the same."""
    config = many_experts()
    source = omni_tiny.DummySource(config, "thinker", "thinker_head")
    kinds = []
    for forced in (None, 0):
        order = omni.Order(tmp_path / f"{forced}.onnx", Scheme("int4", 16), {}, forced=forced)
        model = onnx.load(omni.write_thinker(source, config, order))
        kinds.append([n.op_type for n in model.graph.node if n.op_type in {"MatMul", "QMoE"}])
    assert kinds[0] == kinds[1] == ["MatMul", "QMoE"] * 6


def test_what_the_operators_cannot_do_is_refused(tmp_path: Path) -> None:
    weights = experts_weights()
    odd = replace(EXPERTS, width=20)
    weights[f"{PREFIX}experts.gate_up_proj"] = np.ones((6, 40, HIDDEN), np.float32)
    weights[f"{PREFIX}experts.down_proj"] = np.ones((6, HIDDEN, 20), np.float32)
    with pytest.raises(ModelError) as caught:
        feed_graph(tmp_path / "feed.onnx", Arrays(weights), Scheme("int4"), odd)
    assert caught.value.code == "decoder_unsupported"
    assert not (tmp_path / "feed.onnx").exists()
    text = omni_tiny.CONFIG["thinker_config"]["text_config"]
    with pytest.raises(ModelError, match="mlp_only_layers"):
        Experts.from_config({**text, "mlp_only_layers": [0]})
    with pytest.raises(ModelError, match="moe_intermediate_size"):
        Experts.from_config({k: v for k, v in text.items() if k != "moe_intermediate_size"})
    assert moe.MIN_BLOCK == 16


# Sound in and out --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def listening(folder: Path) -> onnxruntime.InferenceSession:
    return open_session(omni_tiny.write("audio_encoder", folder))


@given(frames=st.integers(1, 500), seed=st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_audio_becomes_thirteen_tokens_a_second(
    listening: onnxruntime.InferenceSession, frames: int, seed: int
) -> None:
    features = np.random.default_rng(seed).standard_normal((1, 32, frames), np.float32)
    [found] = listening.run(None, {"input_features": features})
    rest = math.ceil(frames % 100 / 8)  # three halvings, each rounded up
    assert found.shape == (1, frames // 100 * 13 + rest, 64)
    assert np.isfinite(found).all()
    # Attention ends with its window of two chunks: what comes after changes nothing before.
    if frames > 200:
        [first] = listening.run(None, {"input_features": features[:, :, :200]})
        np.testing.assert_allclose(found[:, :26], first, atol=1e-5)


def test_shapes_that_are_not_supported_say_so() -> None:
    audio = omni_tiny.CONFIG["thinker_config"]["audio_config"]
    with pytest.raises(ModelError, match="relu"):
        EncoderShape.from_config({**audio, "activation_function": "relu"}, "")
    with pytest.raises(ModelError, match="d_model"):
        EncoderShape.from_config({k: v for k, v in audio.items() if k != "d_model"}, "")
    with pytest.raises(ModelError, match="sliding_window"):
        code = omni_tiny.CONFIG["code2wav_config"]
        Code2WavShape.from_config({k: v for k, v in code.items() if k != "sliding_window"}, "")
    with pytest.raises(ModelError) as caught:
        omni.prefix_of(Arrays({}), "lm_head.weight")
    assert caught.value.code == "weight_missing"


def test_codes_become_sound(folder: Path) -> None:
    session = open_session(omni_tiny.write("code2wav", folder))
    shape = Code2WavShape.from_config(omni_tiny.CONFIG["code2wav_config"], "")
    for feeds in omni_tiny.feeds("code2wav"):
        [audio] = omni_tiny.run(session, feeds)
        assert audio.shape == (1, 1, shape.samples(feeds["codes"].shape[2]))
        assert np.abs(audio).max() <= 1
    full = {"upsample_rates": [8, 5, 4, 3], "upsampling_ratios": [2, 2]}
    real = Code2WavShape.from_config({**omni_tiny.CONFIG["code2wav_config"], **full}, "")
    assert (real.samples(1), real.samples(10)) == (1365, 10 * 1920 - 555)


def test_later_codes_do_not_change_what_was_heard(folder: Path) -> None:
    """Causal: a stream can be decoded as it comes."""
    session = open_session(omni_tiny.write("code2wav", folder))
    codes = omni_tiny.feeds("code2wav")[2]["codes"]
    changed = codes.copy()
    changed[:, :, 12:] = (changed[:, :, 12:] + 1) % 50
    one, two = (session.run(None, {"codes": given})[0] for given in (codes, changed))
    start = 12 * 2 * 2 * 4 * 3 - 4 * 3 * 2  # the frame's first sample, less what overlaps
    np.testing.assert_allclose(one[..., :start], two[..., :start], atol=1e-6)
    assert not np.allclose(one, two)


@pytest.mark.parametrize("component", PARTS)
def test_integers_stay_near(component: str, folder: Path) -> None:
    """Eight bits keep what the component says; the same seed gives the same bytes."""
    exact = open_session(omni_tiny.write(component, folder))
    path = omni_tiny.write(component, folder / "int8", Scheme("int8", block=16))
    again = omni_tiny.write(component, folder / "again", Scheme("int8", block=16))
    data = path.with_name(f"{path.name}.data")
    assert packages.sha256(data) == packages.sha256(again.with_name(data.name))
    near = open_session(path)
    for feeds in omni_tiny.feeds(component):
        for ours, theirs in zip(
            omni_tiny.run(near, feeds), omni_tiny.run(exact, feeds), strict=True
        ):
            assert error(ours, theirs) < 0.1
