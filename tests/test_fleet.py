"""A plan, its parts, its parcels and its results, on this machine alone."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_zoo
import pytest
import soundfile
from history_helpers import main, run_at
from hypothesis import given
from hypothesis import strategies as st

from vozmetro.errors import InputError
from vozmetro.fleet import parcels, run
from vozmetro.fleet.executor import Listener, Local, Told
from vozmetro.fleet.plan import MachineClass, Plan, load
from vozmetro.fleet.tasks import Failed, Results, tasks
from vozmetro.fleet.verdict import judged
from vozmetro.fleet.work import Order
from vozmetro.judge.decision import judge
from vozmetro.judge.fleet import Placed, fleet_verdict
from vozmetro.measure.storage import load as load_record

PLAN = """
name = "Kitchen"
subjects = ["a.onnx", "b.onnx"]
audio_seconds = [0.5]
iterations = 2
until = "iterations"
{more}
[classes.i7]
labels = {{ machine = "i7" }}
price = 600
[classes.n100]
nodes = 2
price = 180
"""


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VOZMETRO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "80")
    for name, channels in (("a", 4), ("b", 8)):
        onnx_zoo.waveform_model(tmp_path / f"{name}.onnx", channels=channels)
    path = tmp_path / "plan.toml"
    path.write_text(PLAN.format(more=""))
    return path


# The plan


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("subjects", "subject"), "subjects: Field required"),
        (('"b.onnx"', '"a.onnx"'), "subjects: each once"),
        (("[classes.n100]", '[classes."../x"]'), "classes.'../x'"),
        (("nodes = 2", "nodes = 0"), "classes.n100.nodes"),
        (("price = 180", "price = nan"), "classes.n100.price"),
        (("iterations = 2", "iterations = true"), "iterations"),
        (("[classes.i7]", "[budget]\np50 = 3\n[classes.i7]"), "p50"),
        (("iterations = 2", "iterations = 0"), "0"),
        (("name =", "= name"), "line 2"),
    ],
)
def test_what_is_wrong_with_a_plan_is_named(plan: Path, change: tuple[str, str], told: str) -> None:
    plan.write_text(plan.read_text().replace(*change))
    with pytest.raises(InputError) as caught:
        load(plan)
    assert told in caught.value.message("en")


def test_a_plan_is_known_by_what_it_asks_for(plan: Path) -> None:
    one = load(plan)
    assert one.digest == one.model_copy(update={"name": "Other"}).digest
    cheaper = {**one.classes, "i7": one.classes["i7"].model_copy(update={"price": 1.0})}
    assert one.digest == one.model_copy(update={"classes": cheaper}).digest
    assert one.digest != one.model_copy(update={"iterations": 3}).digest


@given(st.lists(st.text(min_size=1, max_size=80), min_size=1, max_size=8, unique=True))
def test_each_task_has_a_folder_of_its_own(subjects: list[str]) -> None:
    plan = Plan(
        name="x", subjects=tuple(subjects), quality="es-ivr",
        classes={"a": MachineClass(nodes=2), "b": MachineClass()},
    )  # fmt: skip
    every = tasks(plan)
    assert len(every) == len(set(every)) == 3 * 2 * len(subjects)
    folders = {(task.folder, task.stage) for task in every}
    assert len(folders) == len(every)
    for task in every:
        parts = Path(task.folder).parts
        assert len(parts) == 3
        assert not {"..", "/", "."} & set(parts)


# Parcels


def test_words_are_packed_and_come_out_the_same_elsewhere(plan: Path, tmp_path: Path) -> None:
    packed = parcels.pack_subject("a.onnx@x=1")
    [parcel] = parcels.parcels(packed)
    assert packed == (parcel, "@x=1")
    assert not parcels.has(parcel)
    left = tmp_path / "cache" / "fleet" / f".arriving-{platform.node()}-999999999-x"
    left.mkdir(parents=True)
    arrival = parcels.Arrival()
    arrival.begin(parcel)
    assert not left.exists()
    for name, offset, length in parcels.pieces(parcel):
        arrival.take(name, offset, parcels.piece(parcel, name, offset, length))
    arrival.end()
    arrival.leave()
    assert parcels.has(parcel)
    arrived = parcels.unpacked(packed)
    assert arrived.endswith("a.onnx@x=1")
    assert Path(arrived.removesuffix("@x=1")).read_bytes() == (tmp_path / "a.onnx").read_bytes()
    assert parcels.pack_subject("whisper-base+piper-joe") == ("whisper-base", "+", "piper-joe")
    assert list((tmp_path / "cache" / "fleet").glob(".arriving-*")) == []


@pytest.mark.parametrize("spelt", ["speech", "./speech", "speech/", "{cwd}/speech", "dir:speech/"])
def test_a_folder_is_packed_however_it_is_spelt(plan: Path, tmp_path: Path, spelt: str) -> None:
    del plan
    (tmp_path / "speech").mkdir()
    (tmp_path / "speech" / "a.txt").write_text("one")
    (tmp_path / "secret").write_text("x")
    (tmp_path / "speech" / "link").symlink_to(tmp_path / "secret")
    packed = parcels.pack_corpus(spelt.format(cwd=tmp_path))
    [parcel] = parcels.parcels(packed)
    assert packed[:-1] == (("dir:",) if spelt.startswith("dir:") else ())
    assert parcel.root == str(tmp_path / "speech")
    # What a link shows of the rest of the machine does not travel.
    assert [name for name, _, _ in parcel.files] == ["a.txt"]


def test_a_list_travels_with_what_it_names_alone(plan: Path, tmp_path: Path) -> None:
    del plan
    (tmp_path / "more").mkdir()
    soundfile.write(tmp_path / "more" / "a.wav", np.zeros(8000), 16_000)
    listed = tmp_path / "cases.jsonl"
    listed.write_text(json.dumps({"audio": "more/a.wav", "text": "one"}))
    [parcel] = parcels.parcels(parcels.pack_corpus("cases.jsonl"))
    assert [name for name, _, _ in parcel.files] == ["cases.jsonl", "more/a.wav"]
    soundfile.write(tmp_path.parent / "outside.wav", np.zeros(8000), 16_000)
    listed.write_text(json.dumps({"audio": "../outside.wav", "text": "one"}))
    with pytest.raises(InputError) as caught:
        parcels.pack_corpus("cases.jsonl")
    assert caught.value.code == "fleet_outside"


def test_a_folder_of_speech_is_a_parcel_and_names_stay(tmp_path: Path) -> None:
    speech = tmp_path / "speech" / "es"
    speech.mkdir(parents=True)
    (speech / "a.txt").write_text("hola")
    (speech / "empty.txt").write_text("")
    packed = parcels.pack_corpus(f"es-ivr,dir:{tmp_path / 'speech'}")
    assert packed[:3] == ("es-ivr", ",", "dir:")
    [parcel] = parcels.parcels(packed)
    assert [name for name, _, _ in parcel.files] == ["es/a.txt", "es/empty.txt"]
    arrival = parcels.Arrival()
    arrival.begin(parcel)
    arrival.take("es/a.txt", 0, b"hola")
    arrival.end()
    assert parcels.has(parcel)


@pytest.mark.parametrize("name", ["../a", "/etc/x", "a/../../b", "a\\b", "a\0b", ""])
def test_a_parcel_stays_in_its_folder(name: str, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VOZMETRO_CACHE", str(tmp_path))
    with pytest.raises(InputError, match="did not arrive as announced"):
        parcels.Arrival().begin(parcels.Parcel(((name, 1, "0"),), ".", "/"))


def test_bytes_that_were_not_announced_are_refused(plan: Path) -> None:
    [parcel] = parcels.parcels(parcels.pack_subject("a.onnx"))
    arrival = parcels.Arrival()
    arrival.begin(parcel)
    size = parcel.files[0][1]
    for name, offset, data in (("b.onnx", 0, b"x"), ("a.onnx", size, b"x")):
        with pytest.raises(InputError, match="did not arrive"):
            arrival.take(name, offset, data)
    arrival.take("a.onnx", 0, bytes(size))
    with pytest.raises(InputError, match="did not arrive"):
        arrival.end()
    assert not parcels.has(parcel)


# Results


def test_a_result_is_kept_once_and_what_failed_is_tried_again(tmp_path: Path) -> None:
    plan = Plan(name="x", subjects=("a",), classes={"k": MachineClass()})
    results = Results(tmp_path / "out", plan)
    results.claim({"vozmetro": "1"})
    [task] = results.missing()
    assert results.keep(task, Failed(code="fleet_lost", fields={"tries": "3", "detail": "x"}))
    assert results.missing() == [task]
    first, second = run_at(1), run_at(2)
    assert results.keep(task, first)
    assert results.missing() == []
    assert not results.keep(task, second)
    assert not results.keep(task, Failed(code="fleet_lost"))
    assert results.outcome(task) == first
    assert [path.name for path in (tmp_path / "out" / task.folder).iterdir()] == ["run.json"]
    # The same plan goes on there; another does not, nor does it take a stranger's folder.
    same = Results(tmp_path / "out", plan.model_copy(update={"name": "y"}))
    same.claim({"vozmetro": "1"})
    other = plan.model_copy(update={"seed": 1})
    for folder, asked, release, code in (
        ("out", other, "1", "fleet_other_plan"), ("out", plan, "2", "fleet_changed"),
        ("", other, "1", "out_taken"),
    ):  # fmt: skip
        with pytest.raises(InputError) as caught:
            Results(tmp_path / folder, asked).claim({"vozmetro": release})
        assert caught.value.code == code


def test_what_broke_off_is_tried_again_and_tells_nothing(tmp_path: Path) -> None:
    plan = Plan(name="x", subjects=("a",), classes={"k": MachineClass()})
    results = Results(tmp_path / "out", plan)
    results.claim({})
    [task] = results.missing()
    broken = run_at(1).model_copy(update={"status": "failed"})
    assert results.keep(task, broken)
    assert results.missing() == [task]
    # Why it could not even be begun says less than what there is.
    assert not results.keep(task, Failed(code="fleet_lost"))
    assert results.keep(task, run_at(2))
    assert results.missing() == []
    (tmp_path / "out" / task.folder / "run.json").unlink()
    (tmp_path / "out" / task.folder / "bench-failed.json").write_text('{"code": ["x"]}')
    with pytest.raises(InputError, match="bench-failed"):
        results.missing()


def test_a_place_remembers_its_machine(tmp_path: Path) -> None:
    plan = Plan(name="x", subjects=("a",), classes={"k": MachineClass(nodes=2)})
    results = Results(tmp_path, plan)
    assert results.machine(("k", 1)) is None
    results.remember(("k", 1), "b 10.0.0.2")
    results.remember(("k", 2), "c 10.0.0.3")
    again = Results(tmp_path, plan)
    assert [again.machine(("k", number)) for number in (1, 2)] == ["b 10.0.0.2", "c 10.0.0.3"]


def test_a_fleet_goes_on_where_it_stopped(plan: Path, tmp_path: Path) -> None:
    class Stopped(Local):
        def run(self, orders: Sequence[Order], results: Results, listen: Listener) -> None:
            super().run(orders[:1], results, listen)
            raise KeyboardInterrupt

    told: list[Told] = []
    asked = replace_classes(load(plan))
    with pytest.raises(KeyboardInterrupt):
        run.run(asked, Stopped("i7"), tmp_path / "out", listen=told.append)
    results = run.run(asked, Local("i7"), tmp_path / "out", listen=told.append)
    assert [(one.what, one.task.subject) for one in told] == [
        ("begun", "a.onnx"), ("done", "a.onnx"), ("begun", "b.onnx"), ("done", "b.onnx"),
    ]  # fmt: skip
    runs = [load_record(path) for path in sorted((tmp_path / "out").rglob("run.json"))]
    assert [one.subject.name for one in runs] == ["a.onnx", "b.onnx"]
    assert all(len(one.samples) == 2 for one in runs)
    assert judged(asked, results).classes[0].status == "undecided"
    # Nothing is left to do.
    run.run(asked, Local("i7"), tmp_path / "out", listen=told.append)
    assert len(told) == 4


def replace_classes(plan: Plan) -> Plan:
    return plan.model_copy(update={"classes": {"i7": plan.classes["i7"]}})


def test_a_model_that_fails_does_not_stop_the_others(plan: Path, tmp_path: Path) -> None:
    onnx_zoo.raises_model(tmp_path / "a.onnx", limit=1)
    results = run.run(replace_classes(load(plan)), Local("i7"), tmp_path / "out")
    outcomes = {task.subject: results.outcome(task) for task in tasks(replace_classes(load(plan)))}
    assert isinstance(outcomes["a.onnx"], Failed)
    assert outcomes["b.onnx"].samples


def test_what_does_not_listen_is_not_scored_and_nothing_is_missing(
    plan: Path, tmp_path: Path
) -> None:
    speech = tmp_path / "speech" / "en"
    speech.mkdir(parents=True)
    soundfile.write(speech / "a.wav", np.zeros(8000), 16_000)
    (speech / "a.txt").write_text("one")
    asked = replace_classes(load(plan)).model_copy(update={"quality": str(tmp_path / "speech")})
    results = run.run(asked, Local("i7"), tmp_path / "out")
    assert results.missing() == []
    [first, second] = judged(asked, results).classes[0].placed
    assert first.run and second.run
    assert first.missing == second.missing == ()


# The verdict


def placed(name: str, place: int, ms: float, subject: str = "m", **changes) -> Placed:
    changes = {"seed": place, "rounds": 40, **changes}
    one = run_at(place, ms, subject, **changes)
    return Placed(name, place, subject, one, judge(one))


def test_a_kind_of_machine_is_as_good_as_its_worst_with_its_best_model() -> None:
    found = fleet_verdict(
        [placed("a", 1, 100), placed("a", 2, 105), placed("b", 1, 100), placed("b", 2, 900),
         placed("b", 1, 900, "n"), placed("b", 2, 900, "n"), Placed("c", 1, "m")],
        {"a": 600, "b": 180, "c": None},
    )  # fmt: skip
    assert {one.name: one.status for one in found.classes} == {
        "a": "pass", "b": "fail", "c": "undecided",
    }  # fmt: skip
    assert (found.status, found.cheapest, found.by) == ("fail", "a", "price")
    b = found.classes[1]
    [apart] = b.disagreements
    assert (apart.subject, apart.a, apart.b) == ("m", 1, 2)
    assert apart.ratio.low > 5
    assert not apart.files
    assert not found.classes[0].disagreements


def test_the_cheapest_is_the_smallest_where_prices_lack() -> None:
    small = placed("small", 1, 100)
    big = placed("big", 1, 100)
    surroundings = big.run.environment.model_copy(update={"cores_allowed": 64})
    big = replace(big, run=big.run.model_copy(update={"environment": surroundings}))
    found = fleet_verdict([big, small], {"big": 5.0, "small": None})
    assert (found.status, found.cheapest, found.by) == ("pass", "small", "cores")


def test_equal_machines_are_seldom_told_apart() -> None:
    """At most one family of pairs in twenty, with the spread that is assumed."""
    random, wrong = np.random.default_rng(1), 0
    for _ in range(100):
        ms = 100 * np.exp(0.10 * random.standard_normal(3))
        family = [placed("a", n, one, rounds=3, sigma=0.01) for n, one in enumerate(ms, 1)]
        wrong += bool(fleet_verdict(family, {"a": None}).classes[0].disagreements)
    # P(more than 11 of 100) < 0.5 % at 5 %.
    assert wrong <= 11


# The command


@pytest.mark.parametrize("lang", ["es", "en"])
def test_the_command_line(plan: Path, capsys: pytest.CaptureFixture[str], lang: str) -> None:
    words = ["plan.toml", "--as", "i7", "--lang", lang]
    assert main(["fleet", "check", *words]) == 1
    assert "0 / 2" in capsys.readouterr().out
    assert main(["fleet", "run", *words, "--out", "out"]) == 3
    told = capsys.readouterr()
    assert max(map(len, told.out.splitlines())) <= 80
    assert "a.onnx #1, b.onnx #1, a.onnx #2, b.onnx #2" in Path("out/report.md").read_text()
    assert main(["fleet", "run", *words, "--out", "out", "--json"]) == 3
    found = json.loads(capsys.readouterr().out)
    first, second = found["classes"]
    assert [one["measured"] for one in first["results"]] == [True, True]
    assert {one["missing"][0]["code"] for one in second["results"]} == {"fleet_not_yet"}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["run", "plan.toml"], "i7, n100"),
        (["run", "plan.toml", "--as", "x"], '"x"'),
        (["run", "plan.toml", "--as", "n100", "--place", "3"], "from 1 to 2"),
        (["run", "plan.toml", "--place", "2", "--address", "auto"], "--as"),
        (["run", "misspelt.toml", "--as", "i7"], "b.onx"),
        (["check", "nowhere.toml", "--as", "i7"], "spech"),
        (["run", "plan.toml", "--as", "i7", "--address", "auto"], "--as"),
        (["run", "none.toml", "--as", "i7"], "none.toml"),
        (["check", "plan.toml", "--address", "127.0.0.1:1"], "127.0.0.1:1"),
        (["check", "plan.toml", "--address", "ray://nowhere"], "ray://nowhere"),
        # A cluster that was killed and could not say so.
        (["check", "plan.toml", "--address", "auto"], "127.0.0.1:1"),
    ],
)
def test_bad_words_end_with_two_and_leave_nothing(
    plan: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    words: list[str], told: str,
) -> None:  # fmt: skip
    text = plan.read_text()
    Path("misspelt.toml").write_text(text.replace("b.onnx", "b.onx"))
    Path("nowhere.toml").write_text(text.replace("iterations = 2", 'quality = "spech"'))
    Path("ray").mkdir()
    Path("ray", "ray_current_cluster").write_text("127.0.0.1:1\n")
    monkeypatch.setenv("RAY_TMPDIR", str(Path().absolute()))
    before = set(Path().iterdir())
    assert main(["fleet", *words, "--lang", "en"]) == 2
    assert told in capsys.readouterr().err
    assert {one.name for one in set(Path().iterdir()) - before} <= {"vozmetro-runs"}
    assert not list(Path().glob("vozmetro-runs/*"))
