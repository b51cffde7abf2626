"""`vozmetro convert` and the guide's script as a person uses them, without PyTorch."""

from __future__ import annotations

import errno
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import decoder_tiny
import numpy as np
import pytest
import whisper_zoo
from rich.cells import cell_len

from vozmetro import packages
from vozmetro.cli.convert import commands
from vozmetro.cli.run import run
from vozmetro.models.checks import check_onnx
from vozmetro.models.convert.decoder import DecoderShape
from vozmetro.prepare import convert as preparing
from vozmetro.prepare import optimize
from vozmetro.prepare.parity_decoder import parity_of
from vozmetro.prepare.records import Conversion, Parity
from vozmetro.report.conversion import conversion_lines, differs

SCRIPT = Path(__file__).parents[1] / "scripts" / "convert_to_onnx.py"


def call(capsys: pytest.CaptureFixture[str], *words: object, lang: str = "es") -> Any:
    (command,) = commands(lang)
    code = run(command, [str(word) for word in words], lang)
    said = capsys.readouterr()
    return code, said.out, said.err


def language_model(folder: Path) -> Path:
    """A tiny Qwen3 as Hugging Face ships it."""
    config = decoder_tiny.CONFIGS["qwen3"]
    wanted = decoder_tiny.shapes(DecoderShape.from_config(config))
    tensors = {name: decoder_tiny.tensor(name, shape) for name, shape in wanted.items()}
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(whisper_zoo.safetensors_bytes(tensors))
    (folder / "tokenizer.json").write_text("{}")
    return folder


def whisper(folder: Path) -> Path:
    """A tiny Whisper as faster-whisper ships it."""
    whisper_zoo.ctranslate2(folder)
    (folder / "tokenizer.json").write_text("{}")
    return folder


def test_a_language_model_keeps_the_name_that_was_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = language_model(tmp_path / "source")
    out = tmp_path / "onnx" / "mine.onnx"
    code, said, _ = call(capsys, source, "--output", out, "--no-parity")
    assert code == 0
    assert "No se ha comparado" in said
    # It computes what the writer, tested on its own, computes of the same weights.
    direct = decoder_tiny.write(tmp_path / "direct.onnx")
    found, wanted = (decoder_tiny.said(decoder_tiny.load(path)) for path in (out, direct))
    np.testing.assert_array_equal(found, wanted)
    assert (out.parent / "tokenizer.json").is_file()


def test_the_record_can_be_traced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = language_model(tmp_path / "source")
    words = ("--precision", "int4", "--block", "32", "--no-parity", "--json")
    code, said, _ = call(capsys, source, "--output", tmp_path / "out", *words)
    assert code == 0
    record = json.loads(said)
    assert record == json.loads((tmp_path / "out" / "model.conversion.json").read_bytes())
    assert record["scheme"] == {"precision": "int4", "block": "32", "source": "Hugging Face"}
    for side, folder in (("source", source), ("output", tmp_path / "out")):
        for file in record[side]:
            path = folder / file["name"]
            assert packages.is_intact(path, file["bytes"], file["sha256"])
    assert {file["name"] for file in record["output"]} == {"model.onnx", "model.onnx.data"}


def test_whisper_is_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = whisper(tmp_path / "source")
    code, _, _ = call(capsys, source, "--output", tmp_path / "w.onnx", "--no-parity")
    assert code == 0
    for name in ("encoder.onnx", "decoder.onnx"):
        check_onnx(tmp_path / "w" / name)
    assert (tmp_path / "w" / "conversion.json").is_file()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda folder: None, "There is no folder"),
        (lambda folder: folder.mkdir(), "no weights that can be converted"),
        (lambda folder: _with(folder, "config.json", b"{"), "not a readable config.json"),
        (lambda folder: _with(folder, "config.json", b"[]"), "not a readable config.json"),
        (lambda folder: _with(folder, "pytorch_model.bin", b"x", config=True), "pickle"),
    ],
)
def test_what_cannot_be_converted_is_one_error(
    make: Any, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path / "source")
    words = (tmp_path / "source", "--output", tmp_path / "out", "--no-parity")
    code, out, err = call(capsys, *words, lang="en")
    assert (code, out) == (2, "")
    assert says in err
    assert not (tmp_path / "out").exists()


def _with(folder: Path, name: str, content: bytes, *, config: bool = False) -> None:
    folder.mkdir()
    (folder / name).write_bytes(content)
    if config:
        (folder / "config.json").write_text("{}")


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = language_model(tmp_path / "source")
    (tmp_path / "mine.onnx").write_text("precious")
    code, _, err = call(
        capsys, source, "--output", tmp_path / "mine.onnx", "--no-parity", lang="en"
    )
    assert code == 2
    assert "not overwritten" in err
    assert (tmp_path / "mine.onnx").read_text() == "precious"


