"""`vozmetro quantize` and the guide's scripts as a person uses them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
import quantize_zoo as zoo
from rich.cells import cell_len

from vozmetro.cli.quantize import commands
from vozmetro.cli.run import run
from vozmetro.report.quantization import quantization_lines

SCRIPTS = Path(__file__).parents[1] / "scripts"


def call(capsys: pytest.CaptureFixture[str], *words: object, lang: str = "es") -> Any:
    (command,) = commands(lang)
    code = run(command, [str(word) for word in words], lang)
    said = capsys.readouterr()
    return code, said.out, said.err


def test_what_is_printed_fits_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    zoo.mixed(tmp_path / "m.onnx")
    code, out, err = call(capsys, "m.onnx", "--int8", "--no-measure")
    assert (code, err) == (0, "")
    assert max(map(cell_len, out.splitlines())) <= 80
    for said in (
        "Cuantizado a int8: m-int8.onnx", "Tamaño:", "25.4 % de los bytes", "layer",
        "convoluciones", "a la izquierda", "más de dos dimensiones", "sesgos", "La guía espera",
        "Registro: m-int8.conversion.json",
    ):  # fmt: skip
        assert said in out
    code, out, _ = call(capsys, "m.onnx", "--int4", "--block", "32", "--no-measure", lang="en")
    assert code == 0
    assert max(map(cell_len, out.splitlines())) <= 80
    assert "Quantized to int4-b32: m-int4.onnx" in out


def test_json_is_the_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    zoo.matmul(tmp_path / "m.onnx")
    words = ["--int8", "--mode", "weight-only", "--block", "64", "--no-measure", "--json"]
    code, out, _ = call(capsys, tmp_path / "m.onnx", *words)
    assert code == 0
    found = json.loads(out)
    assert found["scheme"]["precision"] == "int8-b64"
    assert found == json.loads((tmp_path / "m-int8.conversion.json").read_text())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["m.onnx"], "--int8 o --int4"),
        (["m.onnx", "--int8", "--int4"], "--int8 o --int4"),
        (["m.onnx", "--int4", "--block", "512"], "512 no es válido"),
        (["m.onnx", "--int4", "--mode", "static"], "no existe el modo static"),
        (["none.onnx", "--int8"], "none.onnx"),
        (["m.onnx", "--int8", "--block", "32"], "--block no cambia nada"),
        (["m.onnx", "--int8", "--calibration", "minmax"], "--calibration no cambia nada"),
        (["m.onnx", "--int8", "--output", "m.onnx"], "modelo de entrada"),
        (["m.onnx", "--int8", "--output", "m.bin"], "no termina en .onnx"),
    ],
)
def test_bad_words_give_one_clear_error(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    zoo.matmul(tmp_path / "m.onnx")
    code, out, err = call(capsys, *words)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert said in err
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


@pytest.mark.parametrize("bits", [8, 4])
def test_the_guides_scripts(tmp_path: Path, bits: int) -> None:
    source = zoo.matmul(tmp_path / "F.onnx")
    words = [sys.executable, str(SCRIPTS / f"quantize_int{bits}.py"), "--model", str(source)]
    done = subprocess.run(
        [*words, "--no-measure"], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert f"Cuantizado a int{bits}" in done.stdout
    assert (tmp_path / f"F-int{bits}.onnx").is_file()
    again = subprocess.run([*words, "--no-measure"], capture_output=True, text=True, check=False)
    assert again.returncode == 2
    assert "ya existe" in again.stderr


def _record(**changes: Any) -> dict[str, Any]:
    layer = {"name": "n" * 90, "op": "MatMul", "outputs": 151936, "inputs": 2560, "error": 0.0123}
    left = [
        {"reason": "embedding", "op": "Gather", "bytes": 10**9},
        {"reason": "operator", "op": "LSTM", "bytes": 5000},
    ]
    graph = {
        "output": "m.onnx", "source_bytes": 4 * 10**9, "output_bytes": 2 * 10**9,
        "share": 0.5, "share_parameters": 0.5, "layers": [layer], "left": left,
        "dynamic_fallback": ["a"],
    }  # fmt: skip
    words = {"rate": 0.05, "errors": 5, "words": 100, "utterances": 10}
    gain = {
        "change": -0.31, "low": -0.35, "high": None, "pairs": 40, "expected": (-0.3, -0.2),
        "holds": "undecided", "before": words, "after": words, "same_text": 9,
    }  # fmt: skip
    parity = {"relative_error": 0.01, "input": "4 x es", "utterances": 17, "identical": 16}
    report = {"graphs": [graph], "gain": gain} | changes
    return {
        "scheme": {"precision": "int8", "embeddings": "left"}, "seconds": 3.2,
        "peak_rss": 3 * 10**8, "parity": parity, "report": report,
    }  # fmt: skip


@pytest.mark.parametrize("lang", ["es", "en"])
def test_everything_measured_is_said(lang: str) -> None:
    skipped = {"code": "disk_full", "fields": {"path": "p", "detail": "d"}}
    for record in (_record(), _record(output_skipped=skipped)):
        lines = list(quantization_lines(record, Path("m.onnx"), lang))
        text = "\n".join(lines)
        assert max(map(cell_len, lines)) <= 80
        for said in ("-31.0 %", "[-35.0, –]", "-20-30 %", "5.0 % → 5.0 %", "1.23 %", "LSTM"):
            assert said in text
        assert "--embeddings" in text
    record = _record(gain_skipped=skipped)
    del record["report"]["gain"]
    assert "d" in "\n".join(quantization_lines(record, Path("m.onnx"), lang))


def test_help_is_in_both_languages() -> None:
    for lang, word in (("es", "Cuantiza un .onnx"), ("en", "Quantize an .onnx")):
        (command,) = commands(lang)
        assert word in command.get_help(click.Context(command, info_name="quantize"))
