"""Decoder-only language models: what the graph writer makes of a config and weights."""

from __future__ import annotations

import errno
import hashlib
import math
from pathlib import Path
from typing import Any

import decoder_tiny
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vozmetro.errors import ModelError, OutputError
from vozmetro.models.convert import builder
from vozmetro.models.convert.builder import Scheme
from vozmetro.models.convert.decoder import DecoderShape, write_decoder
from vozmetro.models.convert.decoder_shape import CONTEXT, Llama3Scaling
from vozmetro.models.convert.source import Rows
from vozmetro.models.quantize import datafile
from vozmetro.models.quantize.datafile import DataFile
from vozmetro.prepare.convert import read_source

QWEN3_VL_4B: dict[str, Any] = {
    "model_type": "qwen3_vl",
    "tie_word_embeddings": True,
    "text_config": {
        "hidden_size": 2560,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "intermediate_size": 9728,
        "vocab_size": 151936,
        "max_position_embeddings": 262144,
        "rope_scaling": {"mrope_section": [24, 20, 20], "rope_type": "default"},
        "rope_theta": 5000000,
    },
}


@pytest.mark.parametrize("case", decoder_tiny.CONFIGS)
def test_logits_are_those_recorded_from_transformers(case: str, tmp_path: Path) -> None:
    model = decoder_tiny.load(decoder_tiny.write(tmp_path / "m.onnx", case))
    # Made by `python tests/convert/test_decoder_parity.py`.
    recorded = np.load(decoder_tiny.PARITY / f"decoder_{case}.npz")["logits"]
    assert np.abs(decoder_tiny.said(model) - recorded).max() < 1e-4


@pytest.mark.parametrize(
    ("scheme", "most"),
    [(Scheme("int8"), 0.06), (Scheme("int4", 32), 0.35)],
    ids=lambda value: getattr(value, "precision", ""),
)
def test_quantized_logits_stay_near(scheme: Scheme, most: float, tmp_path: Path) -> None:
    exact = decoder_tiny.said(decoder_tiny.load(decoder_tiny.write(tmp_path / "a.onnx")))
    path = decoder_tiny.write(tmp_path / "b.onnx", scheme=scheme)
    error = np.linalg.norm(decoder_tiny.said(decoder_tiny.load(path)) - exact)
    assert 0 < error / np.linalg.norm(exact) < most


