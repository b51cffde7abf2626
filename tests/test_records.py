"""Records: what is saved is what is read, and a damaged file says so."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from run_factory import make_run

from vozmetro.errors import InputError, OutputError
from vozmetro.measure import storage


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
        text.replace('"schema_version": 1', '"schema_version": 99'): "run_newer",
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
