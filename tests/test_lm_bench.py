"""Language models from the file to the report: what is timed, noted, compared, and resumed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_zoo
import onnxruntime
import psutil
import pytest
from click.testing import CliRunner

from vozmetro import api
from vozmetro.cli.app import build
from vozmetro.cli.run import run as run_command
from vozmetro.errors import InputError, MeasurementError
from vozmetro.judge.decision import judge
from vozmetro.judge.language import language_summary
from vozmetro.judge.statistics import summarize_run
from vozmetro.measure import live, storage
from vozmetro.measure.callers import LanguageModelCaller
from vozmetro.measure.records import SCHEMA_VERSION, Run
from vozmetro.measure.schedule import Progress
from vozmetro.measure.subject import resolve_subject
from vozmetro.measure.workload import from_prompts
from vozmetro.models.convert.builder import GraphBuilder, Scheme
from vozmetro.models.resolve import resolve, split_options
from vozmetro.planning import Options
from vozmetro.report.bundle import summary_json
from vozmetro.report.rows import comparison_rows

HEADS, WIDTH = 2, 8
CACHE_PER_TOKEN = 2 * HEADS * WIDTH * 4  # keys and values of one layer of onnx_zoo.tokens_model
QUICK = Options(iterations=4, until="iterations", threads=1, prompt_tokens=(4, 8), new_tokens=3)


def options(**changes: object) -> Options:
    return Options(**{**QUICK.__dict__, **changes})  # type: ignore[arg-type]


def tiny(path: Path, vocabulary: int = 500) -> Path:
    return onnx_zoo.tokens_model(path, vocabulary=vocabulary, heads=HEADS, width=WIDTH)


def stub(path: Path, fill: float) -> Path:
    """A language model whose logits are one constant, whatever it reads."""
    with GraphBuilder(path, Scheme(), "stub") as builder:
        ids = builder.input("input_ids", np.int64, [1, "sequence"])
        builder.input("attention_mask", np.int64, [1, "total_sequence"])
        x = builder.embedding(ids, "words", np.ones((50, WIDTH), np.float32))
        fresh = builder.op("Unsqueeze", x, builder.constant([1], np.int64))
        for kind in ("key", "value"):
            past = builder.input(
                f"past_key_values.0.{kind}", np.float32, [1, 1, "past_sequence", WIDTH]
            )
            present = f"present.0.{kind}"
            builder.output(present, np.float32, [1, 1, "total_sequence", WIDTH])
            builder.node("Concat", [past, fresh], outputs=[present], axis=2)
        builder.output("logits", np.float32, [1, 1, 50])
        logits = builder.constant(np.full((1, 1, 50), fill), np.float32)
        builder.node("Identity", [logits], outputs=["logits"])
        return builder.save()


def codes(run: Run) -> set[str]:
    return {note.code for note in run.notes}


def test_a_language_model_is_known_by_its_ports_and_by_its_mark(tmp_path: Path) -> None:
    found = resolve(str(tiny(tmp_path / "m.onnx")))
    assert (found.task, found.engine) == ("lm", "language-model")
    # A plain graph that says it is one; and half of a Whisper, which has the ports but says else.
    with GraphBuilder(tmp_path / "marked.onnx", Scheme(), "marked") as builder:
        builder.input("x", np.float32, [1])
        builder.output("y", np.float32, [1])
        builder.node("Identity", ["x"], outputs=["y"])
        builder.mark({"vozmetro.task": "language-model"})
        builder.save()
    assert resolve(str(tmp_path / "marked.onnx")).task == "lm"
    assert resolve(str(onnx_zoo.waveform_model(tmp_path / "wave.onnx"))).task == "graph"


def test_a_run_holds_prompts_tokens_and_cache(tmp_path: Path) -> None:
    run = api.bench(str(tiny(tmp_path / "m.onnx")), QUICK, out=tmp_path / "out")
    assert run == storage.load(tmp_path / "out")
    assert run.schema_version == SCHEMA_VERSION
    assert (run.subject.kind, run.subject.clock) == ("lm", "time-to-first-token")
    assert (run.subject.device, run.subject.options["provider"]) == ("cpu", "cpu")
    assert [(item.tokens, item.new_tokens) for item in run.items] == [(4, 3), (8, 3)]
    assert [item.inputs[0].shape for item in run.items] == [[1, 4], [1, 8]]
    for item in run.items:
        # The last token given is not read any more.
        assert item.cache_bytes == CACHE_PER_TOKEN * (item.tokens + item.new_tokens - 1)
        assert len(item.output.split()) == 3
    assert len(run.samples) == 8
    for sample in run.samples:
        assert sample.parts["first_token"] == sample.ms
        assert sample.parts["per_token"] > 0
        assert sample.probe_gbs is None
    session = run.sessions[0]
    # Tokens after the clock's end took time as well.
    assert session.wall_s > sum(sample.ms for sample in run.samples) / 1000
    assert not codes(run) & {"synthetic_audio", "constant_output", "nan_output", "length_fixed"}


def test_the_summary_is_that_of_the_samples(tmp_path: Path) -> None:
    run = api.bench(str(tiny(tmp_path / "m.onnx")), options(iterations=20))
    found = language_summary(run)
    assert found is not None
    assert [one.tokens for one in found.prompts] == [4, 8]
    for prompt in found.prompts:
        mine = [sample for sample in run.samples if sample.item == prompt.item]
        assert prompt.ttft.value == pytest.approx(np.median([sample.ms for sample in mine]))
        assert prompt.per_token is not None
        each = float(np.median([sample.parts["per_token"] for sample in mine]))
        assert prompt.per_token.value == pytest.approx(each)
        assert prompt.tokens_per_s == pytest.approx(1000 / each)
    assert found.cache_bytes_per_token == pytest.approx(CACHE_PER_TOKEN)
    assert summarize_run(run).rtf is None
    decision = judge(run)
    assert "notes.language_stage" in {note.code for note in decision.notes}
    told = summary_json(run, summarize_run(run), decision)
    assert told["language"]["cache_bytes_per_token"] == pytest.approx(CACHE_PER_TOKEN)
    # Of anything else there is no such summary.
    graph = run.model_copy(update={"subject": run.subject.model_copy(update={"kind": "graph"})})
    assert language_summary(graph) is None


def test_one_token_has_no_time_per_token(tmp_path: Path) -> None:
    run = api.bench(str(tiny(tmp_path / "m.onnx")), options(new_tokens=1, prompt_tokens=(4,)))
    assert all(set(sample.parts) == {"first_token"} for sample in run.samples)
    found = language_summary(run)
    assert found is not None
    assert found.tokens_per_s is None
    assert found.ms_per_prompt_token is None
    assert found.cache_bytes_per_token == pytest.approx(CACHE_PER_TOKEN)


@pytest.mark.parametrize(("fill", "code"), [(1.0, "constant_output"), (np.nan, "nan_output")])
def test_false_wins_are_noted(tmp_path: Path, fill: float, code: str) -> None:
    run = api.bench(str(stub(tmp_path / "m.onnx", fill)), QUICK)
    assert code in codes(run)
    assert judge(run).status != "pass"


def test_prompts_are_equal_for_equal_seeds_and_inside_the_vocabulary(tmp_path: Path) -> None:
    class Small:
        vocabulary = 7
        cache_bytes = 0

        def prefill(self, ids: np.ndarray) -> np.ndarray:
            return np.zeros(7, np.float32)

        def decode(self, token: int) -> np.ndarray:
            return np.zeros(7, np.float32)

    caller = LanguageModelCaller(Small())
    first, again, other = (
        caller.prepare(from_prompts([64], 2, seed)[0])[0][0] for seed in (0, 0, 1)
    )
    assert (first == again).all()
    assert (first != other).any()
    assert set(first) == set(range(7))


def test_a_probe_stands_beside_every_sample_of_a_large_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "MEMORY_BOUND_BYTES", 1)
    run = api.bench(str(tiny(tmp_path / "m.onnx")), QUICK)
    probes = [sample.probe_gbs for sample in run.samples]
    assert all(gbs is not None and 0.1 < gbs < 10_000 for gbs in probes)
    found = language_summary(run)
    assert found is not None
    assert found.probe_range == (min(probes), max(probes))  # type: ignore[type-var]
    # Its buffer is not the model's memory.
    assert run.sessions[0].peak_rss < 2 * run.sessions[0].memory["warm"].rss


_METER = """
import json
import subprocess
import sys
from vozmetro.measure.meter import Meter
meter = Meter()
seen = [meter.gbs(), meter.memory()]
meter.start(1)
print(json.dumps([*seen, meter.gbs(), meter.memory()]))
"""


def test_a_meter_leaves_its_buffer_out() -> None:
    # In a process of its own: what other tests leave behind comes and goes with the collector.
    done = subprocess.run([sys.executable, "-c", _METER], capture_output=True, check=True)
    none, before, speed, after = json.loads(done.stdout)
    assert none is None
    assert speed > 0
    grown = after["memory"]["rss"] - before["memory"]["rss"]
    assert abs(grown) < 32 << 20
    assert after["peak_rss"] - before["peak_rss"] < 32 << 20


def kill_worker(progress: Progress) -> None:
    if progress.phase == "measuring" and progress.rounds >= 1:
        for child in psutil.Process().children():
            child.kill()


def test_a_killed_run_is_resumed(tmp_path: Path) -> None:
    model = str(tiny(tmp_path / "m.onnx"))
    run = api.bench(model, options(iterations=400), out=tmp_path / "out", listen=kill_worker)
    assert run.status == "failed"
    resumed = api.resume(tmp_path / "out")
    assert isinstance(resumed, Run)
    assert resumed.status == "complete"
    assert len(resumed.samples) == 800
    assert resumed.samples[: len(run.samples)] == run.samples


def test_two_language_models_are_compared_in_pairs(tmp_path: Path) -> None:
    a, b = str(tiny(tmp_path / "a.onnx")), str(tiny(tmp_path / "b.onnx", vocabulary=90))
    comparison = api.compare(a, b, options(iterations=20), out=tmp_path / "out")
    assert comparison.pairs == 40
    assert comparison.record == storage.load(tmp_path / "out")
    assert comparison.record.unfair == []
    rows = {row.key: row for row in comparison_rows(comparison, "en")}
    assert float(rows["per_token"].a) > 0


def test_the_same_model_with_two_options_is_compared(tmp_path: Path) -> None:
    model = tiny(tmp_path / "m.onnx")
    record = api.compare(f"{model}@provider=cpu", str(model), QUICK).record
    assert [run.subject.name for run in (record.a, record.b)] == [
        f"{model}@provider=cpu",
        str(model),
    ]
    assert record.a.settings.subject == f"{model.resolve()}@provider=cpu"
    assert record.a.subject.files == record.b.subject.files


@pytest.mark.parametrize(
    ("words", "name", "found"),
    [
        ("m.onnx", "m.onnx", {}),
        ("m.onnx@context=1.0", "m.onnx", {"context": "1.0"}),
        ("a@b/m.onnx@context=1.0,beam_size=2", "a@b/m.onnx", {"context": "1.0", "beam_size": "2"}),
        ("m@2.onnx", "m@2.onnx", {}),
        ("m.onnx@", "m.onnx@", {}),
        ("m.onnx@=1", "m.onnx@=1", {}),
        ("m.onnx@session.x.y=1", "m.onnx", {"session.x.y": "1"}),
        ("m.onnx@context=", "m.onnx", {"context": ""}),
    ],
)
def test_options_behind_a_name(words: str, name: str, found: dict[str, str]) -> None:
    assert split_options(words) == (name, found)


def test_a_file_that_is_called_so_goes_before_options(tmp_path: Path) -> None:
    path = tiny(tmp_path / "m.onnx@a=1")
    assert split_options(str(path)) == (str(path), {})


def test_an_option_that_the_engine_does_not_have_is_refused(tmp_path: Path) -> None:
    model = tiny(tmp_path / "m.onnx")
    with pytest.raises(InputError) as caught:
        api.bench(f"{model}@context=1.0", QUICK)
    assert caught.value.code == "option_unknown"
    assert "provider" in str(caught.value)
    assert resolve_subject(f"{model}@session.x=1").models[0].options["session.x"] == "1"


def test_a_prompt_beyond_the_models_context_says_so(tmp_path: Path) -> None:
    model = tiny(tmp_path / "m.onnx")
    # The zoo's model has 4096 positions and does not say so.
    with pytest.raises(MeasurementError):
        api.bench(str(model), options(prompt_tokens=(5000,)))


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"prompt_tokens": (0,)}, "tokens_range"),
        ({"new_tokens": 10**9}, "tokens_range"),
        ({"corpus": "."}, "tokens_only"),
        ({"audio_seconds": (1.0,)}, "tokens_only"),
        ({"shapes": {"x": [1]}}, "tokens_only"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    tmp_path: Path, changes: dict[str, object], code: str
) -> None:
    with pytest.raises(InputError) as caught:
        api.bench(str(tiny(tmp_path / "m.onnx")), options(**changes))
    assert caught.value.code == code


def test_prompts_are_for_language_models_alone(tmp_path: Path) -> None:
    wave = str(onnx_zoo.waveform_model(tmp_path / "wave.onnx"))
    with pytest.raises(InputError) as caught:
        api.bench(wave, QUICK)
    assert caught.value.code == "prompts_only"
    with pytest.raises(InputError) as caught:
        api.compare(wave, str(tiny(tmp_path / "m.onnx")), QUICK)
    assert caught.value.code == "unfair_kind"
    # Not even with --unfair: there is nothing that both could read.
    with pytest.raises(InputError) as caught:
        api.compare(wave, str(tiny(tmp_path / "m.onnx")), QUICK, unfair=True)
    assert caught.value.code == "lm_alone"


def has_cuda() -> bool:
    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()


@pytest.mark.skipif(has_cuda(), reason="this ONNX Runtime has CUDA")
@pytest.mark.parametrize("make", [tiny, onnx_zoo.waveform_model])
def test_a_device_that_is_not_there_is_refused_with_the_fix(
    tmp_path: Path, make: Callable[[Path], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["bench", str(make(tmp_path / "m.onnx")), "--device", "cuda", "--lang", "es"]
    assert run_command(build("es"), words, "es") == 2
    said = capsys.readouterr().err
    assert "onnxruntime-gpu" in said
    assert "--device cpu" in said


def test_an_engine_without_devices_refuses_one() -> None:
    with pytest.raises(InputError) as caught:
        resolve_subject("whisper-base", device="cuda")
    assert caught.value.code == "device_engine"


def test_a_comparison_across_devices_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny(tmp_path / "m.onnx")
    known = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: known)
    with pytest.raises(InputError) as caught:
        api.compare(f"{model}@provider=cuda", f"{model}@provider=cpu", QUICK)
    assert caught.value.code == "unfair_device"
    assert "--unfair" in caught.value.message("es")
    assert resolve_subject(f"{model}@provider=cuda").device == "cuda"
    # One device for both is fair, whichever it is.
    with pytest.raises(InputError) as caught:
        resolve_subject(f"{model}@provider=tpu")
    assert caught.value.code == "provider_unknown"


@pytest.mark.skipif(has_cuda(), reason="this ONNX Runtime has CUDA")
def test_a_provider_that_is_listed_and_does_not_start_is_no_cpu_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vozmetro.engines.onnx_graph import open_session

    known = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: known)
    # ONNX Runtime warns, and would go on with the CPU.
    with (
        pytest.warns(UserWarning, match="CUDAExecutionProvider"),
        pytest.raises(InputError) as caught,
    ):
        open_session(tiny(tmp_path / "m.onnx"), 1, {"provider": "cuda"})
    assert caught.value.code == "cuda_unusable"


def test_the_command_prints_and_reports(tmp_path: Path) -> None:
    words = ["bench", str(tiny(tmp_path / "m.onnx")), "--prompt-tokens", "4,8"]
    words += ["--new-tokens", "3", "--iterations", "5", "--until", "iterations"]
    words += ["--out", str(tmp_path / "out"), "--no-gate"]
    done = CliRunner().invoke(build("es"), words, standalone_mode=False)
    assert done.exception is None
    assert done.return_value == 0
    for said in ("TTFT (ms)", "tokens/s", "128 B por token", "etapa de lenguaje"):
        assert said in done.output
    report = (tmp_path / "out" / "report.md").read_text()
    for said in ("Prompts, tokens y caché", "128 B por token", "la entrada y la salida de voz"):
        assert said in report
    saved = json.loads((tmp_path / "out" / "run.json").read_text())
    assert saved["schema_version"] == SCHEMA_VERSION


@pytest.mark.parametrize("given", ["16,x", "1.5", ",", "16,,32"])
def test_a_list_of_tokens_must_be_one(tmp_path: Path, given: str) -> None:
    words = ["bench", str(tiny(tmp_path / "m.onnx")), "--prompt-tokens", given]
    done = CliRunner().invoke(build("en"), words, standalone_mode=False)
    assert isinstance(done.exception, InputError)
    assert done.exception.code == "bad_integer_list"
