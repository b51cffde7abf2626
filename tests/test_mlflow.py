"""Runs taken to a real MLflow store, in a local file; nothing leaves the machine."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from history_helpers import keep, main, run_at
from run_factory import make_comparison

from vozmetro.measure.storage import save

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def _apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VOZMETRO_CACHE", str(tmp_path / "cache"))

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("something spoke to the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def test_runs_are_exported_once_and_whole(capsys: pytest.CaptureFixture[str]) -> None:
    from mlflow.tracking import MlflowClient

    runs = [run_at(n, 150.0 + n) for n in range(2)]
    (first, _) = keep(Path("runs"), *runs)
    (first / "report.md").write_text("# report")
    save(make_comparison(), Path("runs/c/comparison.json"))
    (Path("runs/broken")).mkdir()
    Path("runs/broken/run.json").write_text("{")
    words = ["history", "export", "runs", "--mlflow", "store", "--lang", "en"]
    assert main(words) == 0
    assert "4 new runs" in capsys.readouterr().out
    keep(Path("runs"), run_at(5))
    assert main(words) == 0
    assert "1 new runs in store; 4 were there already" in capsys.readouterr().out

    uri = f"sqlite:///{Path('store/mlflow.db').absolute()}"
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    home = client.get_experiment_by_name("vozmetro")
    found = {run.data.tags["vozmetro.id"]: run for run in client.search_runs([home.experiment_id])}
    sides = {"run-whisper-tiny/a", "run-whisper-base/b"}
    assert set(found) == {runs[0].id, runs[1].id, run_at(5).id} | sides
    told = found[runs[0].id]
    main(["history", "runs", "--json", "--until", "2026-01-01T08:30", "--since", "2026-01-01"])
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    metrics = told.data.metrics
    for name in ("p50_ms", "p50_low", "p50_high", "p90_ms", "rtf", "load_ms", "wer"):
        assert metrics[name] == pytest.approx(row[name])
    assert metrics["peak_ram_bytes"] == 812e6
    assert told.data.params["precision"] == "INT8"
    assert told.data.tags["vozmetro.machine"].endswith("× 4")
    assert told.data.tags["vozmetro.model"] == row["model"]
    assert told.info.start_time == round(1000 * row["at"])
    files = {one.path for one in client.list_artifacts(told.info.run_id)}
    assert files == {"run.json", "report.md"}


def test_a_store_that_refuses_is_one_clear_error(capsys: pytest.CaptureFixture[str]) -> None:
    keep(Path("runs"), run_at(0))
    code = main(["history", "export", "runs", "--mlflow", "nonsense://u:secret@x", "--lang", "en"])
    told = capsys.readouterr().err
    assert code == 2
    assert "MLflow" in told
    assert "secret" not in told
