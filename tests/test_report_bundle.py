"""The report folder and the JSON summaries."""

from __future__ import annotations

import builtins
import json
import re
from pathlib import Path
from typing import Any

import pytest
from run_factory import make_comparison, make_run

from vozmetro.errors import OutputError
from vozmetro.judge.comparison import compare_record
from vozmetro.judge.decision import judge
from vozmetro.judge.statistics import summarize_run
from vozmetro.measure.records import Failure
from vozmetro.measure.storage import save
from vozmetro.report.bundle import comparison_json, summary_json, write_report


def test_write_report_links_records_and_embeds_plots(tmp_path: Path) -> None:
    run = make_run("m 1(x)")
    save(run, tmp_path / "run.json")
    path = write_report(tmp_path, [run], [], "es")
    assert path == tmp_path / "report.md"
    text = path.read_text(encoding="utf-8")
    assert "[run.json](run.json)" in text
    images = re.findall(r"!\[.*?\]\((.+?)\)", text)
    assert len(images) == 3
    assert all((tmp_path / image).is_file() for image in images)
    assert not list(tmp_path.glob(".*"))
    assert {file.name for file in tmp_path.iterdir()} == {"run.json", "report.md", "plots"}


def test_comparison_alone_gives_both_subjects_a_section(tmp_path: Path) -> None:
    text = write_report(tmp_path, [], [make_comparison()], "es").read_text(encoding="utf-8")
    assert "## Resultados Benchmark: whisper-tiny\n" in text
    assert "## Resultados Benchmark: whisper-base\n" in text
    assert text.count("comparison-01-") == 1
    assert "Está en la sección de whisper-tiny" in text


def test_runs_of_a_comparison_are_not_shown_twice(tmp_path: Path) -> None:
    record = make_comparison()
    alone = [record.a.model_copy(update={"id": "own-a"}), record.b]
    text = write_report(tmp_path, alone, [record], "es").read_text(encoding="utf-8")
    assert text.count("## Resultados Benchmark: whisper-tiny\n") == 1
    assert "### Comparación vs whisper-base\n" in text


def test_comparisons_of_equal_id_keep_their_own_plots(tmp_path: Path) -> None:
    records = [make_comparison(), make_comparison(make_run("c"), make_run("d"))]
    text = write_report(tmp_path, [], records, "es").read_text(encoding="utf-8")
    assert text.count("plots/comparison-01-whisper-tiny-vs-whisper-base.png") == 1
    assert text.count("plots/comparison-02-c-vs-d.png") == 1


def test_report_uses_the_budget_of_the_run(tmp_path: Path) -> None:
    run = make_run(median_ms=180, budget={"limits": {"p50_ms": 150.0}})
    text = write_report(tmp_path, [run], [], "es").read_text(encoding="utf-8")
    assert "**<150ms**" in text
    assert "Latencia P50 < 150ms validada" in text


def test_run_that_never_measured_is_reported_as_such(tmp_path: Path) -> None:
    failure = Failure(code="file_missing", fields={"path": "m.onnx"})
    run = make_run("roto", samples=[], sessions=[], status="failed", failure=failure)
    text = write_report(tmp_path, [run], [], "es").read_text(encoding="utf-8")
    assert "No hay ninguna inferencia medida (falló). No existe el archivo m.onnx" in text
    assert "VIABLE" not in text


def test_missing_matplotlib_costs_the_plots_not_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == "matplotlib":
            raise ModuleNotFoundError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    text = write_report(tmp_path, [make_run()], [], "es").read_text(encoding="utf-8")
    assert "`pip install 'vozmetro[plots]'`" in text
    assert "## Decisión" in text
    assert "![" not in text
    assert not (tmp_path / "plots").exists()


def test_unwritable_folder_is_a_clear_error(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("x")
    with pytest.raises(OutputError) as caught:
        write_report(blocked / "in", [make_run()], [], "es")
    assert caught.value.code == "unwritable"


def test_summary_json_is_plain_json_with_the_verdict() -> None:
    run = make_run(median_ms=180)
    table = summary_json(run, summarize_run(run), judge(run))
    again = json.loads(json.dumps(table, allow_nan=False))
    assert again["decision"]["status"] == "pass"
    assert again["decision"]["scenario"] == "A"
    assert again["decision"]["checks"][0]["metric"] == "p50"
    assert again["summary"]["overall"]["n"] == 120
    assert again["summary"]["peak_rss_bytes"] == 812_000_000
    assert set(again["summary"]["per_item"]) == {item.id for item in run.items}
    assert "samples" not in again


def test_comparison_json_holds_both_sides() -> None:
    table = comparison_json(compare_record(make_comparison()))
    again = json.loads(json.dumps(table, allow_nan=False))
    assert again["verdict"] == "a_faster"
    assert again["ratio"]["value"] == pytest.approx(1 / 3, rel=0.1)
    assert again["a"]["subject"]["name"] == "whisper-tiny"
    assert again["b"]["decision"]["status"] == "fail"
