"""Quantizing with proof: calibration, what is measured, the record, and folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import onnx
import onnx_zoo
import onnxruntime as ort
import pytest
import quantize_zoo as zoo
import run_factory
import soundfile

from vozmetro import packages
from vozmetro.audio import synthetic_speech
from vozmetro.errors import InputError, MeasurementError, ModelError
from vozmetro.judge.comparison import compare_record
from vozmetro.judge.statistics import Interval
from vozmetro.models import checks
from vozmetro.models.quantize.plan import Plan
from vozmetro.prepare import gains
from vozmetro.prepare.calibrate import calibrate
from vozmetro.prepare.quantize import default_output, quantize_model
from vozmetro.prepare.records import Conversion
from vozmetro.prepare.speech import spoken


@pytest.fixture
def corpus(tmp_path: Path) -> str:
    folder = tmp_path / "corpus" / "es"
    folder.mkdir(parents=True)
    for index, seconds in enumerate((0.51, 0.777)):
        audio = synthetic_speech(seconds, index)
        soundfile.write(folder / f"{index}.wav", audio.samples, audio.rate)
        (folder / f"{index}.txt").write_text("hola")
    return str(folder)


def test_speech_becomes_an_even_number_of_frames(tmp_path: Path, corpus: str) -> None:
    found = spoken(zoo.encoder(tmp_path / "e.onnx"), corpus, 5)
    assert found.heard
    shapes = [feeds["input_features"].shape for feeds in found.feeds]
    assert [(one[0], one[1], one[2] % 2) for one in shapes] == [(1, 80, 0)] * 2
    assert not spoken(onnx_zoo.tokens_model(tmp_path / "t.onnx"), corpus, 5).heard


def test_calibrated_ranges_are_those_of_the_values(tmp_path: Path, corpus: str) -> None:
    source = zoo.encoder(tmp_path / "e.onnx")
    found = calibrate(source, corpus, "minmax")
    model = onnx.load(source)
    for name in ("frames", "c"):
        port = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        model.graph.output.append(port)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feeds = spoken(source, corpus, 5).feeds
    for name in ("frames", "c"):
        seen = [session.run([name], dict(one))[0] for one in feeds]
        low, high = found[name]
        assert low == pytest.approx(min(0.0, *(float(one.min()) for one in seen)), abs=1e-5)
        assert high == pytest.approx(max(float(one.max()) for one in seen), abs=1e-5)
    inside = calibrate(source, corpus, "percentile")
    for name, (low, high) in inside.items():
        slack = 0.01 * (found[name][1] - found[name][0])
        assert found[name][0] - slack <= low <= high <= found[name][1] + slack


def test_static_needs_speech(tmp_path: Path, corpus: str) -> None:
    source = onnx_zoo.tokens_model(tmp_path / "t.onnx")
    with pytest.raises(InputError) as caught:
        quantize_model(source, None, Plan(mode="static"), corpus=corpus, measure=False)
    assert caught.value.code == "quantize_static_speech"


def test_static_stays_close_on_the_speech_it_was_calibrated_with(
    tmp_path: Path, corpus: str
) -> None:
    source = zoo.external(zoo.encoder(tmp_path / "e.onnx"), tmp_path / "m.onnx")
    done = quantize_model(source, None, Plan(mode="static"), corpus=corpus, measure=False)
    assert done.path == tmp_path / "m-int8.onnx"
    assert done.reports[0].dynamic_fallback == ()
    model = onnx.load(done.path)
    assert not any(node.op_type == "DynamicQuantizeLinear" for node in model.graph.node)
    assert gains.output_error(source, done.path, corpus).relative_error < 0.05
    assert done.record.scheme["calibration"] == "percentile"


def test_the_record_says_what_became_of_what(tmp_path: Path) -> None:
    source = zoo.mixed(tmp_path / "m.onnx")
    done = quantize_model(source, None, Plan(), measure=False, command=["vozmetro", "quantize"])
    written = tmp_path / "m-int8.conversion.json"
    record = Conversion.model_validate_json(written.read_bytes())
    assert record == done.record
    assert record.kind == "quantization"
    assert record.command == ["vozmetro", "quantize"]
    assert [file.name for file in record.output] == ["m-int8.onnx", "m-int8.onnx.data"]
    for file in (*record.source, *record.output):
        assert packages.is_intact(tmp_path / file.name, file.bytes, file.sha256)
    assert record.scheme["precision"] == "int8"
    (graph,) = record.report["graphs"]
    assert graph["share"] == done.reports[0].share
    assert [layer["name"] for layer in graph["layers"]] == ["layer"]
    assert {left["reason"] for left in graph["left"]} == {"conv", "left-hand", "batched", "vector"}
    assert record.parity is None
    assert "gain" not in record.report


def test_default_names(tmp_path: Path) -> None:
    assert default_output(Path("a/F.onnx"), Plan()) == Path("a/F-int8.onnx")
    plan = Plan(bits=4, mode="weight-only")
    assert default_output(Path("F.b.onnx"), plan) == Path("F.b-int4.onnx")
    assert default_output(tmp_path, plan).name == f"{tmp_path.name}-int4"


def folder(path: Path) -> Path:
    path.mkdir()
    zoo.encoder(path / "encoder.onnx")
    onnx_zoo.tokens_model(path / "decoder.onnx")
    for name in ("config.json", "tokenizer.json", "conversion.json"):
        (path / name).write_text(json.dumps({"from": name}))
    return path


def test_a_folder_is_quantized_whole(tmp_path: Path, corpus: str) -> None:
    source = folder(tmp_path / "w")
    done = quantize_model(source, None, Plan(mode="static"), corpus=corpus, measure=False)
    assert done.path == tmp_path / "w-int8"
    assert sorted(path.name for path in done.path.iterdir()) == [
        "config.json", "conversion.json", "decoder.onnx", "decoder.onnx.data", "encoder.onnx",
        "encoder.onnx.data", "tokenizer.json",
    ]  # fmt: skip
    assert json.loads((done.path / "config.json").read_text()) == {"from": "config.json"}
    marks = [
        checks.check_onnx(done.path / f"{name}.onnx").inspection.marks["vozmetro.precision"]
        for name in ("encoder", "decoder")
    ]
    assert marks == ["int8-static", "int8"]
    assert done.record.report["graphs"][0]["output"] == "encoder.onnx"
    assert done.record.scheme["precision"] == "int8-static + int8"
    assert Conversion.model_validate_json((done.path / "conversion.json").read_bytes())


def test_records_of_the_source_are_not_copied(tmp_path: Path) -> None:
    source = folder(tmp_path / "w")
    # Their hashes are not those of the new files, which would be refused as damaged.
    for name in ("fetch.json", "dummy.json"):
        (source / name).write_text("{}")
    done = quantize_model(source, None, Plan(), measure=False)
    assert {path.name for path in done.path.glob("*.json")} == {
        "config.json", "conversion.json", "tokenizer.json"
    }  # fmt: skip


def test_a_taken_name_is_found_before_calibrating(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("vozmetro.prepare.quantize.calibrate")
    source = zoo.encoder(tmp_path / "e.onnx")
    (tmp_path / "e-int8.onnx").write_text("precious")
    with pytest.raises(InputError) as caught:
        quantize_model(source, None, Plan(mode="static"))
    assert caught.value.code == "quantize_taken"


def test_a_folder_that_fails_leaves_nothing(tmp_path: Path) -> None:
    source = folder(tmp_path / "w")
    zoo.only_conv(source / "decoder.onnx")
    with pytest.raises(ModelError) as caught:
        quantize_model(source, None, Plan(), measure=False)
    assert caught.value.code == "quantize_nothing"
    assert [path.name for path in tmp_path.iterdir()] == ["w"]


def test_other_folders_and_taken_names_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for source, output, code in (
        (tmp_path / "empty", None, "quantize_folder"),
        (folder(tmp_path / "w"), tmp_path / "empty", "quantize_taken"),
    ):
        with pytest.raises(InputError) as caught:
            quantize_model(source, output, Plan(), measure=False)
        assert caught.value.code == code


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [
        (-0.5, -0.3, "confirmed"),
        (-0.25, -0.2, "confirmed"),
        (-0.25, -0.1, "undecided"),
        (-0.1, 0.1, "refuted"),
        (None, None, "undecided"),
    ],
)
def test_the_guides_claim(low: float | None, high: float | None, wanted: str) -> None:
    assert gains.holds(Interval(-0.2, low, high, None)) == wanted


def test_the_gain_is_that_of_the_pairs() -> None:
    a = run_factory.make_run(kind="stt", median_ms=200.0)
    b = run_factory.make_run(kind="stt", median_ms=100.0, seed=8)
    found = gains.gain_of(compare_record(run_factory.make_comparison(a, b)))
    assert found.change == pytest.approx(-0.5, abs=0.05)
    assert found.low is not None and found.high is not None
    assert found.low < found.change < found.high
    assert found.holds == "confirmed"
    assert found.before is not None and found.before.rate == 0
    assert found.same_text == len(a.items)


def test_outputs_and_latency_are_measured(
    tmp_path: Path, corpus: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gains, "_ITERATIONS", {"graph": 4})
    phases: list[str] = []

    def listen(phase: str, done: int, total: int) -> None:
        phases.append(phase)

    source = zoo.encoder(tmp_path / "e.onnx")
    done = quantize_model(source, tmp_path / "q.onnx", Plan(), corpus=corpus, listen=listen)
    assert list(dict.fromkeys(phases)) == ["quantizing", "checking", "measuring"]
    assert done.record.parity is not None
    assert 0 < done.record.parity.relative_error < 0.05
    gain: dict[str, Any] = done.record.report["gain"]
    assert gain["pairs"] == 8
    assert gain["change"] > -1


def chosen(path: Path, sign: int) -> Path:
    """Gives only those of its outputs that are positive: all, or none."""
    made = np.full((zoo.INPUTS, zoo.OUTPUTS), sign, np.float32)
    nodes = [
        onnx.helper.make_node("Abs", ["x"], ["size"]),
        onnx.helper.make_node("MatMul", ["size", "w"], ["y"]),
        onnx.helper.make_node("Greater", ["y", "zero"], ["is"]),
        onnx.helper.make_node("Reshape", ["is", "flat"], ["mask"]),
        onnx.helper.make_node("Compress", ["y", "mask"], ["z"]),
    ]
    stored = {"w": made, "zero": np.zeros(1, np.float32), "flat": np.array([-1])}
    return zoo.save(
        path,
        nodes,
        [zoo.stored(name, values) for name, values in stored.items()],
        [zoo.port("x", [1, zoo.INPUTS])],
        [zoo.port("z", ["n"])],
    )


def test_outputs_of_other_lengths_have_no_error(tmp_path: Path, corpus: str) -> None:
    both = chosen(tmp_path / "a.onnx", 1), chosen(tmp_path / "b.onnx", -1)
    with pytest.raises(MeasurementError) as caught:
        gains.output_error(*both, corpus)
    assert caught.value.code == "outputs_differ"


def test_a_model_that_does_not_run_is_noted(
    tmp_path: Path, corpus: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*_: object) -> None:
        raise RuntimeError("Non-zero status code\nof a node")

    monkeypatch.setattr("vozmetro.engines.onnx_graph.OrtGraph.run", run)
    # A worker would run the model as it is.
    skipped = MeasurementError("model_failed", detail="")
    monkeypatch.setattr(gains, "measure_gain", Mock(side_effect=skipped))
    done = quantize_model(zoo.encoder(tmp_path / "e.onnx"), None, Plan(), corpus=corpus)
    assert done.record.report["output_skipped"]["code"] == "model_failed"
    assert done.record.report["output_skipped"]["fields"] == {"detail": "Non-zero status code"}
    assert (tmp_path / "e-int8.conversion.json").is_file()


def test_what_cannot_be_measured_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vozmetro.prepare.gains.available_ram", lambda: 1000)
    monkeypatch.setattr("vozmetro.measure.environment.available_ram", lambda: 1000)
    source = zoo.encoder(tmp_path / "e.onnx")
    done = quantize_model(source, None, Plan())
    assert done.record.report["output_skipped"]["code"] == "does_not_fit"
    assert done.record.report["gain_skipped"]["code"] == "does_not_fit"
    assert done.path.is_file()
    assert np.isfinite(done.reports[0].layers[0].error)
