"""Records: what is saved is what is read, and a damaged file says so."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from run_factory import make_run

from vozmetro.errors import InputError, OutputError
from vozmetro.judge.comparison import compare_record
from vozmetro.judge.depth_report import depth_report
from vozmetro.judge.language import language_summary
from vozmetro.measure import depth_records, quality_records, records, storage
from vozmetro.measure.depth_records import DepthStudy
from vozmetro.measure.records import SCHEMA_VERSION, Run
from vozmetro.report.quality_judged import judged_study


def test_saved_and_loaded_run_is_equal(tmp_path: Path) -> None:
    run = make_run()
    storage.save(run, tmp_path / "new" / "run.json")
    assert storage.load(tmp_path / "new") == run
    assert storage.load(tmp_path / "new" / "run.json") == run
    assert os.listdir(tmp_path / "new") == ["run.json"]


def test_damaged_file_names_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    storage.save(make_run(), path)
    text = path.read_text()
    cases = {
        text[: len(text) // 2]: "run_unreadable",
        "[]": "run_unreadable",
        text.replace('"schema_version": 4', '"schema_version": 99'): "run_newer",
        text.replace('"schema_version": 4', '"schema_version": 0'): "run_unreadable",
        text.replace('"type": "run"', '"type": []'): "run_unreadable",
        text.replace('"status"', '"stat"', 1): "run_unreadable",
    }
    for damaged, code in cases.items():
        path.write_text(damaged)
        with pytest.raises(InputError) as caught:
            storage.load(path)
        assert caught.value.code == code
    with pytest.raises(InputError) as caught:
        storage.load(tmp_path / "nowhere")
    assert caught.value.code == "run_missing"


def test_a_latency_of_zero_or_less_is_no_record(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    storage.save(make_run(), path)
    raw = json.loads(path.read_text())
    raw["samples"][0]["ms"] = 0.0
    path.write_text(json.dumps(raw))
    with pytest.raises(InputError, match=r"samples\.0\.ms"):
        storage.load(path)


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.json"
    storage.write_atomic(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError) as caught:
        storage.write_atomic(path, b"new")
    assert caught.value.code == "disk_full"
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["run.json"]


def test_an_unwritable_folder_is_found_before_measuring(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("")
    with pytest.raises(OutputError) as caught:
        storage.check_writable(blocker / "runs")
    assert caught.value.code == "unwritable"
    storage.check_writable(tmp_path / "runs")
    assert os.listdir(tmp_path / "runs") == []


DATA = Path(__file__).parent / "data"


@pytest.mark.parametrize("name", ["run-v1.json", "comparison-v1.json"])
def test_files_of_the_first_schema_are_read_as_those_of_the_present(name: str) -> None:
    assert json.loads((DATA / name).read_text())["schema_version"] == 1
    record = storage.load(DATA / name)
    assert record.schema_version == SCHEMA_VERSION
    assert not isinstance(record, DepthStudy)
    for run in [record] if isinstance(record, Run) else [record.a, record.b]:
        assert run.schema_version == SCHEMA_VERSION
        assert run.subject.device == "cpu"
        assert {sample.probe_gbs for sample in run.samples} == {None}


@pytest.mark.parametrize("name", ["run-v2.json", "comparison-v2.json", "depths-v2.json"])
def test_recorded_files_of_the_second_schema_are_read_for_ever(name: str, tmp_path: Path) -> None:
    record = storage.load(DATA / name)
    storage.save(record, tmp_path / "again.json")
    assert storage.load(tmp_path / "again.json") == record
    if isinstance(record, DepthStudy):
        report = depth_report(record)
        assert report.depths == (1, 2, 4)
        assert report.extrapolated
    elif isinstance(record, Run):
        found = language_summary(record)
        assert found is not None
        assert [prompt.tokens for prompt in found.prompts] == [4, 8]
    else:
        assert compare_record(record).pairs == 16


def test_a_recorded_quality_study_of_the_third_schema_is_read_for_ever(tmp_path: Path) -> None:
    assert json.loads((DATA / "quality-v3.json").read_text())["schema_version"] == 3
    study = storage.load_quality(DATA / "quality-v3.json")
    assert (study.shards, study.settings.executor) == (None, "local")
    storage.save(study, tmp_path / "quality.json")
    assert storage.load_quality(tmp_path) == study
    a, b = judged_study(study).heard
    assert [round(12 * row.wer.value) for row in a.rows] == [1, 6]
    assert [round(12 * row.wer.value) for row in b.rows] == [5, 8]


RECORDS = [
    one
    for module in (depth_records, quality_records)
    for one in vars(module).values()
    if isinstance(one, type)
    and issubclass(one, records.Record)
    and one.__module__ == module.__name__
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_every_field_of_a_study_is_described(record: type[records.Record]) -> None:
    page = (Path(__file__).parents[1] / "docs" / "run-schema.md").read_text(encoding="utf-8")
    found = re.search(rf"^## {record.__name__}\n(.*?)(?=^## |\Z)", page, re.M | re.S)
    assert found is not None
    described = re.findall(r"^\| `([^`]+)` \|", found[1], re.MULTILINE)
    assert sorted(described) == sorted(record.model_fields)
