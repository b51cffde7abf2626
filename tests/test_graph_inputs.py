"""Which shapes a graph's inputs get, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_zoo
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vozmetro.audio import log_mel, synthetic_speech
from vozmetro.engines.base import TensorSpec
from vozmetro.engines.onnx_graph import OrtGraph
from vozmetro.errors import InputError
from vozmetro.measure.graph_inputs import Material, build, rule_of
from vozmetro.measure.subject import vocabulary_bounds

AUDIO = synthetic_speech(1.5, seed=1)
MATERIAL = Material(AUDIO, "", seed=1)


def resolved(path: Path, material: Material = MATERIAL, **shapes: list[int]) -> dict[str, Any]:
    """Rule and shape by input, after the graph has really run on the feeds."""
    graph = OrtGraph(path, 1, {})
    feeds, inputs = build(graph.inputs, material, shapes, vocabulary_bounds(path))
    graph.run(feeds)
    return {one.name: (one.rule, tuple(one.shape)) for one in inputs}


def test_waveform(tmp_path: Path) -> None:
    found = resolved(onnx_zoo.waveform_model(tmp_path / "m.onnx"))
    assert list(found.values()) == [("waveform", (1, 24_000))]


def test_log_mel_is_the_real_one(tmp_path: Path) -> None:
    path = onnx_zoo.mel_model(tmp_path / "m.onnx", bands=128)
    graph = OrtGraph(path, 1, {})
    feeds, inputs = build(graph.inputs, MATERIAL, {}, {})
    assert (inputs[0].rule, inputs[0].shape) == ("log-mel", [1, 128, 150])
    assert np.array_equal(feeds["input_features"][0], log_mel(AUDIO, 128))


def test_fixed_frames_are_padded_and_cut(tmp_path: Path) -> None:
    path = onnx_zoo.mel_static_model(tmp_path / "m.onnx")
    assert resolved(path) == {"mel": ("log-mel", (1, 80, 3000))}
    long = Material(synthetic_speech(31.0), "", 0)
    assert resolved(path, long) == {"mel": ("log-mel", (1, 80, 3000))}


def test_language_model_with_cache(tmp_path: Path) -> None:
    found = resolved(onnx_zoo.tokens_model(tmp_path / "m.onnx"))
    # 1.5 s at 3.5 tokens a second, and no past.
    assert found["input_ids"] == ("token ids", (1, 5))
    assert found["attention_mask"] == ("mask", (1, 5))
    assert found["position_ids"] == ("position", (1, 5))
    assert found["past_key_values.0.key"] == ("kv-cache", (1, 2, 0, 8))


def test_transcript_decides_the_number_of_tokens(tmp_path: Path) -> None:
    spoken = Material(AUDIO, "uno dos tres cuatro cinco", 0)
    path = onnx_zoo.tokens_model(tmp_path / "m.onnx")
    assert resolved(path, spoken)["input_ids"] == ("token ids", (1, 7))


def test_voice(tmp_path: Path) -> None:
    path = onnx_zoo.piper_like(tmp_path / "m.onnx")
    graph = OrtGraph(path, 1, {})
    feeds, inputs = build(graph.inputs, Material(AUDIO, "hola", 0), {}, vocabulary_bounds(path))
    assert {one.name: one.rule for one in inputs} == {
        "input": "token ids",
        "input_lengths": "length",
        "scales": "voice scales",
    }
    assert feeds["input"].shape == (1, 11)  # 2 a letter plus 3
    assert feeds["input_lengths"].tolist() == [11]
    assert feeds["scales"].tolist() == pytest.approx([0.667, 1.0, 0.8])


@pytest.mark.parametrize("make", [onnx_zoo.fp16_model, onnx_zoo.int_inputs])
def test_other_dtypes_run(tmp_path: Path, make: Any) -> None:
    assert resolved(make(tmp_path / "m.onnx"))


def test_strings_run(tmp_path: Path) -> None:
    assert resolved(onnx_zoo.string_input_model(tmp_path / "m.onnx"))


def test_bfloat16_runs(tmp_path: Path) -> None:
    from onnx import TensorProto, helper, save

    ports = [helper.make_tensor_value_info(n, TensorProto.BFLOAT16, [1, 4]) for n in ("x", "y")]
    cast = helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT)
    back = helper.make_node("Cast", ["f"], ["y"], to=TensorProto.BFLOAT16)
    graph = helper.make_graph([cast, back], "g", ports[:1], ports[1:])
    opsets = [helper.make_opsetid("", 17)]
    save(helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "m.onnx")
    assert resolved(tmp_path / "m.onnx") == {"x": ("fixed shape", (1, 4))}


def test_shape_option_wins(tmp_path: Path) -> None:
    path = onnx_zoo.mel_model(tmp_path / "m.onnx")
    assert resolved(path, input_features=[2, 80, 33]) == {
        "input_features": ("shape option", (2, 80, 33))
    }


def test_shape_option_decides_dependent_inputs(tmp_path: Path) -> None:
    path = onnx_zoo.tokens_model(tmp_path / "m.onnx")
    found = resolved(path, input_ids=[1, 9])
    assert found["attention_mask"] == ("mask", (1, 9))


@pytest.mark.parametrize(
    ("name", "shape", "code"),
    [
        ("nothing", [1, 80, 3], "shape_unknown_input"),
        ("input_features", [1, 81, 3], "shape_mismatch"),
        ("input_features", [1, 80], "shape_mismatch"),
    ],
)
def test_bad_shape_option(tmp_path: Path, name: str, shape: list[int], code: str) -> None:
    graph = OrtGraph(onnx_zoo.mel_model(tmp_path / "m.onnx"), 1, {})
    with pytest.raises(InputError) as caught:
        build(graph.inputs, MATERIAL, {name: shape}, {})
    assert caught.value.code == code


def test_ids_stay_inside_the_vocabulary(tmp_path: Path) -> None:
    path = onnx_zoo.tokens_model(tmp_path / "m.onnx", vocabulary=3)
    assert vocabulary_bounds(path)["input_ids"] == 3
    long = Material(synthetic_speech(60.0), "", 0)
    graph = OrtGraph(path, 1, {})
    feeds, _ = build(graph.inputs, long, {}, vocabulary_bounds(path))
    assert feeds["input_ids"].max() < 3


@pytest.mark.parametrize(
    ("spec", "rule"),
    [
        (TensorSpec("audio_features", "float32", ("B", "T", 80)), "log-mel"),
        (TensorSpec("x", "float32", ("B", 1, "T")), "waveform"),
        (TensorSpec("x", "float32", (1, 16_000)), "waveform"),
        (TensorSpec("x", "float32", (1, 512)), "fixed shape"),
        (TensorSpec("feats_lengths", "int32", ("B",)), "length"),
        (TensorSpec("audio_len", "int64", (1,)), "length"),
        (TensorSpec("sr", "int64", ()), "sample rate"),
        (TensorSpec("state", "float32", (2, "B", 128)), "kv-cache"),
        (TensorSpec("h0", "float32", (1, 1, 64)), "kv-cache"),
        (TensorSpec("use_cache_branch", "bool", (1,)), "kv-cache"),
        (TensorSpec("weird", "float32", ("a", "b", "c", "d")), "guess"),
    ],
)
def test_rules_by_name_dtype_and_shape(spec: TensorSpec, rule: str) -> None:
    assert rule_of(spec) == rule


@settings(max_examples=30, deadline=None)
@given(seconds=st.floats(0.05, 20.0), frames_first=st.booleans())
def test_mel_frames_follow_the_audio(seconds: float, frames_first: bool) -> None:
    shape = ("B", "T", 80) if frames_first else ("B", 80, "T")
    audio = synthetic_speech(seconds)
    feeds, _ = build([TensorSpec("mel", "float32", shape)], Material(audio, "", 0), {}, {})
    frames = len(audio.samples) // 160
    assert feeds["mel"].shape == ((1, frames, 80) if frames_first else (1, 80, frames))
