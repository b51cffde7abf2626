"""The command line as a person uses it: exit codes, languages, one clear error for bad input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_zoo
import pytest
import soundfile
from rich.cells import cell_len

from vozmetro.cli import main
from vozmetro.i18n import t

Said = tuple[int, str, str]
Call = Callable[..., Said]

FAST = ["--iterations", "3", "--audio-seconds", "0.5,1", "--threads", "1"]
SCRIPT = Path(__file__).parents[1] / "scripts" / "benchmark_audio_latency.py"


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    monkeypatch.setenv("COLUMNS", "80")

    def call(*words: object) -> Said:
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
        said = capsys.readouterr()
        code = ended.value.code
        assert isinstance(code, int)
        return code, said.out, said.err

    return call


def budget(path: Path, p50_ms: float) -> Path:
    path.write_text(f"[limits]\np50_ms = {p50_ms}\nslow_ms = {p50_ms * 2}\n")
    return path


def test_pass_prints_a_verdict_within_80_columns_and_writes_a_report(
    call: Call, tmp_path: Path
) -> None:
    model = onnx_zoo.waveform_model(tmp_path / "m.onnx")
    code, out, err = call("bench", model, *FAST, "--out", tmp_path / "out", "--lang", "es")
    assert code == 0
    assert err == ""
    assert "VEREDICTO: ✅ CUMPLE" in out
    table = [line for line in out.splitlines() if str(tmp_path) not in line]
    assert max(map(cell_len, table)) <= 80
    assert (tmp_path / "out" / "run.json").exists()
    assert "# Resultados Benchmark" in (tmp_path / "out" / "report.md").read_text()
    assert list((tmp_path / "out" / "plots").glob("*.png"))


def test_fail_is_1_and_no_gate_is_0(call: Call, tmp_path: Path) -> None:
    model = onnx_zoo.waveform_model(tmp_path / "m.onnx")
    limits = budget(tmp_path / "b.toml", 0.0001)
    words = ["bench", model, *FAST, "--budget", limits, "--out", tmp_path / "o", "--lang", "en"]
    code, out, _ = call(*words)
    assert code == 1
    assert "scenario B" in out
    words[words.index("--out") + 1] = tmp_path / "again"
    assert call(*words, "--no-gate")[0] == 0


def test_undecided_is_3(call: Call, tmp_path: Path) -> None:
    model = onnx_zoo.waveform_model(tmp_path / "m.onnx")
    # Three runs cannot decide a median at 95 %.
    words = ["--iterations", "3", "--until", "iterations", "--audio-seconds", "0.5"]
    code, out, _ = call("bench", model, *words, "--out", tmp_path / "o", "--lang", "en")
    assert code == 3
    assert "UNDECIDED" in out


def test_json_is_json_alone_on_stdout(call: Call, tmp_path: Path) -> None:
    model = onnx_zoo.waveform_model(tmp_path / "m.onnx")
    code, out, _ = call("bench", model, *FAST, "--json", "--out", tmp_path / "o")
    assert code == 0
    assert json.loads(out)["decision"]["status"] == "pass"


def test_compare_then_report_again_without_measuring(call: Call, tmp_path: Path) -> None:
    a = onnx_zoo.waveform_model(tmp_path / "a.onnx")
    b = onnx_zoo.waveform_model(tmp_path / "b.onnx", channels=64)
    words = [*FAST, "--out", tmp_path / "o", "--lang", "es"]
    code, out, _ = call("compare", a, b, *words)
    assert code == 0
    assert "TABLA COMPARATIVA" in out
    measured = (tmp_path / "o" / "comparison.json").read_bytes()
    again = call("report", tmp_path / "o", "--out", tmp_path / "en", "--lang", "en")
    assert again[0] == 0
    assert (tmp_path / "o" / "comparison.json").read_bytes() == measured
    assert "## " in (tmp_path / "en" / "report.md").read_text()


def test_default_folder_is_named_after_time_and_subject(call: Call, tmp_path: Path) -> None:
    model = onnx_zoo.waveform_model(tmp_path / "m.onnx")
    assert call("bench", model, *FAST)[0] == 0
    (folder,) = (tmp_path / "vozmetro-runs").iterdir()
    assert "m.onnx" in folder.name


def test_help_speaks_both_languages(call: Call) -> None:
    spanish, english = (call("bench", "--help", "--lang", lang)[1] for lang in ("es", "en"))
    assert "Uso:" in spanish
    assert "Usage:" in english
    assert spanish.count("--") == english.count("--") > 15


def truncated(path: Path) -> Path:
    onnx_zoo.waveform_model(path)
    path.write_bytes(path.read_bytes()[:-40])
    return path


def short_data(path: Path) -> Path:
    onnx_zoo.external_data_model(path)
    data = next(one for one in path.parent.iterdir() if one.name.endswith(".data"))
    data.write_bytes(data.read_bytes()[:100])
    return path


def missing_data(path: Path) -> Path:
    onnx_zoo.external_data_model(path)
    next(one for one in path.parent.iterdir() if one.name.endswith(".data")).unlink()
    return path


def outside_data(path: Path) -> Path:
    return onnx_zoo.external_data_model(path, location="../secret.data")


BAD_MODELS: list[Callable[[Path], Path]] = [
    lambda path: path,  # no file
    truncated,
    short_data,
    missing_data,
    outside_data,
    onnx_zoo.custom_op_model,
]


@pytest.mark.parametrize("lang", ["es", "en"])
@pytest.mark.parametrize("make", BAD_MODELS)
def test_bad_models_are_one_clear_error(
    call: Call, tmp_path: Path, make: Callable[[Path], Path], lang: str
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    path = make(folder / "m.onnx")
    code, out, err = call("bench", path, *FAST, "--out", tmp_path / "o", "--lang", lang)
    assert (code, out) == (2, "")
    assert err.startswith("Error:")
    assert len(err.strip().splitlines()) == 1
    assert "Traceback" not in err
    assert not (tmp_path / "o" / "run.json").exists()


@pytest.mark.parametrize("lang", ["es", "en"])
@pytest.mark.parametrize(
    ("words", "key"),
    [
        (["--iterations", "0"], "errors.iterations_range"),
        (["--threads", "0"], "errors.threads_range"),
        (["--max-time", "0"], "errors.max_time_range"),
        (["--audio-seconds", "1,two"], "errors.bad_number_list"),
        (["--audio-seconds", "nan"], "errors.bad_number_list"),
        (["--audio-seconds", "-1"], "errors.audio_seconds_range"),
        (["--shape", "input"], "errors.bad_shape"),
        (["--shape", "nothing=1x2"], "errors.shape_unknown_input"),
        (["--budget", "nowhere.toml"], "errors.file_missing"),
        (["--corpus", "nowhere"], "errors.corpus_missing"),
        (["--claimed-params", "many"], "errors."),
        (["--resume", "nowhere"], "cli.subject_or_resume"),
        (["--iteration", "3"], "cli.no_such_option_near"),
        (["--until", "tomorrow"], "cli.bad_parameter"),
    ],
)
def test_bad_options_are_one_clear_error(
    call: Call, tmp_path: Path, words: list[str], key: str, lang: str
) -> None:
    model = onnx_zoo.waveform_model(tmp_path / "m.onnx")
    code, out, err = call("bench", model, *words, "--out", tmp_path / "o", "--lang", lang)
    assert (code, out) == (2, "")
    assert len(err.strip().splitlines()) == 1
    if not key.endswith("."):
        # The sentence up to its first placeholder.
        assert t(key, lang, **_blank(key, lang)).split("\0")[0] in err


def _blank(key: str, lang: str) -> dict[str, str]:
    import string

    from vozmetro.i18n import catalogue

    names = {name for _, name, _, _ in string.Formatter().parse(catalogue(lang)[key]) if name}
    return dict.fromkeys(names, "\0")


def test_unknown_subject_says_what_there_is(call: Call) -> None:
    code, _, err = call("bench", "whisper-bse", "--lang", "en")
    assert code == 2
    assert "whisper-base" in err


def test_unwritable_output_is_found_before_measuring(call: Call, tmp_path: Path) -> None:
    model = onnx_zoo.waveform_model(tmp_path / "m.onnx")
    (tmp_path / "file").write_text("")
    code, _, err = call("bench", model, *FAST, "--out", tmp_path / "file" / "o", "--lang", "en")
    assert code == 2
    assert "--out" in err


def corpus(folder: Path, content: bytes | None) -> Path:
    folder.mkdir()
    if content is None:
        soundfile.write(folder / "a.wav", np.zeros(0), 16_000)
    else:
        (folder / "a.wav").write_bytes(content)
    (folder / "a.txt").write_text("hola")
    return folder


@pytest.mark.parametrize(("content", "word"), [(b"junk", "WAV"), (None, "audio")])
def test_bad_audio_in_a_corpus(
    call: Call, tmp_path: Path, content: bytes | None, word: str
) -> None:
    model = onnx_zoo.waveform_model(tmp_path / "m.onnx")
    folder = corpus(tmp_path / "corpus", content)
    code, _, err = call("bench", model, "--corpus", folder, "--lang", "en")
    assert code == 2
    assert word in err
    assert "a.wav" in err


def test_missing_extra_gives_the_install_command(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The worker is a process of its own: it finds a faster_whisper that does not import.
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "faster_whisper.py").write_text("raise ImportError('not here')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "broken"))
    code, _, err = call("bench", "whisper-tiny-en", "--limit", "1", "--lang", "es")
    assert code == 2
    assert "pip install 'vozmetro[whisper]'" in err


def test_a_model_that_raises_mid_run_keeps_what_was_measured(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psutil

    from vozmetro.cli.progress import ProgressLine

    def kill(_: ProgressLine, progress: object) -> None:
        if getattr(progress, "rounds", 0) >= 1:
            for child in psutil.Process().children():
                child.kill()

    real = ProgressLine.__call__
    monkeypatch.setattr(ProgressLine, "__call__", kill)
    model = onnx_zoo.waveform_model(tmp_path / "m.onnx")
    words = ["--iterations", "200", "--out", tmp_path / "o", "--lang", "es"]
    code, out, err = call("bench", model, *words)
    assert code == 2
    assert t("cli.partial_saved", "es", path=tmp_path / "o") in err
    assert "✅ CUMPLE" not in out
    monkeypatch.setattr(ProgressLine, "__call__", real)
    assert call("bench", "--resume", tmp_path / "o", "--lang", "es")[0] == 0


def test_a_stub_never_wins(call: Call, tmp_path: Path) -> None:
    stub = onnx_zoo.constant_model(tmp_path / "stub.onnx")
    code, out, _ = call("bench", stub, *FAST, "--out", tmp_path / "o", "--lang", "es")
    assert code == 3
    assert "✅ CUMPLE" not in out
    real = onnx_zoo.waveform_model(tmp_path / "real.onnx", channels=64)
    words = ["compare", stub, real, "--iterations", "50", "--until", "iterations"]
    code, out, _ = call(*words, "--out", tmp_path / "c", "--lang", "es")
    assert code == 0
    said = " ".join(out.split())
    assert "La salida de stub es sospechosa" in said
    assert "Usar real: cumple" in said


def test_a_reader_that_leaves_does_not_change_the_exit_code(tmp_path: Path) -> None:
    model = onnx_zoo.waveform_model(tmp_path / "m.onnx")
    words = ["bench", str(model), "--iterations", "3", "--until", "iterations"]
    words += ["--audio-seconds", "0.5", "--lang", "es"]
    for more, code in ((["--json"], 3), ([], 3), (["--no-gate"], 0)):
        read, write = os.pipe()
        os.close(read)
        done = subprocess.run(
            [sys.executable, "-m", "vozmetro", *words, *more],
            stdout=write,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        os.close(write)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr


def test_names_from_a_model_cannot_drive_the_terminal(call: Call, tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    port = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    domain = "evil\x1b]0;own\x07"
    node = helper.make_node("Secret", ["x"], ["y"], domain=domain)
    graph = helper.make_graph([node], "g", [port], [port])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(domain, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    code, _, err = call("bench", tmp_path / "m.onnx", "--lang", "en")
    assert code == 2
    assert "evil" in err
    assert "\x1b" not in err
    assert "\x07" not in err


def test_errors_leave_no_empty_folders(call: Call, tmp_path: Path) -> None:
    assert call("bench", tmp_path / "none.onnx")[0] == 2
    runs = tmp_path / "vozmetro-runs"
    assert not runs.exists() or not any(runs.iterdir())


def test_a_measurement_is_never_overwritten(call: Call, tmp_path: Path) -> None:
    model = onnx_zoo.waveform_model(tmp_path / "m.onnx")
    assert call("bench", model, *FAST, "--out", tmp_path / "o")[0] == 0
    kept = (tmp_path / "o" / "run.json").read_bytes()
    for words in (["bench", model], ["compare", model, model]):
        code, _, err = call(*words, *FAST, "--out", tmp_path / "o", "--lang", "en")
        assert code == 2
        assert "--resume" in err
    assert (tmp_path / "o" / "run.json").read_bytes() == kept


def test_resume_takes_no_other_options_and_works_from_any_folder(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx_zoo.waveform_model(tmp_path / "m.onnx")
    assert call("bench", "m.onnx", *FAST, "--out", tmp_path / "o")[0] == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    code, _, err = call("bench", "--resume", tmp_path / "o", "--threads", "2", "--lang", "en")
    assert code == 2
    assert "--threads" in err
    assert call("bench", "--resume", tmp_path / "o")[0] == 0


def test_a_full_disk_in_the_middle_keeps_and_shows_what_was_saved(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vozmetro.measure import storage

    real, saves = os.fsync, 0

    def full(handle: int) -> None:
        nonlocal saves
        saves += 1
        if saves > 3:  # the probe of the folder and two blocks
            raise OSError(28, "No space left on device")
        real(handle)

    monkeypatch.setattr(storage.os, "fsync", full)
    model = onnx_zoo.waveform_model(tmp_path / "m.onnx")
    words = ["--iterations", "40", "--out", tmp_path / "o", "--lang", "es"]
    code, out, err = call("bench", model, *words)
    assert code == 2
    assert t("cli.partial_saved", "es", path=tmp_path / "o") in err
    assert "Disco lleno" in " ".join(out.split()) + err
    monkeypatch.setattr(storage.os, "fsync", real)
    assert call("bench", "--resume", tmp_path / "o", "--lang", "es")[0] == 0


def script(*words: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "80"}
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, words)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )


def test_the_old_script_prints_the_guides_layout(tmp_path: Path) -> None:
    model = onnx_zoo.waveform_model(tmp_path / "m.onnx")
    done = script("--model", model, "--iterations", "3")
    assert done.returncode == 0, done.stderr
    for fixed in (
        "⏱️  Tiempos de Carga:",
        "   Carga modelo:  ",
        "   Warmup (avg):  ",
        "⚡ Latencia de Inferencia:",
        "   P50 promedio:  ",
        "   P99 promedio:  ",
        "🎯 Objetivo: <240ms",
        "   ✅ CUMPLE",
    ):
        assert fixed in done.stdout


def test_the_old_script_compares_and_honours_iterations(tmp_path: Path) -> None:
    a = onnx_zoo.waveform_model(tmp_path / "a.onnx")
    b = onnx_zoo.waveform_model(tmp_path / "b.onnx")
    words = ["--compare", "--model-a", a, "--model-b", b, "--iterations", "12"]
    done = script(*words, "--out", tmp_path / "o")
    assert done.returncode == 0, done.stderr
    for fixed in ("📊 TABLA COMPARATIVA", "🎯 VEREDICTO:", "Throughput (inf/s)"):
        assert fixed in done.stdout
    record = json.loads((tmp_path / "o" / "comparison.json").read_text())
    for side in ("a", "b"):
        assert len({sample["round"] for sample in record[side]["samples"]}) >= 12


def test_the_old_script_on_a_missing_file(tmp_path: Path) -> None:
    done = script("--model", tmp_path / "none.onnx")
    assert done.returncode == 2
    assert done.stderr.startswith("Error:")
    assert "Traceback" not in done.stderr