def test_without_torch_the_comparison_names_its_extra(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    source = language_model(tmp_path / "source")
    code, _, err = call(capsys, source, "--output", tmp_path / "m.onnx", lang="en")
    assert code == 2
    assert "pip install 'vozmetro[convert]'" in err
    assert not (tmp_path / "m.onnx").exists()


def test_nothing_is_left_of_a_conversion_that_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors = whisper_zoo.weights()
    # The encoder can be written, the decoder cannot.
    del tensors["model.decoder.layer_norm.weight"]
    source = whisper_zoo.hugging_face(tmp_path / "source", tensors)
    (source / "tokenizer.json").write_text("{}")
    code, _, err = call(capsys, source, "--output", tmp_path / "w", "--no-parity", lang="en")
    assert code == 2
    assert "decoder.layer_norm.weight" in err
    assert not (tmp_path / "w").exists()


def test_without_its_source_engine_a_whisper_is_not_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    source = whisper(tmp_path / "source")
    code, _, err = call(capsys, source, "--output", tmp_path / "w", lang="en")
    assert code == 2
    assert "pip install 'vozmetro[whisper]'" in err
    assert not (tmp_path / "w").exists()


def test_other_families_are_exported_at_full_precision_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = language_model(tmp_path / "source")
    (source / "config.json").write_text(json.dumps({"model_type": "wav2vec2"}))
    words = (source, "--output", tmp_path / "m.onnx", "--precision", "int8", "--no-parity")
    code, _, err = call(capsys, *words, lang="en")
    assert code == 2
    assert "vozmetro quantize" in err


@pytest.mark.slow
def test_optimizing_says_what_it_gained_and_keeps_a_working_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = language_model(tmp_path / "source")
    out = tmp_path / "m.onnx"
    code, said, _ = call(capsys, source, "--output", out, "--no-parity", "--optimize", "--json")
    assert code == 0
    gain = json.loads(said)["optimization"]["m.onnx"]
    assert gain["kept"] == (gain["high"] is not None and gain["high"] < 1)
    direct = decoder_tiny.write(tmp_path / "direct.onnx")
    found, wanted = (decoder_tiny.said(decoder_tiny.load(path)) for path in (out, direct))
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("family", ["language model", "whisper"])
def test_the_guides_script(tmp_path: Path, family: str) -> None:
    made = language_model if family == "language model" else whisper
    source = made(tmp_path / "source")
    words = [sys.executable, str(SCRIPT), "--model", str(source)]
    words += ["--output", str(tmp_path / "m.onnx")]
    done = subprocess.run([*words, "--no-parity"], capture_output=True, text=True, check=True)
    assert "Escrito" in done.stdout
    assert (tmp_path / ("m.onnx" if family == "language model" else "m/decoder.onnx")).is_file()
    done = subprocess.run([*words, "--optimise"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Error" in done.stderr


def test_a_name_whose_data_exists_is_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = language_model(tmp_path / "source")
    (tmp_path / "m.onnx.data").write_text("precious")
    code, _, err = call(capsys, source, "--output", tmp_path / "m.onnx", "--no-parity", lang="en")
    assert code == 2
    assert "not overwritten" in err
    assert (tmp_path / "m.onnx.data").read_text() == "precious"


def test_two_models_with_other_words_do_not_share_a_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = language_model(tmp_path / "source")
    out = tmp_path / "models"
    words = ("--no-parity", "--output")
    assert call(capsys, source, *words, out / "a.onnx")[0] == 0
    # The same words are no trouble.
    assert call(capsys, source, *words, out / "b.onnx")[0] == 0
    (source / "tokenizer.json").write_text('{"other": 1}')
    code, _, err = call(capsys, source, *words, out / "c.onnx", lang="en")
    assert code == 2
    assert "tokenizer.json" in err
    assert not (out / "c.onnx").exists()
    assert (out / "tokenizer.json").read_text() == "{}"


@pytest.mark.parametrize("made", [whisper_zoo.ctranslate2, whisper_zoo.hugging_face])
def test_a_whisper_needs_its_tokenizer(
    made: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = made(tmp_path / "source")
    code, _, err = call(capsys, source, "--output", tmp_path / "w", "--no-parity", lang="en")
    assert code == 2
    assert "tokenizer.json" in err
    assert not (tmp_path / "w").exists()


def test_a_full_disk_is_found_before_writing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = whisper(tmp_path / "source")
    usage = Mock(free=100_000)
    monkeypatch.setattr("vozmetro.models.quantize.datafile.shutil.disk_usage", lambda _: usage)
    code, _, err = call(capsys, source, "--output", tmp_path / "w", "--no-parity", lang="en")
    assert code == 2
    assert "does not fit on the disk" in err


@pytest.mark.parametrize(
    ("step", "error", "says"),
    [
        ("_write", OSError(errno.ENOSPC, "No space left"), "Disk full"),
        ("_parity", KeyError("architectures"), "--no-parity"),
    ],
)
def test_a_step_that_fails_leaves_nothing(
    step: str,
    error: Exception,
    says: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = language_model(tmp_path / "source")
    monkeypatch.setattr(preparing, "_require_reference", Mock())
    monkeypatch.setattr(preparing, step, Mock(side_effect=error))
    code, _, err = call(capsys, source, "--output", tmp_path / "m.onnx", lang="en")
    assert code == 2
    assert says in err
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize(
    ("found", "failed"),
    [
        ({"max_error": 1e-4, "relative_error": 1e-5}, False),
        ({"max_error": 1e-4, "relative_error": 2e-3}, True),
        ({"max_error": math.nan, "relative_error": math.nan}, True),
        ({"max_error": math.inf, "relative_error": 1e-5}, True),
        ({"max_error": 1e-4, "relative_error": 1e-5, "differing": ["es/conteo"]}, True),
    ],
)
def test_another_model_is_not_a_success(
    found: dict[str, Any],
    failed: bool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = language_model(tmp_path / "source")
    parity = Parity(reference="r", input="i", **found)
    monkeypatch.setattr(preparing, "_require_reference", Mock())
    monkeypatch.setattr(preparing, "_parity", Mock(return_value=parity))
    code, said, _ = call(capsys, source, "--output", tmp_path / "m.onnx")
    assert (code, "❌" in said) == (int(failed), failed)
    record = Conversion.model_validate_json((tmp_path / "m.conversion.json").read_bytes())
    assert differs(record.model_dump()) == failed
    # What a quantization may change, nobody can say.
    words = ("--output", tmp_path / "q.onnx", "--precision", "int8")
    code, said, _ = call(capsys, source, *words)
    assert (code, "❌" in said) == (0, False)


def test_errors_that_are_no_numbers_are_kept() -> None:
    assert math.isnan(parity_of(np.array([np.nan, 0]), np.ones(2), reference="", said="").max_error)
    found = parity_of(np.ones(2), np.zeros(2), reference="", said="")
    assert found.relative_error == math.inf


def test_a_whisper_that_does_not_fit_is_not_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = whisper(tmp_path / "source")
    monkeypatch.setattr(preparing, "_require_reference", Mock())
    monkeypatch.setattr(preparing, "available_ram", lambda: 1000)
    code, said, _ = call(capsys, source, "--output", tmp_path / "w", lang="en")
    assert code == 0
    assert "Not compared with its source: Running" in said
    record = json.loads((tmp_path / "w" / "conversion.json").read_bytes())
    assert record["parity"] is None
    assert record["report"]["parity_skipped"]["code"] == "parity_memory"


def test_what_is_kept_is_what_is_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def optimized(graphs: Any) -> dict[str, Any]:
        graphs[0].write_bytes(graphs[0].read_bytes() + b"\x3a\x00")  # an empty graph to merge
        return {}

    def compared(source: Any, path: Path, *_: object) -> Parity:
        seen.append(packages.sha256(path))
        return Parity(reference="r", input="i", max_error=0, relative_error=0)

    seen: list[str] = []
    source = language_model(tmp_path / "source")
    monkeypatch.setattr(preparing, "_require_reference", Mock())
    monkeypatch.setattr("vozmetro.prepare.optimize.optimize_offline", optimized)
    monkeypatch.setattr(preparing, "_parity", compared)
    words = ("--output", tmp_path / "m.onnx", "--optimize", "--json")
    code, said, _ = call(capsys, source, *words)
    assert code == 0
    assert seen == [file["sha256"] for file in json.loads(said)["output"][:1]]


def test_a_decoder_is_optimized_for_a_whole_window(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = whisper(tmp_path / "source")
    assert call(capsys, source, "--output", tmp_path / "w", "--no-parity")[0] == 0
    width = whisper_zoo.WIDTH // whisper_zoo.HEADS
    shape = [1, whisper_zoo.HEADS, whisper_zoo.SOURCE, width]
    assert optimize._shapes(tmp_path / "w" / "decoder.onnx") == {
        f"cross.{layer}.{kind}": shape
        for layer in range(whisper_zoo.LAYERS)
        for kind in ("key", "value")
    }
    assert optimize._shapes(tmp_path / "w" / "encoder.onnx") == {}


def test_a_block_that_nothing_uses_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--output", tmp_path / "m.onnx", "--precision", "int8", "--block", "64")
    code, _, err = call(capsys, tmp_path, *words)
    assert code == 2
    assert "--block no cambia nada en int8" in err


@pytest.mark.parametrize("lang", ["es", "en"])
def test_a_parity_report_fits_a_terminal(lang: str) -> None:
    parity = {
        "reference": "faster-whisper float32", "input": "es/conteo, " * 12, "max_error": 1.7e-3,
        "relative_error": 4.3e-6, "utterances": 6, "identical": 5, "differing": ["es/conteo"],
        "layers": 2,
    }  # fmt: skip
    gain = {"ratio": 0.99, "low": 0.98, "high": 1.01, "load_ratio": 0.7, "kept": False}
    record = {
        "output": [{"bytes": 10}], "seconds": 2.0, "peak_rss": 10**8, "parity": parity,
        "scheme": {"precision": "int8"}, "optimization": {"encoder.onnx": gain}, "report": {},
    }  # fmt: skip
    text = "\n".join(conversion_lines(record, Path("models/whisper"), lang))
    assert max(map(cell_len, text.splitlines())) <= 80
    for figure in ("1.7e-03", "4.3e-06", "0.990", "0.980–1.010", "INT8"):
        assert figure in text
