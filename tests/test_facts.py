"""What the worker and the notes state as facts, each on inputs where the answer is known."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx_zoo
import pytest

from vozmetro.errors import MeasurementError
from vozmetro.measure import cgroup, environment
from vozmetro.measure.callers import CascadeCaller, GraphCaller, SynthesizerCaller
from vozmetro.measure.live import LiveSubject
from vozmetro.measure.outputs import input_notes, output_notes
from vozmetro.measure.process import WorkerProcess
from vozmetro.measure.records import Item, ResolvedInput
from vozmetro.measure.subject import Target, resolve_subject, vocabulary_bounds
from vozmetro.measure.worker import _flat
from vozmetro.measure.workload import from_lengths


@pytest.mark.parametrize(
    ("times", "flat"),
    [
        ([100.0], False),
        ([100.0, 100.0, 100.0], False),  # too few to tell
        ([100.0, 101.0, 99.0, 100.0], True),
        ([400.0, 200.0, 100.0, 90.0], False),
        ([900.0, 100.0, 101.0, 99.0, 100.0, 100.0, 99.0, 101.0, 100.0], True),
        ([200.0, 190.0, 180.0, 170.0, 160.0, 150.0, 140.0, 130.0], False),
        # A single slow repeat among the first ones does not hide that it is flat.
        ([100.0, 300.0, 100.0, 100.0, 100.0, 100.0, 100.0, 100.0], True),
    ],
)
def test_warm_up_is_flat_when_times_stopped_falling(times: list[float], flat: bool) -> None:
    assert _flat(times) is flat


def target(kind: str, *languages: tuple[str, ...]) -> Target:
    models = tuple(type("Model", (), {"languages": one})() for one in languages or ((),))
    return Target("x", kind, models)  # type: ignore[arg-type]


def item(name: str, seconds: float = 1.0, **fields: Any) -> Item:
    return Item(id=name, seconds=seconds, **{"source": "corpus", **fields})


def noted(notes: list[Any]) -> dict[str, dict[str, str]]:
    return {note.code: note.fields for note in notes}


def test_output_notes() -> None:
    items = [item("a", output="one"), item("b", output="")]
    fine = {"a": "1", "b": "2"}
    assert noted(output_notes(target("graph"), items, fine, [], False)) == {}
    assert noted(output_notes(target("stt"), items, fine, [], False)) == {
        "empty_output": {"items": "b"}
    }
    assert noted(output_notes(target("graph"), items, fine, ["a"], False)) == {
        "nan_output": {"items": "a"}
    }
    assert "silent_output" in noted(output_notes(target("tts"), items, fine, ["a"], False))
    # Two items with one answer, or one item that answers silence alike: a stub.
    same = {"a": "1", "b": "1"}
    assert "constant_output" in noted(output_notes(target("graph"), items, same, [], False))
    assert "constant_output" in noted(output_notes(target("graph"), items, {"a": "1"}, [], True))
    assert noted(output_notes(target("graph"), items, {"a": "1"}, [], False)) == {}


def test_input_notes() -> None:
    def shaped(name: str, seconds: float, frames: int, rule: str = "log-mel") -> Item:
        one = ResolvedInput(name="mel", dtype="float32", shape=[1, 80, frames], rule=rule)
        return item(name, seconds, inputs=[one])

    growing = [shaped("a", 1, 100), shaped("b", 2, 200)]
    fixed = [shaped("a", 1, 3000), shaped("b", 2, 3000)]
    guessed = [shaped("a", 1, 1, "guess")]
    assert noted(input_notes(target("graph"), growing)) == {}
    assert noted(input_notes(target("graph"), fixed)) == {
        "length_fixed": {"input": "mel", "shape": "1x80x3000"}
    }
    assert "guessed_input" in noted(input_notes(target("graph"), guessed))
    assert "synthetic_audio" in noted(input_notes(target("stt"), [item("a", source="synthetic")]))
    spoken = [item("a", language="es"), item("b", language="en")]
    assert noted(input_notes(target("cascade", (), ("en",)), spoken)) == {
        "voice_language": {"voice": "en", "spoken": "es"}
    }
    assert noted(input_notes(target("cascade", (), ("en",)), spoken[1:])) == {}


class Voice:
    sample_rate = 8000

    def __init__(self, *chunks: list[float]) -> None:
        self._chunks = [np.array(chunk, dtype=np.float32) for chunk in chunks]

    def stream(self, text: str) -> Iterator[Any]:
        yield from self._chunks


class Ear:
    def __init__(self, text: str) -> None:
        self._text = text

    def transcribe(self, audio: Any, language: str) -> str:
        return self._text


@pytest.mark.parametrize(
    ("voice", "sane"),
    [
        (Voice([0.1, -0.1]), True),
        (Voice([], [0.1]), True),
        (Voice(), False),
        (Voice([]), False),
        (Voice([0.0, 0.0]), False),
        (Voice([0.1], [float("nan")]), False),
    ],
)
def test_a_voice_that_cannot_be_heard_is_not_sane(voice: Voice, sane: bool) -> None:
    caller = SynthesizerCaller(voice)
    output = caller.call("hola", 0).output
    assert caller.sane(output) is sane
    assert caller.look(output).finite is sane


@pytest.mark.parametrize(
    ("text", "voice", "sane"),
    [
        ("hola", Voice([0.1]), True),
        ("hola", Voice(), False),
        ("hola", Voice([float("inf")]), False),
        ("", Voice([0.1]), True),  # noted as empty_output
    ],
)
def test_a_cascade_without_audio_is_not_sane(text: str, voice: Voice, sane: bool) -> None:
    caller = CascadeCaller(Ear(text), voice)
    outcome = caller.call((None, "es"), 0)
    assert caller.sane(outcome.output) is sane
    assert caller.look(outcome.output).text == text


def test_a_nan_in_one_run_of_many_is_seen() -> None:
    caller = GraphCaller(None, {}, {})  # type: ignore[arg-type]
    good = [np.ones((3, 5), np.float32), np.arange(4)]
    assert caller.sane(good)
    assert not caller.sane([*good, np.array([1.0, np.nan])])
    assert caller.look(good).digest != caller.look([good[0] * 2, good[1]]).digest


def test_graph_outputs_that_are_no_tensors_are_left_alone(tmp_path: Path) -> None:
    from onnx import TensorProto, helper, save

    ports = helper.make_tensor_value_info("audio", TensorProto.FLOAT, [1, "samples"])
    sequence = helper.make_tensor_sequence_value_info("all", TensorProto.FLOAT, None)
    node = helper.make_node("SequenceConstruct", ["audio", "audio"], ["all"])
    graph = helper.make_graph([node], "g", [ports], [sequence])
    opsets = [helper.make_opsetid("", 17)]
    save(helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "m.onnx")
    from vozmetro import Options, bench

    run = bench(
        str(tmp_path / "m.onnx"),
        Options(iterations=1, until="iterations", audio_seconds=[0.1], threads=1),
    )
    assert run.status == "complete"


def test_a_damaged_node_does_not_break_the_search_for_vocabularies(tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    port = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Cast", [], ["y"])], "g", [port], [port])
    path = tmp_path / "m.onnx"
    path.write_bytes(helper.make_model(graph).SerializeToString())
    assert vocabulary_bounds(path) == {}


def fake_cgroup(root: Path, monkeypatch: pytest.MonkeyPatch, own: str, **files: str) -> None:
    monkeypatch.setattr(cgroup, "ROOT", root)
    listing = root / "self"
    listing.write_text(own)
    monkeypatch.setattr(cgroup, "_SELF", listing)
    for name, content in files.items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def test_cgroup_limits_are_the_least_of_the_hierarchy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_cgroup(
        tmp_path,
        monkeypatch,
        "0::/pod/box\n",
        pod__cpu_dot_max="150000 100000\n",
        pod__box__cpu_dot_max="max 100000\n",
        pod__memory_dot_max="4000000000\n",
        pod__memory_dot_current="3500000000\n",
        pod__memory_dot_stat="anon 200000000\ninactive_file 3300000000\n",
        pod__box__memory_dot_max="max\n",
    )
    assert cgroup.cpu_quota() == 1.5
    assert cgroup.ram_limit() == 4_000_000_000
    # 3.3 GB of what is used are cached file pages, which the kernel gives back.
    assert cgroup.ram_left() == 3_800_000_000
    assert environment.cores_allowed() == 1
    assert environment.available_ram() <= 3_800_000_000


def test_cgroup_v1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_cgroup(
        tmp_path,
        monkeypatch,
        "5:cpu,cpuacct:/docker/abc\n3:memory:/docker/abc\n",
        cpu__cpu_dot_cfs_quota_us="50000\n",
        cpu__cpu_dot_cfs_period_us="100000\n",
        memory__memory_dot_limit_in_bytes="9223372036854771712\n",
    )
    assert cgroup.cpu_quota() == 0.5
    assert cgroup.ram_limit() is None
    assert environment.cores_allowed() == 1


def test_no_cgroup_no_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_cgroup(tmp_path, monkeypatch, "")
    assert (cgroup.cpu_quota(), cgroup.ram_limit(), cgroup.ram_left()) == (None, None, None)


def test_a_worker_that_dies_says_how() -> None:
    for sent, code in ((signal.SIGKILL, "worker_killed"), (signal.SIGTERM, "worker_died")):
        with WorkerProcess() as worker:
            worker.ask("memory")
            worker._process.send_signal(sent)
            with pytest.raises(MeasurementError) as caught:
                worker.ask("memory")
            assert caught.value.code == code


def test_half_an_answer_is_a_death_not_a_riddle(monkeypatch: pytest.MonkeyPatch) -> None:
    with WorkerProcess() as worker:
        worker.ask("memory")
        assert worker._process.stdout is not None
        monkeypatch.setattr(worker._process.stdout, "readline", lambda: '{"samples": [')
        worker._process.kill()
        with pytest.raises(MeasurementError) as caught:
            worker.ask("memory")
        assert caught.value.code == "worker_killed"


def test_a_worker_that_hangs_is_ended() -> None:
    with WorkerProcess() as worker:
        worker.ask("memory")
        with pytest.raises(MeasurementError) as caught:
            # Importing an engine takes far longer than a thousandth of a second.
            worker.ask("import", limit_s=0.001, engines=["faster-whisper"])
        assert caught.value.code == "worker_timeout"
        assert worker._process.wait() != 0


def test_turns_of_a_fast_model_begin_with_an_untimed_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from run_factory import make_run

    path = onnx_zoo.waveform_model(tmp_path / "m.onnx")
    asked: list[dict[str, Any]] = []
    real = WorkerProcess.ask

    def ask(self: WorkerProcess, op: str, limit_s: float | None = None, **fields: Any) -> Any:
        asked.append({"op": op, **fields})
        return real(self, op, limit_s, **fields)

    monkeypatch.setattr(WorkerProcess, "ask", ask)
    run = make_run()
    settings = run.settings.model_copy(update={"threads": 1, "shapes": {}})
    empty = run.model_copy(update={"samples": [], "sessions": [], "settings": settings})
    for shared in (True, False):
        live = LiveSubject(
            resolve_subject(str(path)), from_lengths([0.5], [], 0), empty, shared=shared
        )
        live.open()
        live.keep(live.block(0, [0, 0, 0]))
        live.close()
        assert live.sample_count == 3
    blocks = [one for one in asked if one["op"] == "block"]
    assert [one["settle"] for one in blocks] == [1, 0]
