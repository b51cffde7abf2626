"""The measuring loop on tiny graphs: what is recorded, its order, and what survives a crash."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import onnx_zoo
import psutil
import pytest

from vozmetro import api
from vozmetro.errors import InputError, MeasurementError, ModelError
from vozmetro.judge.budget import Budget
from vozmetro.judge.decision import judge
from vozmetro.measure import environment
from vozmetro.measure.records import ComparisonRecord, Run
from vozmetro.measure.schedule import Progress
from vozmetro.measure.storage import load
from vozmetro.planning import Options

QUICK = Options(iterations=3, until="iterations", audio_seconds=(0.5, 1.0), threads=1)


def codes(run: Run) -> set[str]:
    return {note.code for note in run.notes}


def options(**changes: object) -> Options:
    return Options(**{**QUICK.__dict__, **changes})  # type: ignore[arg-type]


def test_a_run_holds_every_round_of_every_length(tmp_path: Path) -> None:
    model = onnx_zoo.waveform_model(tmp_path / "m.onnx")
    run = api.bench(str(model), QUICK, out=tmp_path / "out")
    assert run.status == "complete"
    assert run == load(tmp_path / "out")
    for number in range(3):
        assert sorted(s.item for s in run.samples if s.round == number) == ["0.5 s", "1 s"]
    assert [item.inputs[0].shape for item in run.items] == [[1, 8000], [1, 16_000]]
    assert all(later.at_s > one.at_s for one, later in itertools.pairwise(run.samples))
    session = run.sessions[0]
    assert len(session.idle_ms) == 3
    assert len(session.warmup_ms) >= len(run.items)
    assert set(session.memory) == {"start", "loaded", "warm", "end"}
    assert session.peak_rss >= session.memory["start"].rss > 10_000_000
    assert run.subject.files[0].bytes == model.stat().st_size
    assert run.environment.noise is not None
    assert run.environment.noise.resolvable > 0
    assert "synthetic_audio" in codes(run)


def test_the_order_of_items_is_shuffled_and_seeded(tmp_path: Path) -> None:
    model = str(onnx_zoo.waveform_model(tmp_path / "m.onnx"))
    how = options(iterations=8, audio_seconds=(0.1, 0.2, 0.3, 0.4))
    runs = [api.bench(model, how) for _ in range(2)]
    orders = [[sample.item for sample in run.samples] for run in runs]
    assert orders[0] == orders[1]
    rounds = {tuple(orders[0][i : i + 4]) for i in range(0, 32, 4)}
    assert len(rounds) > 1


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (onnx_zoo.constant_model, "constant_output"),
        (onnx_zoo.nan_model, "nan_output"),
        (onnx_zoo.mel_static_model, "length_fixed"),
    ],
)
def test_false_wins_are_noted(tmp_path: Path, make: Callable[[Path], Path], code: str) -> None:
    run = api.bench(str(make(tmp_path / "m.onnx")), QUICK)
    assert code in codes(run)


def test_an_honest_graph_gets_none_of_these_notes(tmp_path: Path) -> None:
    run = api.bench(str(onnx_zoo.waveform_model(tmp_path / "m.onnx")), QUICK)
    assert not codes(run) & {"constant_output", "nan_output", "length_fixed", "guessed_input"}


def test_a_claim_is_contradicted(tmp_path: Path) -> None:
    model = onnx_zoo.waveform_model(tmp_path / "m.onnx")
    run = api.bench(str(model), options(claimed_parameters=30e9))
    note = next(note for note in run.notes if note.code.startswith("claim"))
    assert "30" in " ".join(note.fields.values())


def test_until_decided_goes_past_the_iterations_only_while_needed(tmp_path: Path) -> None:
    model = str(onnx_zoo.waveform_model(tmp_path / "m.onnx"))
    how = {"until": "decided", "iterations": 1, "audio_seconds": (0.5,)}
    easy = api.bench(model, options(**how))
    # All of them far below 240 ms: decided at the first look, at 100 samples or a block later.
    assert 100 <= len(easy.samples) < 115
    assert "max_time_reached" not in codes(easy)
    # A limit at the median itself: either it gets decided, or the time ends it, and it says so.
    p50 = sorted(easy.latencies_ms())[len(easy.samples) // 2]
    near = Budget(p50_ms=p50, slow_ms=500)
    hard = api.bench(model, options(**how, max_time_s=3.0, budget=near))
    assert (judge(hard, near).status == "undecided") == ("max_time_reached" in codes(hard))


def test_max_time_ends_the_loop_and_says_so(tmp_path: Path) -> None:
    model = str(onnx_zoo.waveform_model(tmp_path / "m.onnx"))
    run = api.bench(model, options(iterations=1_000_000, max_time_s=0.3))
    assert run.status == "complete"
    assert "max_time_reached" in codes(run)
    assert 0 < len(run.samples) < 2_000_000


def test_comparison_is_abba_with_aligned_pairs(tmp_path: Path) -> None:
    a = str(onnx_zoo.waveform_model(tmp_path / "a.onnx"))
    b = str(onnx_zoo.waveform_model(tmp_path / "b.onnx", channels=8))
    seen: list[str] = []

    def listen(progress: Progress) -> None:
        if progress.phase == "measuring":
            seen.append(Path(progress.subject).stem)

    how = options(iterations=40, audio_seconds=(0.5, 1.0, 2.0))
    comparison = api.compare(a, b, how, out=tmp_path / "out", listen=listen)
    assert len(seen) >= 4
    assert seen[:4] == ["a", "b", "b", "a"]
    record = comparison.record
    assert record == load(tmp_path / "out")
    assert record.mode == "interleaved"
    pairs = [[(s.item, s.round) for s in run.samples] for run in (record.a, record.b)]
    assert pairs[0] == pairs[1]
    assert comparison.pairs == 120
    # Two processes, alive together, each opened once.
    assert len(record.a.sessions) == len(record.b.sessions) == 1


def test_subjects_that_do_not_fit_together_take_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = str(onnx_zoo.waveform_model(tmp_path / "a.onnx"))
    b = str(onnx_zoo.waveform_model(tmp_path / "b.onnx"))
    monkeypatch.setattr(api, "fit_together", lambda _: False)
    record = api.compare(a, b, options(iterations=4)).record
    assert record.mode == "alternating"
    assert len(record.a.sessions) == len(record.b.sessions) >= 2
    assert {s.session for s in record.a.samples} == set(range(len(record.a.sessions)))


def test_unfair_comparisons_are_refused_unless_asked_for(tmp_path: Path) -> None:
    wave = str(onnx_zoo.waveform_model(tmp_path / "a.onnx"))
    half = str(onnx_zoo.fp16_model(tmp_path / "b.onnx"))
    with pytest.raises(InputError) as caught:
        api.compare(wave, half, QUICK)
    assert caught.value.code == "unfair_inputs"
    assert "--unfair" in caught.value.message("es")
    comparison = api.compare(wave, half, QUICK, unfair=True)
    assert [note.code for note in comparison.record.unfair] == ["unfair_inputs"]


def test_a_model_that_does_not_fit_is_refused_with_the_arithmetic(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "available_ram", lambda: 1_000_000)
    with pytest.raises(ModelError) as caught:
        api.bench(str(onnx_zoo.waveform_model(tmp_path / "m.onnx")), QUICK)
    assert caught.value.code == "does_not_fit"
    assert "1.0 MB" in str(caught.value)


def test_a_model_that_raises_from_the_start_is_an_error(tmp_path: Path) -> None:
    model = onnx_zoo.raises_model(tmp_path / "m.onnx", limit=4_000)
    with pytest.raises(MeasurementError) as caught:
        api.bench(str(model), QUICK, out=tmp_path / "out")
    assert caught.value.code == "model_failed"
    assert not (tmp_path / "out" / "run.json").exists()


def kill_worker_at(rounds: int) -> Callable[[Progress], None]:
    """A listener that kills the worker (kill -9) once that many rounds are done."""

    def listen(progress: Progress) -> None:
        if progress.phase == "measuring" and progress.rounds >= rounds:
            for child in psutil.Process().children():
                child.kill()

    return listen


def test_killing_the_worker_loses_at_most_a_block_and_resume_completes(tmp_path: Path) -> None:
    model = str(onnx_zoo.waveform_model(tmp_path / "m.onnx"))
    how = options(iterations=500)
    run = api.bench(model, how, out=tmp_path / "out", listen=kill_worker_at(1))
    assert run.status == "failed"
    assert run.failure is not None
    assert run.failure.code == "worker_killed"
    assert load(tmp_path / "out") == run
    done = len(run.samples) // 2
    assert done >= 1
    resumed = api.resume(tmp_path / "out")
    assert isinstance(resumed, Run)
    assert resumed.status == "complete"
    assert resumed.failure is None
    assert len(resumed.samples) == 1000
    assert resumed.samples[: len(run.samples)] == run.samples
    assert len(resumed.sessions) == 2
    assert "resumed" in codes(resumed)
    assert resumed.samples[done * 2].at_s > run.samples[-1].at_s


def test_killing_a_worker_of_a_comparison_keeps_whole_pairs(tmp_path: Path) -> None:
    a = str(onnx_zoo.waveform_model(tmp_path / "a.onnx"))
    b = str(onnx_zoo.waveform_model(tmp_path / "b.onnx"))
    how = options(iterations=500)
    record = api.compare(a, b, how, out=tmp_path / "out", listen=kill_worker_at(1)).record
    assert record.a.status == record.b.status == "failed"
    assert len(record.a.samples) == len(record.b.samples) > 0
    resumed = api.resume(tmp_path / "out")
    assert not isinstance(resumed, Run)
    assert resumed.record.a.status == "complete"
    assert resumed.pairs == 1000


def test_warnings_survive_a_resume(tmp_path: Path) -> None:
    model = str(onnx_zoo.nan_model(tmp_path / "m.onnx"))
    run = api.bench(model, options(iterations=30), out=tmp_path / "o", listen=kill_worker_at(1))
    assert run.status == "failed"
    assert "nan_output" in codes(run)
    resumed = api.resume(tmp_path / "o")
    assert isinstance(resumed, Run)
    assert "nan_output" in codes(resumed)


def test_resume_refuses_another_model(tmp_path: Path) -> None:
    model = onnx_zoo.waveform_model(tmp_path / "m.onnx")
    api.bench(str(model), options(iterations=5), out=tmp_path / "out")
    onnx_zoo.waveform_model(model, channels=5)
    with pytest.raises(InputError) as caught:
        api.resume(tmp_path / "out")
    assert caught.value.code == "resume_changed"
    assert "model" in str(caught.value)


def start_bench(model: Path, out: Path) -> subprocess.Popen[str]:
    words = ["bench", str(model), "--iterations", "1000000", "--out", str(out), "--lang", "es"]
    return subprocess.Popen(
        [sys.executable, "-m", "vozmetro", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A suite run in the background ignores Ctrl-C, and what it starts would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    )


def wait_for_rounds(process: subprocess.Popen[str], path: Path) -> ComparisonRecord | Run:
    """Returns the first saved state with at least two blocks; the file is whole at any time."""
    while process.poll() is None:
        if path.exists():
            record = load(path)
            assert isinstance(record, Run)
            if record.samples and record.samples[-1].block >= 1:
                return record
    raise AssertionError(process.communicate())


@pytest.mark.slow
def test_killing_the_parent_leaves_a_run_that_resume_completes(tmp_path: Path) -> None:
    model = onnx_zoo.waveform_model(tmp_path / "m.onnx")
    process = start_bench(model, tmp_path / "out")
    seen = wait_for_rounds(process, tmp_path / "out" / "run.json")
    workers = psutil.Process(process.pid).children()
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    # The orphan finds its input closed and ends by itself.
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert not alive
    left = load(tmp_path / "out")
    assert isinstance(left, Run)
    assert left.status == "running"
    assert isinstance(seen, Run)
    assert left.samples[: len(seen.samples)] == seen.samples
    # The same run with an end in reach.
    done = len(left.samples) // len(left.items)
    settings = left.settings.model_copy(update={"iterations": done + 10, "until": "iterations"})
    (tmp_path / "out" / "run.json").write_text(
        left.model_copy(update={"settings": settings}).model_dump_json()
    )
    resumed = api.resume(tmp_path / "out")
    assert isinstance(resumed, Run)
    assert resumed.status == "complete"
    assert len(resumed.samples) >= (done + 10) * len(left.items)


@pytest.mark.slow
def test_ctrl_c_saves_and_says_how_to_resume(tmp_path: Path) -> None:
    process = start_bench(onnx_zoo.waveform_model(tmp_path / "m.onnx"), tmp_path / "out")
    wait_for_rounds(process, tmp_path / "out" / "run.json")
    os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to the worker as well
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "--resume" in said
    assert str(tmp_path / "out") in said
    run = load(tmp_path / "out")
    assert isinstance(run, Run)
    assert run.status == "interrupted"
    assert run.samples
    assert (tmp_path / "out" / "report.md").exists()
