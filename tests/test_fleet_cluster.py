"""A fleet on a Ray cluster of several machines, of which two die at work."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import onnx_zoo
import pytest
from ray_machines import Machines

from vozmetro.measure.quality_records import QualityStudy
from vozmetro.measure.records import Run
from vozmetro.measure.storage import load_any
from vozmetro.models.resolve import resolve
from vozmetro.speech.corpus import load_corpus

CLASSES = ("a", "b", "c")
LISTENS, GRAPHS = "whisper@context=0.5", ("small.onnx", "large.onnx")
PLAN = """
name = "Three kinds"
subjects = {subjects}
corpus = "speech"
quality = "speech"
languages = ["en"]
iterations = 1
until = "iterations"
threads = 1
{classes}
"""


def until(true: Callable[[], bool], limit_s: float = 300.0) -> None:
    end = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < end, "it did not come"
        threading.Event().wait(0.05)


def prepared(folder: Path) -> Path:
    """A plan beside its models and its speech, which all the machines have yet to get."""
    shutil.copytree(resolve("whisper-base-onnx-int8").path, folder / "whisper")
    speech = sorted(load_corpus("audioeval", ["en"]), key=lambda one: one.seconds)
    for utterance in speech[:2]:
        place = folder / "speech" / "en" / f"{utterance.id.replace('/', '-')}.wav"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(utterance.path, place)
        place.with_suffix(".txt").write_text(utterance.text)
    for name, channels in zip(GRAPHS, (4, 32), strict=True):
        onnx_zoo.waveform_model(folder / name, channels=channels)
    kinds = "".join(f'[classes.{one}]\nlabels = {{ machine = "{one}" }}\n' for one in CLASSES)
    path = folder / "plan.toml"
    path.write_text(PLAN.format(subjects=json.dumps([LISTENS, *GRAPHS]), classes=kinds))
    return path


@pytest.mark.slow
def test_two_machines_die_and_every_result_is_there_once(tmp_path: Path) -> None:
    plan, out = prepared(tmp_path), tmp_path / "out"
    with Machines(tmp_path) as machines, ExitStack() as stack:
        for name in CLASSES:
            machines.start(name, machine=name)
        told: list[str] = []
        words = ["fleet", "run", plan.name, "--address", machines.address, "--out", str(out)]
        running = stack.enter_context(
            subprocess.Popen(
                machines.inside("head", sys.executable, "-m", "vozmetro", *words, "--lang", "en"),
                env=machines.environment("head"), cwd=tmp_path, text=True,
                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            )
        )  # fmt: skip
        reader = threading.Thread(target=lambda: told.extend(running.stderr or ()))
        reader.start()

        def works(name: str, stage: str) -> bool:
            assert running.poll() is None, "".join(told)
            last = next((one for one in reversed(told) if one.startswith(f"  {name} 1")), "")
            return last.rstrip().endswith(f"{stage}: begins") and machines.measures(name)

        until(lambda: works("b", "measure"))
        machines.kill("b")
        until(lambda: works("c", "score"))
        machines.kill("c")
        machines.start("c", machine="c")
        machines.start("b", machine="b")
        code = running.wait(600)
        reader.join()
    report = "".join(told)
    assert code in (0, 1, 3), report
    assert sum("once more" in line for line in told) >= 2, report
    expected = {(kind, name, "run.json") for kind in CLASSES for name in (LISTENS, *GRAPHS)}
    expected |= {(kind, LISTENS, "quality.json") for kind in CLASSES}
    found, ids = [], set()
    for path in sorted(out.rglob("*.json")):
        if path.name not in ("run.json", "quality.json"):
            continue
        record = load_any(path)
        assert isinstance(record, Run | QualityStudy)
        subject = record.subject if isinstance(record, Run) else record.systems[0].subject
        ids.add(record.id)
        found.append((path.parts[len(out.parts)], subject.name, path.name))
        assert record.status == "complete"
        assert len([item for item in record.items if item.text]) == 2
    assert sorted(found) == sorted(expected)
    assert len(ids) == len(expected)
    # Models and speech travelled to each machine once, and what came back kept them on its disk.
    arrived = {name: list((tmp_path / f"cache-{name}" / "fleet").glob("[0-9a-f]*"))
               for name in CLASSES}  # fmt: skip
    assert {name: len(every) for name, every in arrived.items()} == dict.fromkeys(CLASSES, 4)
    assert sum(line.startswith("  a 1") and "sends files" in line for line in told) <= 4
    places = json.loads((out / "machines.json").read_text())
    assert sorted(places) == ["a/1", "b/1", "c/1"]
    assert len(set(places.values())) == 3
    assert json.loads((out / "plan.json").read_text())["plan"]["name"] == "Three kinds"


@pytest.mark.slow
def test_a_machine_outside_the_cluster_asks_it(tmp_path: Path) -> None:
    """Through Ray's client; a kind of machine that is not there fails for its reason, alone."""
    onnx_zoo.waveform_model(tmp_path / "tiny.onnx")
    (tmp_path / "plan.toml").write_text(
        'name = "Small"\nsubjects = ["tiny.onnx"]\naudio_seconds = [0.5]\niterations = 2\n'
        'until = "iterations"\n[classes.here]\nlabels = { machine = "a" }\n'
        '[classes.nowhere]\nlabels = { machine = "z" }\n'
    )
    with Machines(tmp_path) as machines:
        machines.start("a", machine="a")
        words = ["fleet", "run", "plan.toml", "--address", machines.from_outside, "--out", "out",
                 "--patience", "1", "--json"]  # fmt: skip
        done = subprocess.run(
            machines.inside("head", sys.executable, "-m", "vozmetro", *words),
            env=machines.environment("head"), cwd=tmp_path, text=True, capture_output=True,
            check=False,
        )  # fmt: skip
    assert done.returncode == 3, done.stderr
    here, nowhere = json.loads(done.stdout)["classes"]
    assert [one["measured"] for one in here["results"]] == [True]
    assert [one["missing"][0]["code"] for one in nowhere["results"]] == ["fleet_no_machine"]
