"""`vozmetro history` and `vozmetro gate` as a person or a pipeline calls them."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from history_helpers import by_turns, keep, main, run_at

from vozmetro.measure.storage import save


@pytest.fixture(autouse=True)
def _apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VOZMETRO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)


def called(capsys: pytest.CaptureFixture[str], *words: str, lang: str = "en") -> tuple[int, str]:
    code = main([*words, "--lang", lang])
    told = capsys.readouterr()
    return code, told.out + told.err


@pytest.fixture
def runs() -> list[Path]:
    """Ten runs in the usual folder: a step after the sixth."""
    made = [run_at(n, 180.0 if n < 6 else 240.0, rounds=8) for n in range(10)]
    return keep(Path("vozmetro-runs"), *made)


@pytest.mark.parametrize("lang", ["es", "en"])
def test_the_list_fits_a_terminal(
    capsys: pytest.CaptureFixture[str], runs: list[Path], lang: str
) -> None:
    long = run_at(11, name="a-very-long-name-of-a-model-" * 4)
    keep(Path("vozmetro-runs"), long)
    code, told = called(capsys, "history", lang=lang)
    assert code == 0
    assert max(map(len, told.splitlines())) <= 80
    assert "0009" in told
    assert "i7-7700HQ" in told
    assert told.index("0009") < told.index("0003")


@pytest.mark.parametrize(("columns", "lesser"), [("80", False), ("120", True)])
def test_numbers_are_whole_and_lesser_columns_come_where_there_is_room(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    columns: str,
    lesser: bool,
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    slow = run_at(1, 12_345.6, name="whisper-base-onnx-int8@context=stream,tail=3.0")
    keep(Path("vozmetro-runs"), slow)
    _, told = called(capsys, "history", "--json")
    [row] = json.loads(told)["rows"]
    _, told = called(capsys, "history")
    assert f"{row['p50_ms']:.1f} [{row['p50_low']:.0f}, {row['p50_high']:.0f}]" in told
    assert "01-01 09:00  whisper-base" in told
    assert told.rstrip().endswith("0001")
    assert ("P90" in told, "RAM" in told, f" {row['n']} " in told) == (lesser,) * 3


def test_list_is_what_is_meant_without_a_command(
    capsys: pytest.CaptureFixture[str], runs: list[Path]
) -> None:
    alone = called(capsys, "history", "--limit", "2")
    assert alone == called(capsys, "history", "list", "--limit", "2")
    assert alone == called(capsys, "history", "vozmetro-runs", "--limit", "2")
    assert "8 more of 10" in alone[1]


def test_json_and_csv(capsys: pytest.CaptureFixture[str], runs: list[Path]) -> None:
    _, told = called(capsys, "history", "--json", "--limit", "3")
    found = json.loads(told)
    assert (found["total"], len(found["rows"])) == (10, 3)
    assert found["rows"][0]["p50_low"] < found["rows"][0]["p50_ms"] < found["rows"][0]["p50_high"]
    _, told = called(capsys, "history", "--csv")
    table = list(csv.DictReader(io.StringIO(told)))
    assert [row["id"] for row in table] == [path.name for path in reversed(runs)]


def test_unreadable_files_are_counted_and_strict_names_them(
    capsys: pytest.CaptureFixture[str], runs: list[Path]
) -> None:
    (runs[0] / "run.json").write_text("{")
    code, told = called(capsys, "history")
    assert code == 0
    assert "1 files cannot be read" in told
    code, told = called(capsys, "history", "--strict")
    assert code == 2
    assert str(runs[0]) in told.replace("\n", "")


@pytest.mark.parametrize("lang", ["es", "en"])
def test_a_trend_marks_the_step(
    capsys: pytest.CaptureFixture[str], runs: list[Path], lang: str
) -> None:
    code, told = called(capsys, "history", "trend", "--metric", "p50", lang=lang)
    assert code == 0
    assert max(map(len, told.splitlines())) <= 80
    marked = [line.split()[-1] for line in told.splitlines() if "▲" in line and "[" in line]
    assert marked[0] == "0006"
    _, told = called(capsys, "history", "trend", "--json")
    points = json.loads(told)["trends"][0]["points"]
    assert points[6]["mark"] == "slower"
    assert points[6]["previous"]["low"] > 1.2


@pytest.mark.parametrize(("kind", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_a_trend_is_drawn(
    capsys: pytest.CaptureFixture[str], runs: list[Path], kind: str, start: bytes
) -> None:
    assert called(capsys, "history", "trend", "--plot", f"t.{kind}")[0] == 0
    first = Path(f"t.{kind}").read_bytes()
    assert first.startswith(start)
    called(capsys, "history", "trend", "--plot", f"t.{kind}")
    if kind == "png":
        assert Path(f"t.{kind}").read_bytes() == first
    code, told = called(capsys, "history", "trend", "--plot", "t.gif")
    assert (code, "t.gif" in told) == (2, True)


def test_show_is_the_report_of_the_run(
    capsys: pytest.CaptureFixture[str], runs: list[Path]
) -> None:
    code, told = called(capsys, "history", "show", "0003")
    assert code == 0
    assert "whisper-base" in told
    assert "Verdict" in told or "VERDICT" in told
    assert called(capsys, "history", "show", "0003", "--json")[1].startswith("{")
    code, told = called(capsys, "history", "show", "2026")
    assert (code, "more than one" in told) == (2, True)


def test_diff_says_what_differs(capsys: pytest.CaptureFixture[str], runs: list[Path]) -> None:
    other = run_at(20, 90.0, subject={"precision": "FP16"})
    keep(Path("vozmetro-runs"), other)
    code, told = called(capsys, "history", "diff", "0003", "0014")
    assert code == 0
    assert "FP16" in told
    assert "precision" in told
    _, told = called(capsys, "history", "diff", "0003", "0014", "--json")
    ratio = json.loads(told)["ratios"]["p50"]
    assert ratio["low"] < 0.5 < ratio["high"]


def test_what_is_missing_is_one_clear_error(capsys: pytest.CaptureFixture[str]) -> None:
    every = (
        ["history"],
        ["history", "nowhere"],
        ["history", "--since", "x", "."],
        ["gate", "zzz", "--baseline", "last"],
        ["gate", "x\x00y", "--baseline", "y" * 5000],
    )
    for words in every:
        code, told = called(capsys, *words)
        assert code == 2
        assert told.count("\n") == 1
        assert "Traceback" not in told


# The gate -----------------------------------------------------------------------------------


@pytest.fixture
def sides() -> tuple[list[str], list[str]]:
    """Five runs of a baseline, then five 20 % slower."""
    fast = keep(Path("vozmetro-runs"), *(run_at(n, 180.0 + n, rounds=8) for n in range(5)))
    slow = keep(Path("new"), *(run_at(10 + n, 216.0 + n, rounds=8) for n in range(5)))
    return [str(path) for path in fast], [str(path) for path in slow]


@pytest.mark.parametrize("lang", ["es", "en"])
def test_a_regression_ends_with_one_and_writes_its_files(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    sides: tuple[list[str], list[str]],
    lang: str,
) -> None:
    Path("step.md").write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "step.md")
    code, told = called(
        capsys, "gate", *sides[1], "--baseline", "last:5", "--metrics", "p50,peak_ram,wer",
        "--junit", "j.xml", "--summary", "s.md", "--badge", "b.json", "--github", lang=lang,
    )  # fmt: skip
    assert code == 1
    assert max(map(len, told.splitlines())) <= 80
    cases = ElementTree.parse("j.xml").getroot().findall(".//testcase")
    assert [len(case.findall("failure")) for case in cases] == [1, 0, 0]
    badge = json.loads(Path("b.json").read_text())
    assert badge["schemaVersion"] == 1
    assert set(badge) == {"schemaVersion", "label", "message", "color"}
    assert badge["color"] == "red"
    summary = Path("s.md").read_text()
    assert summary.startswith("### ❌")
    assert "| P50 |" in summary
    assert Path("step.md").read_text() == "before\n" + summary


def test_no_regression_ends_with_zero(
    capsys: pytest.CaptureFixture[str], sides: tuple[list[str], list[str]]
) -> None:
    code, told = called(capsys, "gate", *sides[0][1:], "--baseline", *sides[1][:1])
    assert (code, "no regression" in told) == (0, True)


def test_undecided_ends_with_three_and_says_how_many_runs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    levels = [(150.0, 200.0, 180.0), (160.0, 210.0, 170.0)]
    places = [
        keep(Path(name), *(run_at(10 * side + n, ms) for n, ms in enumerate(levels[side])))
        for side, name in enumerate(("old", "new"))
    ]
    code, told = called(capsys, "gate", "new", "--baseline", "old", "--junit", "j.xml")
    assert code == 3
    assert "a side would decide it" in " ".join(told.split())
    assert ElementTree.parse("j.xml").getroot().findall(".//skipped")
    assert called(capsys, "gate", "new", "--baseline", "old", "--no-gate")[0] == 0
    assert len(places[0]) == 3


def test_one_run_against_one_says_what_is_assumed(
    capsys: pytest.CaptureFixture[str], sides: tuple[list[str], list[str]]
) -> None:
    code, told = called(capsys, "gate", sides[1][0], "--baseline", sides[0][0])
    assert (code, "taken to be 10 %" in " ".join(told.split())) == (3, True)


def test_comparisons_need_no_baseline(capsys: pytest.CaptureFixture[str]) -> None:
    for name, slower in (("same", 0.0), ("slow", 0.1)):
        for record in by_turns(8, slower, seed=2):
            save(record, Path(name) / record.id / "comparison.json")
    assert called(capsys, "gate", "same")[0] == 0
    code, told = called(capsys, "gate", "slow", "--json")
    assert code == 1
    found = json.loads(told)
    assert found["paired"]
    assert found["checks"][0]["change"]["low"] > 1.05
    code, told = called(capsys, "gate", "slow", "--baseline", "same")
    assert (code, "A is the baseline" in told) == (2, True)


def test_unfair_is_refused_and_printed(
    capsys: pytest.CaptureFixture[str], sides: tuple[list[str], list[str]]
) -> None:
    path = Path(sides[1][0]) / "run.json"
    raw = json.loads(path.read_text())
    raw["environment"]["cpu"] = "Evil|CPU\x1b[2J<script>"
    path.write_text(json.dumps(raw))
    words = ["gate", str(path), "--baseline", *sides[0][:1]]
    code, told = called(capsys, *words)
    assert (code, "\x1b[2J" in told) == (2, False)
    code, told = called(
        capsys, *words, "--unfair", "--summary", "s.md", "--junit", "j.xml", "--badge", "b.json"
    )
    assert "They do not match: machine" in told
    assert "\x1b[2J" not in told
    assert "<script>" not in Path("s.md").read_text()
    assert "Evil" in Path("s.md").read_text()
    ElementTree.parse("j.xml")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--tolerance", "x"], "percentage"),
        (["--detect", "5"], "percentage"),
        (["--tolerance", "10%"], "must be below"),
        (["--metrics", "speed"], "There are: p50"),
        (["--github"], "GITHUB_STEP_SUMMARY"),
        (["--baseline", "last=x"], "not understood"),
        (["--baseline", "subject=none"], "No complete run"),
    ],
)
def test_bad_words_are_one_clear_error(
    capsys: pytest.CaptureFixture[str],
    sides: tuple[list[str], list[str]],
    words: list[str],
    said: str,
) -> None:
    baseline = [] if "--baseline" in words else ["--baseline", sides[0][0]]
    code, told = called(capsys, "gate", sides[1][0], *baseline, *words)
    assert (code, said in told) == (2, True)


def test_a_run_without_a_baseline_says_so(
    capsys: pytest.CaptureFixture[str], sides: tuple[list[str], list[str]]
) -> None:
    code, told = called(capsys, "gate", sides[1][0])
    assert (code, "--baseline" in told) == (2, True)
