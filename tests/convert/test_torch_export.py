"""Models of other families through the exporter of `transformers`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from vozmetro.audio import synthetic_speech
from vozmetro.errors import ModelError
from vozmetro.models.checks import check_onnx
from vozmetro.models.convert import torch_export
from vozmetro.prepare.convert import convert

pytestmark = pytest.mark.filterwarnings("default")

_SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "conv_dim": (16,) * 7,
    "vocab_size": 30,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
}


@pytest.fixture
def listener(tmp_path: Path) -> Path:
    """A small wav2vec2 that hears letters, saved as Hugging Face saves it."""
    torch.manual_seed(0)
    model = transformers.Wav2Vec2ForCTC(transformers.Wav2Vec2Config(**_SIZES))
    folder = tmp_path / "wav2vec2"
    model.save_pretrained(folder)
    return folder


def test_exported_model_takes_other_lengths(listener: Path, tmp_path: Path) -> None:
    import onnxruntime as ort

    out = torch_export.export(listener, tmp_path / "w.onnx", synthetic_speech(1.0))
    session = ort.InferenceSession(str(out.path))
    model = transformers.Wav2Vec2ForCTC.from_pretrained(listener).eval()
    for seconds in (0.6, 2.3):
        samples = synthetic_speech(seconds, seed=1).samples[None]
        with torch.no_grad():
            wanted = model(torch.from_numpy(samples)).logits.numpy()
        found = session.run(None, {"input_values": samples})[0]
        np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_conversion_ends_in_a_parity_report(listener: Path, tmp_path: Path) -> None:
    done = convert(listener, tmp_path / "out" / "w.onnx", command=["vozmetro", "convert"])
    assert done.path == tmp_path / "out" / "w.onnx"
    check_onnx(done.path)
    record = json.loads((tmp_path / "out" / "w.conversion.json").read_bytes())
    assert record["parity"]["reference"] == "transformers float32"
    assert record["parity"]["max_error"] < 1e-4
    assert {file["name"] for file in record["output"]} >= {"w.onnx"}
    assert "model.safetensors" in {file["name"] for file in record["source"]}


def test_half_precision_is_exported_in_full(listener: Path, tmp_path: Path) -> None:
    transformers.Wav2Vec2ForCTC.from_pretrained(listener).bfloat16().save_pretrained(listener)
    out = torch_export.export(listener, tmp_path / "w.onnx", synthetic_speech(1.0))
    assert {array.dtype for array in out.reference.values()} == {np.dtype("float32")}
    assert check_onnx(out.path).inspection.precision == "FP32"


def test_unknown_architecture_is_refused(listener: Path, tmp_path: Path) -> None:
    config = json.loads((listener / "config.json").read_bytes())
    (listener / "config.json").write_text(json.dumps(config | {"architectures": ["os"]}))
    with pytest.raises(ModelError) as error:
        torch_export.export(listener, tmp_path / "w.onnx", synthetic_speech(1.0))
    assert error.value.code == "export_unknown"
    assert not (tmp_path / "w.onnx").exists()


def test_what_cannot_be_traced_is_one_clear_error(
    listener: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forward(*_: object, **__: object) -> None:
        raise RuntimeError("data-dependent\ncontrol flow")

    monkeypatch.setattr(transformers.Wav2Vec2ForCTC, "forward", forward)
    with pytest.raises(ModelError) as error:
        torch_export.export(listener, tmp_path / "w.onnx", synthetic_speech(1.0))
    assert error.value.code == "export_failed"
    assert "Wav2Vec2ForCTC" in str(error.value)