@pytest.mark.parametrize("scheme", [Scheme(), Scheme("int8"), Scheme("int4", 32)])
def test_files_do_not_depend_on_how_weights_are_read(
    scheme: Scheme, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = DecoderShape.from_config(decoder_tiny.CONFIGS["qwen3_untied"])
    names = decoder_tiny.shapes(shape)
    found = set()
    for source in (decoder_tiny.TinySource(names), decoder_tiny.RowsSource(names)):
        for part in (1, 640, 1 << 24):
            monkeypatch.setattr(builder, "PART", part)
            path = write_decoder(source, shape, tmp_path / "m.onnx", scheme, {})
            data = path.with_name("m.onnx.data").read_bytes()
            found.add((hashlib.sha256(path.read_bytes() + data).hexdigest(), len(data)))
    assert len(found) == 1


def test_big_tables_are_read_by_parts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[int] = []

    class Watched(decoder_tiny.RowsSource):
        def read_rows(self, name: str, start: int, stop: int) -> Any:
            asked.append(stop - start)
            return super().read_rows(name, start, stop)

    monkeypatch.setattr(builder, "PART", 640)
    shape = DecoderShape.from_config(decoder_tiny.CONFIGS["qwen3"])
    source = Watched(decoder_tiny.shapes(shape))
    write_decoder(source, shape, tmp_path / "m.onnx", Scheme("int4", 32), {})
    assert asked
    assert max(asked) * shape.hidden <= 640


@pytest.mark.parametrize("scheme", [Scheme(), Scheme("int8")])
def test_big_matrices_are_turned_by_parts(
    scheme: Scheme, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    written: list[int] = []
    write = DataFile.write

    def watched(self: DataFile, offset: int, data: Any) -> int:
        written.append(write(self, offset, data))
        return written[-1]

    monkeypatch.setattr(builder, "PART", 640)
    monkeypatch.setattr(DataFile, "write", watched)
    shape = DecoderShape.from_config(decoder_tiny.CONFIGS["qwen3"])
    source = decoder_tiny.RowsSource(decoder_tiny.shapes(shape))
    write_decoder(source, shape, tmp_path / "m.onnx", scheme, {})
    rotations = shape.rotations()[0].nbytes
    assert max(written) == rotations < shape.vocabulary * shape.hidden * 4


@pytest.mark.parametrize(
    ("number", "code"), [(errno.ENOSPC, "disk_full"), (errno.EIO, "unwritable")]
)
def test_what_the_disk_says_is_one_of_our_errors(
    number: int, code: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def failing(*_: object) -> int:
        raise OSError(number, "no")

    monkeypatch.setattr(datafile, "_write_at", failing)
    with pytest.raises(OutputError) as caught:
        decoder_tiny.write(tmp_path / "m.onnx")
    assert caught.value.code == code
    assert not list(tmp_path.iterdir())


def test_a_config_that_nests_without_end_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("[" * 200_000)
    with pytest.raises(ModelError) as caught:
        read_source(tmp_path)
    assert caught.value.code == "convert_config"


@given(st.data())
def test_rows_are_those_of_the_stacked_matrices(data: st.DataObject) -> None:
    heights = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=4))
    shapes = {f"part{index}": (height, 3) for index, height in enumerate(heights)}
    kind = data.draw(st.sampled_from([decoder_tiny.TinySource, decoder_tiny.RowsSource]))
    source = kind(shapes)
    stacked = np.concatenate([source.read(name) for name in shapes])
    rows = Rows(source, *shapes)
    assert rows.shape == stacked.shape
    start = data.draw(st.integers(0, len(stacked) - 1))
    stop = data.draw(st.integers(start + 1, len(stacked)))
    assert np.array_equal(rows.read(start, stop), stacked[start:stop])


def test_the_4b_config_is_read_as_published() -> None:
    shape = DecoderShape.from_config(QWEN3_VL_4B)
    parameters = sum(math.prod(size) for size in decoder_tiny.shapes(shape).values())
    assert parameters == pytest.approx(4022.5e6, rel=1e-4)
    assert (shape.qk_norm, shape.tied, shape.scaling) == (True, True, None)
    assert (shape.theta, shape.context) == (5e6, CONTEXT)
    assert shape.prefix == "model.language_model."


@pytest.mark.parametrize(
    "change",
    [
        {"rope_scaling": "yarn"},
        {"rope_scaling": {"rope_type": "llama3", "factor": "8"}},
        {"rope_theta": None},
        {"max_position_embeddings": None},
        {"head_dim": "x"},
        {"hidden_size": 1 << 60},
        {"rms_norm_eps": []},
        {"partial_rotary_factor": []},
        {"sliding_window": "wide"},
        {"num_key_value_heads": 3},
        {"rms_norm_eps": 10**400},
    ],
)
def test_odd_configs_are_refused_by_name(change: dict[str, Any]) -> None:
    config = decoder_tiny.CONFIGS["qwen3"] | change
    with pytest.raises(ModelError) as caught:
        DecoderShape.from_config(config)
    assert caught.value.code in {"config_invalid", "decoder_unsupported"}
    assert str(caught.value)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)


@given(st.data())
def test_any_config_is_read_or_refused(data: st.DataObject) -> None:
    config = dict(QWEN3_VL_4B["text_config"], model_type="qwen3", rope_parameters={})
    key = data.draw(st.sampled_from([*config, "rope_scaling", "sliding_window", "hidden_act"]))
    try:
        DecoderShape.from_config(config | {key: data.draw(_JSON)})
    except ModelError as error:
        assert str(error)


@pytest.mark.parametrize(
    "change", [{"vocab_size": 200}, {"num_attention_heads": 8}, {"intermediate_size": 96}]
)
def test_weights_of_another_config_are_refused(change: dict[str, Any], tmp_path: Path) -> None:
    config = decoder_tiny.CONFIGS["qwen3"]
    source = decoder_tiny.TinySource(decoder_tiny.shapes(DecoderShape.from_config(config)))
    shape = DecoderShape.from_config(config | change)
    with pytest.raises(ModelError) as caught:
        write_decoder(source, shape, tmp_path / "m.onnx", Scheme(), {})
    assert caught.value.code == "weight_shape"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("scheme", [Scheme("int8"), Scheme("int4", 32)])
def test_weights_that_are_no_numbers_are_not_quantized(scheme: Scheme, tmp_path: Path) -> None:
    class Broken(decoder_tiny.TinySource):
        def read(self, name: str) -> Any:
            rows = super().read(name).copy()
            if name.endswith("1.mlp.down_proj.weight"):
                rows[0, 0] = np.inf
            return rows

    shape = DecoderShape.from_config(decoder_tiny.CONFIGS["qwen3"])
    with pytest.raises(ModelError) as caught:
        write_decoder(Broken(decoder_tiny.shapes(shape)), shape, tmp_path / "m.onnx", scheme, {})
    assert caught.value.code == "quantize_not_finite"
    assert not list(tmp_path.iterdir())


