"""Whisper against `transformers`: encoder, logits, and tokens.

Run as a script, it records what `transformers` gives on the tiny Whisper of `whisper_zoo.py`:
`python tests/convert/test_whisper_parity.py` writes tests/data/parity/whisper.npz, which the light
suite compares with (tests/test_convert_whisper.py).
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import transformers

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import whisper_zoo as zoo

from vozmetro import audio
from vozmetro.models.convert.builder import Scheme
from vozmetro.models.convert.safetensors import SafetensorsSource
from vozmetro.models.convert.whisper import write_whisper
from vozmetro.prepare.parity_whisper import whisper_parity
from vozmetro.speech.corpus import load_corpus

RECORDED = Path(__file__).resolve().parents[1] / "data" / "parity" / "whisper.npz"
FRAMES = 120
IDS = [101, 103, 105, 107, 12, 55, 7]
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return zoo.hugging_face(tmp_path_factory.mktemp("whisper"))


def load(folder: Path) -> Any:
    return transformers.WhisperForConditionalGeneration.from_pretrained(
        folder, local_files_only=True, use_safetensors=True, dtype="float32"
    ).eval()


def reference(folder: Path) -> dict[str, np.ndarray]:
    """What transformers gives: states of a short window, which it has no switch for, and logits."""
    model = load(folder)
    encoder = model.model.encoder
    # transformers refuses windows that are not 30 s; the layers themselves do not.
    encoder.max_source_positions = FRAMES // 2
    encoder.config.max_source_positions = FRAMES // 2
    table = encoder.embed_positions.weight[: FRAMES // 2].detach().clone()
    encoder.embed_positions = torch.nn.Embedding.from_pretrained(table)
    with torch.no_grad():
        states = encoder(torch.from_numpy(zoo.features(FRAMES))).last_hidden_state
        output = transformers.modeling_outputs.BaseModelOutput(last_hidden_state=states)
        logits = model(encoder_outputs=output, decoder_input_ids=torch.tensor([IDS])).logits
    return {"states": states.numpy(), "logits": logits.numpy()}


def test_the_recorded_reference_is_what_transformers_gives(folder: Path) -> None:
    fresh = reference(folder)
    recorded = np.load(RECORDED)
    for name, array in fresh.items():
        np.testing.assert_allclose(recorded[name], array, atol=1e-5)


def test_a_folder_saved_by_transformers_converts_within_a_ten_thousandth(tmp_path: Path) -> None:
    config = transformers.WhisperConfig(
        **{key: value for key, value in zoo.CONFIG.items() if not key.startswith("arch")}
        | {"decoder_layers": 3, "num_mel_bins": 128}
    )
    torch.manual_seed(5)
    model = transformers.WhisperForConditionalGeneration(config).eval()
    model.save_pretrained(tmp_path / "source")
    # transformers does not save the tokens of languages and tasks, which it asks for later.
    generation = json.dumps(zoo.GENERATION)
    for name in ("source", "onnx"):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "generation_config.json").write_text(generation)
    saved = json.loads((tmp_path / "source" / "config.json").read_bytes())
    write_whisper(SafetensorsSource(tmp_path / "source"), saved, tmp_path / "onnx", Scheme())
    speech = load_corpus("audioeval", limit=3)
    found = whisper_parity(tmp_path / "onnx", tmp_path / "source", speech, 2)
    assert found.reference == "transformers float32"
    assert found.max_error < TOLERANCE
    assert found.relative_error < TOLERANCE
    assert (found.utterances, found.identical, found.differing) == (3, 3, [])


def test_tokens_are_those_of_generate(folder: Path, tmp_path: Path) -> None:
    write_whisper(SafetensorsSource(folder), zoo.CONFIG, tmp_path / "onnx", Scheme())
    content = (folder / "generation_config.json").read_bytes()
    (tmp_path / "onnx" / "generation_config.json").write_bytes(content)
    for seed in range(3):
        recording = audio.synthetic_speech(2.0 + seed, seed)
        name = tmp_path / "speech" / f"{seed}.wav"
        name.parent.mkdir(exist_ok=True)
        soundfile.write(name, recording.samples, recording.rate)
        name.with_suffix(".txt").write_text("nothing")
    # The last one's language is left to be detected.
    speech = [
        replace(one, language=language)
        for one, language in zip(
            load_corpus(str(tmp_path / "speech")), ("es", "en", ""), strict=True
        )
    ]
    found = whisper_parity(tmp_path / "onnx", folder, speech, 2)
    assert found.max_error < TOLERANCE
    assert found.identical == len(speech)


def test_long_recordings_are_compared_on_what_both_hear(folder: Path, tmp_path: Path) -> None:
    write_whisper(SafetensorsSource(folder), zoo.CONFIG, tmp_path / "onnx", Scheme())
    content = (folder / "generation_config.json").read_bytes()
    (tmp_path / "onnx" / "generation_config.json").write_bytes(content)
    (tmp_path / "speech").mkdir()
    recording = audio.synthetic_speech(33.0, 1)
    soundfile.write(tmp_path / "speech" / "long.wav", recording.samples, recording.rate)
    (tmp_path / "speech" / "long.txt").write_text("nothing")
    speech = [replace(one, language="es") for one in load_corpus(str(tmp_path / "speech"))]
    assert whisper_parity(tmp_path / "onnx", folder, speech, 2).identical == 1


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as scratch:
        RECORDED.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(RECORDED, **reference(zoo.hugging_face(Path(scratch))))
    print(RECORDED, RECORDED.stat().st_size)
