"""The history: what it finds, what it keeps, what it survives, and what its trends say."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from history_helpers import START, keep, run_at
from hypothesis import given, settings
from hypothesis import strategies as st
from quality_factory import SAID, make_study
from run_factory import make_comparison, make_run

from vozmetro.errors import InputError
from vozmetro.history import rows as rows_module
from vozmetro.history import store
from vozmetro.history.moments import moment
from vozmetro.history.rows import run_row
from vozmetro.history.scan import MOST_BYTES, NAMES, scan
from vozmetro.history.selectors import is_selector, one, records, selected
from vozmetro.history.store import Filter, History
from vozmetro.judge.differences import differences, mismatches
from vozmetro.judge.ratio import ratio_test
from vozmetro.judge.rows import Row
from vozmetro.judge.statistics import Interval, percentile, summarize_run
from vozmetro.judge.trend import item_ratio, ratio, trends
from vozmetro.measure.storage import COMPARISON_FILE, QUALITY_FILE, RUN_FILE, save
from vozmetro.report.history import rows_csv
from vozmetro.report.quality_judged import verdict


@contextmanager
def opened(*folders: Path) -> Iterator[History]:
    with History.open(list(folders), cache=Path("cache.parquet")) as history:
        yield history


def test_rows_are_what_reading_the_runs_gives(tmp_path: Path) -> None:
    runs = [run_at(n, 150.0 + 20 * n) for n in range(4)]
    keep(tmp_path / "runs", *runs)
    with opened(tmp_path / "runs") as history:
        rows = history.rows()
        assert (history.files, history.count(), history.unreadable()) == (4, 4, [])
    assert [row.id for row in rows] == [run.id for run in reversed(runs)]
    for row, run in zip(rows, reversed(runs), strict=True):
        overall = summarize_run(run).overall
        assert row.metric("p50") == Interval(overall.p50.value, overall.p50.low, overall.p50.high)
        assert row.n == overall.n
        assert row.verdict == verdict(run).status
        assert row.peak_ram == 812e6
        assert row.wer == 0.0
        assert datetime.fromtimestamp(row.at, UTC) == datetime.fromisoformat(run.created)


def test_comparisons_and_studies_are_rows_too(tmp_path: Path) -> None:
    save(make_comparison(), tmp_path / "c" / "comparison.json")
    save(make_study({"base": {"clean": SAID}}), tmp_path / "q" / "quality.json")
    with opened(tmp_path) as history:
        rows = {(row.record, row.part): row for row in history.rows()}
    assert set(rows) == {("comparison", "a"), ("comparison", "b"), ("quality", "0")}
    assert rows["comparison", "a"].subject == "whisper-tiny"
    assert rows["quality", "0"].wer == 0.0
    assert rows["quality", "0"].p50_ms is None


def test_earlier_schemas_are_read(tmp_path: Path) -> None:
    (place,) = keep(tmp_path, run_at(0))
    raw = json.loads((place / "run.json").read_text())
    raw["schema_version"] = 1
    (place / "run.json").write_text(json.dumps(raw))
    with opened(tmp_path) as history:
        assert history.count() == 1


def test_only_what_changed_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = keep(tmp_path / "runs", *(run_at(n) for n in range(3)))
    asked: list[str] = []
    reading = rows_module.read

    def read(path: str, size: int) -> list[Row]:
        asked.append(path)
        return reading(path, size)

    monkeypatch.setattr(rows_module, "read", read)
    for expected in (3, 0):
        asked.clear()
        with opened(tmp_path / "runs") as history:
            assert len(history.rows()) == 3
        assert len(asked) == expected
    save(run_at(1, 999.0), places[1] / "run.json")
    (places[2] / "run.json").unlink()
    asked.clear()
    with opened(tmp_path / "runs") as history:
        assert [round(row.p50_ms, -2) for row in history.rows()] == [1000, 200]
    assert asked == [str(places[1] / "run.json")]
    # Another folder leaves what is known of this one alone.
    keep(tmp_path / "other", run_at(7))
    asked.clear()
    with opened(tmp_path / "other") as history:
        assert history.count() == 1
    with opened(tmp_path / "runs") as history:
        assert history.count() == 2
    assert len(asked) == 1


@pytest.mark.parametrize("broken", [b"", b"PAR1nonsensePAR1", b"{}" * 1000, None])
def test_a_broken_cache_is_made_anew(tmp_path: Path, broken: bytes | None) -> None:
    keep(tmp_path / "runs", run_at(0))
    with opened(tmp_path / "runs"):
        pass
    place = Path("cache.parquet")
    place.write_bytes(place.read_bytes()[:-7] if broken is None else broken)
    for parsed in (1, 0):
        with opened(tmp_path / "runs") as history:
            assert (history.count(), history.parsed) == (1, parsed)


def test_a_cache_of_another_make_is_made_anew(tmp_path: Path) -> None:
    import duckdb

    keep(tmp_path / "runs", run_at(0))
    duckdb.sql("COPY (SELECT 1 AS file) TO 'cache.parquet' (FORMAT parquet)")
    with opened(tmp_path / "runs") as history:
        assert (history.count(), history.parsed) == (1, 1)


def test_without_a_place_for_the_cache_it_still_answers(tmp_path: Path) -> None:
    keep(tmp_path / "runs", run_at(0))
    Path("file").write_text("")
    with History.open([tmp_path / "runs"], cache=Path("file/cache.parquet")) as history:
        assert history.count() == 1


def test_several_processes_read_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(tmp_path / "runs", *(run_at(n, rounds=4) for n in range(6)))
    monkeypatch.setattr(store, "_ENOUGH_FOR_MANY", 2)
    with History.open([tmp_path / "runs"], jobs=2, cache=Path("two")) as history:
        two = history.rows()
    with History.open([tmp_path / "runs"], cache=Path("one")) as history:
        assert history.rows() == two


def test_what_is_no_record_is_counted_and_never_in_the_way(tmp_path: Path) -> None:
    keep(tmp_path, run_at(0))
    whole = (tmp_path / run_at(0).id / "run.json").read_text()
    raw = json.loads(whole)
    foreign = {
        "empty": "",
        "half": whole[: len(whole) // 2],
        "list": "[]",
        "number": "3",
        "null": "null",
        "deep": "[" * 100_000,
        "other": json.dumps({"schema_version": 3, "type": "depths"}),
        "newer": json.dumps({**raw, "schema_version": 99}),
        "text": json.dumps({**raw, "schema_version": "3"}),
        "extra": json.dumps({**raw, "surprise": 1}),
        "negative": json.dumps({**raw, "samples": [{**raw["samples"][0], "ms": -1}]}),
        "binary": "\x00\x01",
    }
    for name, text in foreign.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(text)
    (tmp_path / "latin").mkdir()
    (tmp_path / "latin" / "run.json").write_bytes(whole.encode("latin-1"))
    with opened(tmp_path) as history:
        assert history.count() == 1
        unreadable = history.unreadable()
    assert {Path(row.file).parent.name for row in unreadable} == {*foreign, "latin"}
    assert all(row.detail for row in unreadable)
    assert all(row.record == "unreadable" for row in unreadable)


def test_hostile_files(tmp_path: Path) -> None:
    (tmp_path / "runs" / "a").mkdir(parents=True)
    (tmp_path / "runs" / "a" / "again").symlink_to(tmp_path / "runs")
    with (tmp_path / "runs" / "a" / "run.json").open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    odd = os.fsencode(tmp_path / "runs") + b"/\xff\xfe"
    Path(os.fsdecode(odd)).mkdir()
    Path(os.fsdecode(odd), "run.json").write_bytes(b"{}")
    hidden = tmp_path / "runs" / ".hidden"
    keep(hidden, run_at(0))
    os.mkfifo(tmp_path / "runs" / "quality.json")  # to open it would wait for ever
    with opened(tmp_path / "runs") as history:
        assert history.count() == 0
        found = {row.detail for row in history.unreadable()}
    assert found == {f"> {MOST_BYTES >> 20} MiB", "UnicodeEncodeError"}


def test_hostile_names_are_only_names(tmp_path: Path) -> None:
    name = "x'; DROP TABLE rows; --\x1b[2J\u202e"
    run = run_at(0, name=name, run_id="id'--")
    keep(tmp_path / "it's [a] *folder*", run)
    with opened(tmp_path) as history:
        (row,) = history.rows()
        assert "\x1b" not in row.subject + row.name
        assert "\u202e" not in row.subject
        assert history.rows(Filter(subject="x'; DROP TABLE rows; --*")) == [row]
        for bad in ("' OR 1=1 --", "'; DELETE FROM rows; --"):
            assert history.rows(Filter(subject=bad, machine=bad, precision=bad, status=bad)) == []
            assert history.by_id(bad) == []
        assert history.by_id("id'") == [row]
    with opened(tmp_path) as history:
        assert (history.count(), history.parsed) == (1, 0)


@given(st.text(max_size=20))
@settings(deadline=None, max_examples=40)
def test_any_words_may_be_asked_for(words: str) -> None:
    with History.open([], cache=Path("none.parquet")) as history:
        assert history.rows(Filter(subject=words, machine=words, model=words)) == []
        assert history.by_id(words) == []


def test_filters(tmp_path: Path) -> None:
    fast, slow = run_at(0, 150.0), run_at(30, 900.0, name="models/Piper-X.onnx", kind="tts")
    broken = run_at(60, status="interrupted")
    keep(tmp_path, fast, slow, broken)

    def ids(**conditions: object) -> list[str]:
        with opened(tmp_path) as history:
            return [row.id for row in history.rows(Filter(**conditions))]

    assert ids(subject="*WHISPER*") == [broken.id, fast.id]
    assert ids(subject="piper-x") == [slow.id]
    assert ids(subject="whisper") == []
    assert ids(machine="*i7-7700HQ*") == [broken.id, slow.id, fast.id]
    assert ids(precision="int8") == [broken.id, fast.id]
    assert ids(status="fail") == [slow.id]
    assert ids(status="interrupted") == [broken.id]
    day = START.timestamp() + 86_400
    assert ids(since=day) == [broken.id, slow.id]
    assert ids(until=day) == [fast.id]
    assert ids(record="comparison") == []
    assert ids(threads=4, subject="*base*", until=day) == [fast.id]


def test_records_are_found_by_the_names_that_they_are_saved_under() -> None:
    assert NAMES == (RUN_FILE, COMPARISON_FILE, QUALITY_FILE)


def test_files_are_found_once(tmp_path: Path) -> None:
    keep(tmp_path, run_at(0))
    place = tmp_path / run_at(0).id
    assert len(scan([tmp_path, place, place / "run.json"])) == 1
    assert scan([tmp_path / "missing"]) == []


# Words that name runs -----------------------------------------------------------------------


def test_ids_are_found_by_either_end(tmp_path: Path) -> None:
    a, b = run_at(0), run_at(1)
    keep(tmp_path, a, b)
    with opened(tmp_path) as history:
        assert one("0001", history).id == b.id
        assert one(a.id[:13], history).id == a.id
        for words, code in (("2026", "history_ambiguous"), ("zzz", "history_unknown"),
                            ("", "history_unknown")):  # fmt: skip
            with pytest.raises(InputError) as caught:
                one(words, history)
            assert caught.value.code == code
        assert [run.id for run in records(str(tmp_path), history)] == [a.id, b.id]
        assert [run.id for run in records(str(tmp_path / b.id), history)] == [b.id]


def test_selectors(tmp_path: Path) -> None:
    base = [run_at(n, 170.0 + n) for n in range(14)]
    other = run_at(20, name="whisper-tiny")
    broken = run_at(21, status="interrupted")
    keep(tmp_path, *base, other, broken)
    candidate = run_at(30)

    def ids(words: str, **more: bool) -> list[str]:
        with opened(tmp_path) as history:
            return [run.id for run in selected(words, history, [candidate, base[13]], **more)]

    assert ids("last") == [base[12].id]
    assert ids("last:3") == [base[n].id for n in (12, 11, 10)]
    assert len(ids("machine=*")) == 10
    assert ids("until=2026-01-01,last=2") == [base[n].id for n in (12, 11)]
    assert ids("subject=whisper-tiny,last=5", new_model=True) == [other.id]
    for words, code in (("last=0", "bad_selector"), ("nonsense=1", "bad_selector"),
                        ("since=x", "bad_date"), ("subject=", "bad_selector"),
                        ("precision=FP64", "gate_nothing_selected")):  # fmt: skip
        with pytest.raises(InputError) as caught:
            ids(words)
        assert caught.value.code == code
    assert is_selector("last:5")
    assert not is_selector("last:x")
    assert not is_selector("a=b")


def test_moments() -> None:
    assert moment("2026-01-02") == datetime(2026, 1, 2, tzinfo=UTC).timestamp()
    assert moment("2026-01-02", end=True) == datetime(2026, 1, 3, tzinfo=UTC).timestamp()
    assert moment("2026-01-02T10:00+01:00") == datetime(2026, 1, 2, 9, tzinfo=UTC).timestamp()
    assert moment("7d") == pytest.approx(datetime.now(UTC).timestamp() - 7 * 86_400, abs=5)
    for text in ("", "yesterday", "2026-13-01", "99999d", "9999-12-31"):
        try:
            assert math.isfinite(moment(text, end=True))
        except InputError as error:
            assert error.code == "bad_date"


# Trends and differences ---------------------------------------------------------------------


def row(number: int, ms: float, **changes: object) -> Row:
    values = {
        "file": f"f{number}", "id": f"r{number}", "at": 1000.0 * number, "subject": "m",
        "name": "m", "machine": "cpu", "threads": 2, "clock": "per-inference",
        "state": "complete", "p50_ms": ms, "p50_low": ms * 0.99, "p50_high": ms * 1.01,
    }  # fmt: skip
    return Row(**(values | changes))


def test_a_trend_is_in_the_order_of_time_and_one_for_each_group() -> None:
    rows = [row(3, 103.0), row(1, 100.0), row(2, 102.0), row(4, 90.0, machine="other"),
            row(5, 1.0, state="failed"), row(6, 100.0, p50_ms=None)]  # fmt: skip
    found = {trend.machine: trend for trend in trends(rows, "p50")}
    assert [point.row.id for point in found["cpu"].points] == ["r1", "r2", "r3"]
    assert len(found["other"].points) == 1
    first, second, third = found["cpu"].points
    assert (first.first, first.previous, first.mark) == (None, None, "")
    assert second.previous == second.first
    assert third.first.ratio.value == pytest.approx(1.03)
    assert third.previous.ratio.value == pytest.approx(103 / 102)


def test_a_step_is_marked_and_noise_is_not() -> None:
    random = np.random.default_rng(5)
    levels = [*(100 * np.exp(0.02 * random.standard_normal(12))), 130.0, 80.0]
    (trend,) = trends([row(n, float(ms)) for n, ms in enumerate(levels)], "p50")
    assert [point.mark for point in trend.points][-2:] == ["slower", "faster"]
    assert sum(bool(point.mark) for point in trend.points[:-2]) <= 1


def test_two_runs_alone_mark_only_what_is_far_apart() -> None:
    assert trends([row(1, 100.0), row(2, 110.0)], "p50")[0].points[1].mark == ""
    assert trends([row(1, 100.0), row(2, 200.0)], "p50")[0].points[1].mark == "slower"


@given(st.lists(st.integers(800, 1200), min_size=2, max_size=11))
@settings(deadline=None, max_examples=100)
def test_marks_are_those_of_the_gate(levels: list[int]) -> None:
    (trend,) = trends([row(n, float(ms)) for n, ms in enumerate(levels)], "p50")
    *before, last = (math.log(ms) for ms in levels)
    found = ratio_test([last], before).ratio
    expected = "slower" if found.low > 1 else "faster" if found.high < 1 else ""
    assert trend.points[-1].mark == expected


def test_the_interval_of_a_ratio_covers() -> None:
    random = np.random.default_rng(11)
    held = 0
    for _ in range(300):
        a = percentile(np.exp(0.3 * random.standard_normal(60)), 0.5)
        b = percentile(1.2 * np.exp(0.3 * random.standard_normal(60)), 0.5)
        found = ratio(b, a)
        held += found.low <= 1.2 <= found.high
    assert held / 300 >= 0.93


def test_a_ratio_by_item_does_not_see_that_items_differ() -> None:
    lengths = (0.5, 1.0, 4.0, 8.0)
    a, b = (
        summarize_run(run_at(n, ms, lengths=lengths, slope=0.2, rounds=40))
        for n, ms in ((0, 180.0), (1, 198.0))
    )
    found = item_ratio(b, a)
    assert found.low < 1.1 < found.high
    overall = ratio(b.overall.p50, a.overall.p50)
    assert found.high / found.low < overall.high / overall.low / 1.5
    assert item_ratio(b, summarize_run(run_at(2, lengths=(0.5, 1.0)))) is None


def test_what_is_not_known_has_no_ratio() -> None:
    found = ratio(Interval(2.0, None, 3.0), Interval(1.0, 0.5, None))
    assert (found.value, found.low) == (2.0, None)
    assert found.high is not None
    assert math.isnan(ratio(Interval(0.0, 0.0, 0.1), Interval(0.1, 0.0, 0.2)).value)


def test_differences_name_what_differs() -> None:
    a = make_run()
    settings_b = a.settings.model_copy(update={"threads": 2, "command": ["other"]})
    versions = a.environment.model_copy(
        update={"versions": {**a.environment.versions, "onnxruntime": "2.0"}, "load": 9.0}
    )
    b = a.model_copy(update={"settings": settings_b, "environment": versions})
    assert [(one.section, one.name, one.a, one.b) for one in differences(a, b)] == [
        ("settings", "threads", "4", "2"),
        ("versions", "onnxruntime", "1.27.0", "2.0"),
    ]
    assert [one.name for one in mismatches(a, b)] == ["threads"]
    assert differences(a, a) == mismatches(a, a) == []


def test_csv_holds_no_formula(tmp_path: Path) -> None:
    run = run_row(make_run("=1+1"), str(tmp_path))
    header, line, end = rows_csv([replace(run, detail='a "b", c')]).split("\r\n")
    assert header.startswith("file,id,record")
    assert ",'=1+1," in line
    assert '"a ""b"", c"' in line
    assert end == ""