def test_weights_are_found_under_other_prefixes(tmp_path: Path) -> None:
    shape = DecoderShape.from_config(decoder_tiny.CONFIGS["qwen3_vl"])
    bare = {
        name.removeprefix(shape.prefix): size for name, size in decoder_tiny.shapes(shape).items()
    }
    path = write_decoder(decoder_tiny.TinySource(bare), shape, tmp_path / "m.onnx", Scheme(), {})
    assert decoder_tiny.load(path).vocabulary == shape.vocabulary


def test_the_graph_says_what_it_is(tmp_path: Path) -> None:
    path = decoder_tiny.write(tmp_path / "m.onnx", scheme=Scheme("int4", 64))
    model = onnx.load(path)
    marks = {entry.key: entry.value for entry in model.metadata_props}
    assert marks["vozmetro.task"] == "language-model"
    assert marks["vozmetro.architecture"] == "qwen3"
    assert marks["vozmetro.precision"] == "int4-b64"
    assert marks["vozmetro.tied"] in {tensor.name for tensor in model.graph.initializer}
    quantized = [node for node in model.graph.node if node.op_type == "MatMulNBits"]
    accuracy = {a.i for node in quantized for a in node.attribute if a.name == "accuracy_level"}
    assert (len(quantized), accuracy) == (3 * 5 + 1, {4})


def test_the_callers_marks_win_and_layers_can_be_left_out(tmp_path: Path) -> None:
    shape = DecoderShape.from_config(decoder_tiny.CONFIGS["llama3"])
    source = decoder_tiny.TinySource(decoder_tiny.shapes(shape))
    marks = {"vozmetro.architecture": "mine", "weights": "dummy"}
    path = write_decoder(source, shape, tmp_path / "m.onnx", Scheme(), marks, layers=1)
    model = onnx.load(path)
    assert {m.key: m.value for m in model.metadata_props}.items() >= marks.items()
    assert "vozmetro.tied" not in {entry.key for entry in model.metadata_props}
    attentions = [node for node in model.graph.node if node.op_type == "GroupQueryAttention"]
    assert len(attentions) == 1


@pytest.mark.parametrize(
    ("change", "code", "named"),
    [
        ({"model_type": "mamba"}, "decoder_unsupported", "mamba"),
        ({"hidden_act": "gelu"}, "decoder_unsupported", "gelu"),
        ({"rope_scaling": {"rope_type": "yarn"}}, "decoder_unsupported", "yarn"),
        ({"rope_scaling": {"rope_type": "llama3"}}, "config_invalid", "factor"),
        ({"partial_rotary_factor": 0.5}, "decoder_unsupported", "partial_rotary_factor"),
        ({"use_sliding_window": True, "sliding_window": 64}, "decoder_unsupported", "sliding"),
        ({"head_dim": 12}, "decoder_unsupported", "head_dim 12"),
        ({"hidden_size": None}, "config_invalid", "hidden_size"),
        ({"vocab_size": -5}, "config_invalid", "vocab_size"),
        ({"num_hidden_layers": "3"}, "config_invalid", "num_hidden_layers"),
        ({"rope_theta": None}, "config_invalid", "rope_theta"),
    ],
)
def test_what_the_graph_would_get_wrong_is_refused(
    change: dict[str, Any], code: str, named: str
) -> None:
    config = {**decoder_tiny.CONFIGS["qwen3"], **change}
    with pytest.raises(ModelError, match=named) as refused:
        DecoderShape.from_config(config)
    assert refused.value.code == code


@given(
    st.floats(1.0, 64.0),
    st.integers(64, 65536),
    st.lists(st.floats(1e-7, 1.0), min_size=2, max_size=20),
)
def test_llama3_stretches_slow_rotations_only(
    factor: float, original: int, given_frequencies: list[float]
) -> None:
    frequencies = np.sort(np.array(given_frequencies))
    scaled = Llama3Scaling(factor, 1.0, 4.0, original).apply(frequencies)
    turns = original * frequencies / (2 * math.pi)
    assert np.array_equal(scaled[turns >= 4], frequencies[turns >= 4])
    assert scaled[turns <= 1] == pytest.approx(frequencies[turns <= 1] / factor)
    assert (np.diff(scaled) >= 0).all()
    assert (scaled <= frequencies).all()
