"""Converted language models against `transformers`, on small models with seeded weights.

`python tests/convert/test_decoder_parity.py` records what the light suite checks against.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

sys.path.insert(0, str(Path(__file__).parents[1]))
import decoder_tiny

from vozmetro.errors import MeasurementError
from vozmetro.models.convert.builder import Scheme
from vozmetro.models.convert.decoder import DecoderShape, write_decoder
from vozmetro.models.convert.safetensors import SafetensorsSource
from vozmetro.prepare import convert as preparing
from vozmetro.report.conversion import differs

CLOSE = 1e-4
KINDS = {
    "qwen3": transformers.Qwen3ForCausalLM,
    "qwen3_vl": transformers.Qwen3VLForConditionalGeneration,
    "qwen2": transformers.Qwen2ForCausalLM,
    "llama": transformers.LlamaForCausalLM,
}


def seeded(case: str):
    """The model in PyTorch, with weights made from their names."""
    config = decoder_tiny.CONFIGS[case]
    kind = KINDS[config["model_type"]]
    model = kind(kind.config_class(**config)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(decoder_tiny.tensor(name, parameter.shape)))
    return model


def wanted(model) -> np.ndarray:
    with torch.no_grad():
        logits = model(input_ids=torch.from_numpy(decoder_tiny.ids())[None]).logits
    return logits[0, decoder_tiny.PROMPT - 1 :].numpy()


@pytest.mark.parametrize("case", decoder_tiny.CONFIGS)
def test_a_converted_folder_says_what_transformers_says(case: str, tmp_path: Path) -> None:
    model = seeded(case)
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_bytes())
    shape = DecoderShape.from_config(config)
    path = write_decoder(
        SafetensorsSource(tmp_path), shape, tmp_path / "m.onnx", Scheme("fp32"), {}
    )

    found, reference = decoder_tiny.said(decoder_tiny.load(path)), wanted(model)

    assert np.abs(reference).max() > 1  # large enough for the limit to mean something
    assert np.abs(found - reference).max() < CLOSE
    recorded = np.load(decoder_tiny.PARITY / f"decoder_{case}.npz")["logits"]
    assert np.abs(recorded - reference).max() < CLOSE / 10  # the record is not stale


@pytest.mark.parametrize("case", decoder_tiny.CONFIGS)
def test_weights_are_named_as_transformers_names_them(case: str) -> None:
    shape = DecoderShape.from_config(decoder_tiny.CONFIGS[case])
    stored = {
        name: tuple(values.shape)
        for name, values in seeded(case).state_dict().items()
        if ".visual." not in name and not (shape.tied and name == "lm_head.weight")
    }
    assert decoder_tiny.shapes(shape) == stored


@pytest.mark.parametrize(("ram", "layers"), [(10**12, 0), (1000, 2)])
def test_a_conversion_ends_in_a_comparison(
    ram: int, layers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeded("qwen3").save_pretrained(tmp_path / "source")
    monkeypatch.setattr(preparing, "available_ram", lambda: ram)
    done = preparing.convert(tmp_path / "source", tmp_path / "out" / "m.onnx")
    parity = done.record.parity
    assert parity is not None
    assert (parity.layers, parity.max_error < CLOSE) == (layers, True)
    assert not differs(done.record.model_dump())
    assert {path.name for path in done.path.parent.iterdir()} == {
        "m.onnx", "m.onnx.data", "m.conversion.json"
    }  # fmt: skip


def test_a_tokenizer_that_cannot_be_read_is_one_error(tmp_path: Path) -> None:
    seeded("qwen3").save_pretrained(tmp_path / "source")
    (tmp_path / "source" / "tokenizer.json").write_text("{")
    with pytest.raises(MeasurementError) as caught:
        preparing.convert(tmp_path / "source", tmp_path / "m.onnx")
    assert caught.value.code == "parity_failed"
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


if __name__ == "__main__":
    decoder_tiny.PARITY.mkdir(parents=True, exist_ok=True)
    for each in decoder_tiny.CONFIGS:
        target = decoder_tiny.PARITY / f"decoder_{each}.npz"
        np.savez_compressed(target, logits=wanted(seeded(each)))
        print(target.name, target.stat().st_size)
