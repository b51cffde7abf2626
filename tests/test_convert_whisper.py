"""Whisper written as ONNX: against transformers' recorded outputs, and against itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import whisper_zoo as zoo
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx_zoo import ctranslate2_bytes

from vozmetro.errors import ModelError
from vozmetro.models import checks
from vozmetro.models.convert.builder import Precision, Scheme
from vozmetro.models.convert.ctranslate2_source import CTranslate2Source
from vozmetro.models.convert.safetensors import SafetensorsSource
from vozmetro.models.convert.whisper import write_whisper
from vozmetro.models.convert.whisper_shape import WhisperShape

# Made by tests/convert/test_whisper_parity.py with transformers, which also checks it.
RECORDED = Path(__file__).parent / "data" / "parity" / "whisper.npz"
FRAMES = 120
IDS = [101, 103, 105, 107, 12, 55, 7]


class Model:
    """Both graphs of a folder."""

    def __init__(self, folder: Path) -> None:
        self.encoder = ort.InferenceSession(str(folder / "encoder.onnx"))
        self.decoder = ort.InferenceSession(str(folder / "decoder.onnx"))

    def encode(self, frames: int = FRAMES) -> dict[str, np.ndarray]:
        names = [port.name for port in self.encoder.get_outputs()]
        found = self.encoder.run(names, {"input_features": zoo.features(frames)})
        return dict(zip(names, found, strict=True))

    def logits(self, ids: list[int], parts: list[int], heard: dict[str, Any]) -> list[np.ndarray]:
        """Logits after each part of the tokens, given one part after the other."""
        empty = np.zeros((1, zoo.HEADS, 0, zoo.WIDTH // zoo.HEADS), np.float32)
        ports = [port.name for port in self.decoder.get_inputs()]
        cache = {name: empty for name in ports if name.startswith("past")}
        cross = {name: array for name, array in heard.items() if name in ports}
        names = [port.name for port in self.decoder.get_outputs()]
        found, start = [], 0
        for part in parts:
            feeds = {"input_ids": np.array([ids[start : start + part]]), **cache, **cross}
            out = dict(zip(names, self.decoder.run(names, feeds), strict=True))
            found.append(out.pop("logits")[0, 0])
            cache = {k.replace("present", "past_key_values"): v for k, v in out.items()}
            start += part
        return found


def convert(folder: Path, precision: Precision = "fp32", block: int = 32) -> Model:
    source = SafetensorsSource(zoo.hugging_face(folder / "source"))
    write_whisper(source, zoo.CONFIG, folder / precision, Scheme(precision, block=block))
    return Model(folder / precision)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return convert(tmp_path_factory.mktemp("whisper"))


def apart(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def test_states_and_logits_are_those_of_transformers(model: Model) -> None:
    recorded = np.load(RECORDED)
    heard = model.encode()
    np.testing.assert_allclose(heard["encoder_hidden_states"], recorded["states"], atol=1e-4)
    one_by_one = model.logits(IDS, [1] * len(IDS), heard)
    np.testing.assert_allclose(one_by_one, recorded["logits"][0], atol=1e-4)


@pytest.mark.parametrize("parts", [[7], [1, 6], [3, 4], [4, 1, 1, 1]])
def test_tokens_at_once_and_one_by_one_are_the_same(model: Model, parts: list[int]) -> None:
    heard = model.encode()
    wanted = model.logits(IDS, [1] * len(IDS), heard)[-1]
    np.testing.assert_allclose(model.logits(IDS, parts, heard)[-1], wanted, atol=1e-5)


@pytest.mark.parametrize("frames", [2, 100, 122, 1998, 3000])
def test_any_even_number_of_frames(model: Model, frames: int) -> None:
    heard = model.encode(frames)
    head = zoo.WIDTH // zoo.HEADS
    assert heard["encoder_hidden_states"].shape == (1, frames // 2, zoo.WIDTH)
    assert heard["cross.1.value"].shape == (1, zoo.HEADS, frames // 2, head)
    assert np.isfinite(model.logits(IDS, [7], heard)[0]).all()


@pytest.mark.parametrize(("precision", "most"), [("int8", 0.06), ("int4", 0.3)])
def test_quantized_models_stay_close(
    model: Model, tmp_path: Path, precision: Precision, most: float
) -> None:
    quantized = convert(tmp_path, precision)
    heard = model.encode()
    wanted = model.logits(IDS, [7], heard)[0]
    assert 0 < apart(quantized.logits(IDS, [7], heard)[0], wanted) < most
    states = "encoder_hidden_states"
    assert 0 < apart(quantized.encode()[states], heard[states]) < 0.06


def test_what_is_quantized_and_what_is_marked(tmp_path: Path) -> None:
    convert(tmp_path, "int4")
    decoder = onnx.load(tmp_path / "int4" / "decoder.onnx", load_external_data=False)
    counts: dict[str, int] = {}
    for node in decoder.graph.node:
        counts[node.op_type] = counts.get(node.op_type, 0) + 1
        if node.op_type == "MatMulNBits":
            level = [a.i for a in node.attribute if a.name == "accuracy_level"]
            assert level == [4]
    # A layer has q, k, v, out, q, out, fc1, fc2 (cross k and v are the encoder's), then the head.
    assert counts["MatMulNBits"] == 8 * zoo.LAYERS + 1
    marks = {prop.key: prop.value for prop in decoder.metadata_props}
    assert marks["vozmetro.task"] == "whisper-decoder"
    assert marks["vozmetro.precision"] == "int4-b32"
    assert marks["vozmetro.positions"] == str(zoo.TARGET)
    tied = {tensor.name for tensor in decoder.graph.initializer}
    assert marks["vozmetro.tied"] in tied
    encoder = onnx.load(tmp_path / "int4" / "encoder.onnx", load_external_data=False)
    ops = [node.op_type for node in encoder.graph.node]
    assert ops.count("MatMulIntegerToFloat") == 6 * (zoo.LAYERS - 1) + 2 * zoo.LAYERS
    assert ops.count("Conv") == 2


def test_files_pass_the_checks_and_hold_the_head_once(tmp_path: Path) -> None:
    convert(tmp_path)
    found = checks.check_onnx(tmp_path / "fp32" / "decoder.onnx").inspection
    wanted = sum(
        array.size
        for name, array in zoo.weights().items()
        if name.startswith("model.decoder") and "encoder_attn.k_" not in name
        if "encoder_attn.v_" not in name
    )
    assert found.parameters is not None
    assert abs(found.parameters - wanted) < 0.05 * wanted  # small constants aside
    assert json.loads((tmp_path / "fp32" / "config.json").read_text())["d_model"] == zoo.WIDTH


@pytest.mark.parametrize("kind", ["float32", "float16", "int8", "int16"])
def test_ctranslate2_weights_are_the_checkpoint_they_came_from(tmp_path: Path, kind: str) -> None:
    source = CTranslate2Source(zoo.ctranslate2(tmp_path, kind))
    wanted = zoo.weights()
    assert set(source.names()) == set(wanted)
    for name, array in wanted.items():
        assert source.shape(name) == array.shape
        step = {"float32": 0, "float16": 2e-3, "int8": 0.02, "int16": 5e-3}[kind]
        np.testing.assert_allclose(source.read(name), array, atol=step * np.abs(array).max())
    table = source.read("model.decoder.embed_tokens.weight")
    rows = source.read_rows("model.decoder.embed_tokens.weight", 5, 9)
    np.testing.assert_array_equal(rows, table[5:9])
    assert WhisperShape.from_config(source.config) == WhisperShape.from_config(zoo.CONFIG)


@pytest.mark.parametrize("kind", ["float32", "int8", "int16"])
def test_the_encoder_is_that_of_ctranslate2(tmp_path: Path, kind: str) -> None:
    import ctranslate2

    folder = zoo.ctranslate2(tmp_path / "source", kind)
    write_whisper(CTranslate2Source(folder), {}, tmp_path / "onnx", Scheme())
    frames = zoo.features(3000)
    theirs = ctranslate2.models.Whisper(str(folder), compute_type="float32")
    wanted = np.asarray(theirs.encode(ctranslate2.StorageView.from_array(frames)))
    found = Model(tmp_path / "onnx").encode(3000)["encoder_hidden_states"]
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_both_sources_give_the_same_files(tmp_path: Path) -> None:
    convert(tmp_path)
    source = CTranslate2Source(zoo.ctranslate2(tmp_path / "ct2"))
    write_whisper(source, {}, tmp_path / "other", Scheme())
    for name in ("encoder.onnx", "encoder.onnx.data", "decoder.onnx", "decoder.onnx.data"):
        assert (tmp_path / "fp32" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


def _code(folder: Path) -> str:
    with pytest.raises(ModelError) as caught:
        CTranslate2Source(folder).read("model.decoder.embed_tokens.weight")
    assert str(caught.value)
    return caught.value.code


def test_damaged_ctranslate2_folders(tmp_path: Path) -> None:
    def write(variables: list[tuple[str, np.ndarray]]) -> Path:
        (tmp_path / "model.bin").write_bytes(ctranslate2_bytes(variables))
        return tmp_path

    whole = dict(zoo.ctranslate2_variables("int8"))
    assert _code(write([("encoder/other", np.zeros(3, np.float32))])) == "ctranslate2_not_whisper"
    relu = {**whole, "decoder/activation": np.asarray(0, np.int8)}
    assert _code(write(list(relu.items()))) == "ctranslate2_not_whisper"
    for name, array in (
        ("decoder/embeddings/weight_scale", np.zeros(7, np.float32)),
        ("encoder/layer_0/self_attention/linear_0/weight", np.zeros((7, 64), np.float32)),
        ("encoder/conv1/weight", np.zeros((64, 80), np.float32)),
        ("decoder/embeddings/weight_scale", np.zeros(zoo.VOCABULARY, np.float32)),
        ("decoder/embeddings/weight_scale", np.full(zoo.VOCABULARY, np.nan, np.float32)),
    ):
        assert _code(write(list({**whole, name: array}.items()))) == "ctranslate2_damaged"
    del whole["decoder/embeddings/weight_scale"]
    assert _code(write(list(whole.items()))) == "ctranslate2_damaged"


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=100
)
@given(data=st.data())
def test_damaged_bytes_never_do_anything_but_raise(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray((zoo.ctranslate2(tmp_path, "int8") / "model.bin").read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        # Headers are rare between the weights: half of the hits are near the start.
        place = data.draw(st.one_of(st.integers(0, 900), st.integers(0, len(content) - 1)))
        content[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))
    (tmp_path / "model.bin").write_bytes(bytes(content[:cut]))
    try:
        source = CTranslate2Source(tmp_path)
        for name in source.names():
            assert source.read(name).shape == source.shape(name)
    except ModelError as error:
        assert str(error)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"model_type": "bart"}, "whisper_unsupported"),
        ({"activation_function": "relu"}, "whisper_unsupported"),
        ({"scale_embedding": True}, "whisper_unsupported"),
        ({"tie_word_embeddings": False}, "whisper_unsupported"),
        ({"d_model": 0}, "config_invalid"),
        ({"d_model": None}, "config_invalid"),
        ({"d_model": True}, "config_invalid"),
        ({"vocab_size": 1 << 40}, "config_invalid"),
        ({"encoder_attention_heads": 3}, "config_invalid"),
        ({"num_mel_bins": 128}, "weight_shape"),
        ({"encoder_layers": 3}, "weight_missing"),
        ({"vocab_size": 121}, "weight_shape"),
    ],
)
def test_configs_that_do_not_fit_leave_nothing(
    tmp_path: Path, change: dict[str, Any], code: str
) -> None:
    source = SafetensorsSource(zoo.hugging_face(tmp_path / "source"))
    with pytest.raises(ModelError) as caught:
        write_whisper(source, zoo.CONFIG | change, tmp_path / "out", Scheme())
    assert caught.value.code == code
    assert str(caught.value)
    assert not list(tmp_path.glob("out/.*"))
    assert not (tmp_path / "out" / "decoder.onnx").exists()


def test_names_without_the_prefix_of_the_whole_model(tmp_path: Path) -> None:
    bare = {name.removeprefix("model."): array for name, array in zoo.weights().items()}
    source = SafetensorsSource(zoo.hugging_face(tmp_path / "source", bare))
    write_whisper(source, zoo.CONFIG, tmp_path / "out", Scheme())
    assert (tmp_path / "out" / "decoder.onnx").is_file()


def test_a_head_of_its_own_is_refused_and_a_second_copy_is_not(tmp_path: Path) -> None:
    tensors = zoo.weights()
    for number, factor in enumerate((1, 2)):
        tensors["proj_out.weight"] = factor * tensors["model.decoder.embed_tokens.weight"]
        source = SafetensorsSource(zoo.hugging_face(tmp_path / str(number), tensors))
        if factor == 1:
            write_whisper(source, zoo.CONFIG, tmp_path / "out", Scheme())
            continue
        with pytest.raises(ModelError, match="proj_out") as caught:
            write_whisper(source, zoo.CONFIG, tmp_path / "none", Scheme())
        assert caught.value.code == "whisper_unsupported"
        assert not (tmp_path / "none").exists()
