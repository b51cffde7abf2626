"""Files of claims, and what is shown of their findings: terminal, page and JSON."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypotheses_factory import GUIDE, HERE, OPTIONS, roofline, sides
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from run_factory import make_run

from vozmetro.cli.hypotheses import commands
from vozmetro.cli.run import run as run_command
from vozmetro.errors import InputError
from vozmetro.hypotheses.files import known_architectures, read_claims, read_evidence
from vozmetro.i18n import LANGUAGES, t
from vozmetro.judge.claims import parse_claims
from vozmetro.judge.derived import from_roofline
from vozmetro.judge.evidence import Evidence, from_comparison, from_run
from vozmetro.judge.findings import STATUSES
from vozmetro.judge.hypotheses import check
from vozmetro.measure.storage import save
from vozmetro.report.hypotheses import claimed_text, found_text, reason_text, verdict_text
from vozmetro.report.hypotheses_page import Header, render_page

# --- The file ----------------------------------------------------------------------------------

GOOD = """
title = { es = "t", en = "t" }
source = { es = "s", en = "s" }

[[claims]]
id = "one"
section = { es = "x", en = "x" }
says = { es = "x", en = "x" }
metric = "latency_p50_ms"
compare = "below"
value = 80.0
unit = "ms"

[[claims]]
id = "two"
section = { es = "x", en = "x" }
says = { es = "x", en = "x" }
metric = "ram"
compare = "below"
value = 4
unit = "GB"
[claims.subject]
names = ["x"]
"""


@pytest.mark.parametrize(
    ("old", "new", "code", "line", "key"),
    [
        ('names = ["x"]', 'nombres = ["x"]', "claims_unknown_key", 23, "claims[2].subject.nombres"),
        ('unit = "GB"', 'unit = "ms"', "claims_bad_value", 21, "claims[2].unit"),
        ("value = 4\n", "", "claims_bad_value", 14, "claims[2].value"),
        ("value = 80.0", 'value = "80"', "claims_bad_value", 11, "claims[1].value"),
        ("value = 80.0", "value = nan", "claims_bad_value", 11, "claims[1].value"),
        ('metric = "ram"', 'metric = "colour"', "claims_bad_value", 18, "claims[2].metric"),
        ('id = "two"\n', "", "claims_missing_key", 14, "claims[2].id"),
        ('id = "two"', 'id = "one"', "claims_duplicate", 15, ""),
        ('id = "two"', 'id = "dos cosas"', "claims_bad_value", 15, "claims[2].id"),
        (', en = "s" }', " }", "claims_missing_key", 3, "source.en"),
        ("value = 4\n", "value = = 4\n", "claims_syntax", 20, ""),
    ],
)  # fmt: skip
def test_bad_files_are_one_clear_error(old: str, new: str, code: str, line: int, key: str) -> None:
    assert GOOD.count(old) == 1
    with pytest.raises(InputError) as raised:
        parse_claims(GOOD.replace(old, new), "mine.toml")
    error = raised.value
    assert error.code == code
    assert error.fields["line"] == str(line)
    for lang in LANGUAGES:
        said = error.message(lang)
        assert "mine.toml" in said
        assert key in said


def test_the_good_file_is_good() -> None:
    assert [one.id for one in parse_claims(GOOD, "mine.toml").claims] == ["one", "two"]


@given(st.text(max_size=200))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse_claims(text, "x")


def test_the_guide_holds_what_its_readers_ask_about() -> None:
    metrics = {one.metric for one in GUIDE.values()}
    assert metrics == {
        "modality", "parameters", "latency_p50_ms", "latency_p99_ms", "wer", "mos", "ram",
        "throughput", "load", "warmup", "gain", "wer_increase",
    }  # fmt: skip
    assert GUIDE["vl4b-latency"].bounds == (None, 240.0)
    assert GUIDE["omni-latency"].bounds == pytest.approx((2296.0, 3444.0))
    assert GUIDE["gain-quantized"].bounds == (20.0, None)
    assert GUIDE["omni-ram"].bounds[1] == pytest.approx(1.32e9)


# --- What is shown -----------------------------------------------------------------------------


def everything() -> list[Evidence]:
    """Evidence that makes every status appear."""
    evidence = known_architectures()
    evidence += from_roofline(roofline("INT4", 51.0, 10.0), "roofline.json")
    evidence += from_run(
        make_run("whisper-small+piper-joe", "cascade", median_ms=300.0), "a|b.json"
    )
    evidence += from_comparison(
        sides({"median_ms": 100.0}, {"median_ms": 78.0, "precision": "INT8"})
    )
    evidence += from_comparison(
        sides({"median_ms": 100.0}, {"median_ms": 91.0, "options": OPTIONS})
    )
    return evidence


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_page_has_every_claim_in_a_valid_table(lang: str) -> None:
    claims = read_claims("guia")
    findings = check(claims.claims, everything(), HERE)
    page = render_page(claims, findings, Header("2025-10-29T10:31:00Z", HERE, "vozmetro `x`"), lang)
    rows = [line for line in page.splitlines() if line.startswith("|")]
    cells = [re.split(r"(?<!\\)\|", row) for row in rows]
    assert {len(row) for row in cells} == {7}
    assert re.fullmatch(r"\| (:?-+:? \| ){4}:?-+:? \|", rows[1])
    assert len(rows) == len(claims.claims) + 2
    for one in claims.claims:
        assert one.says.text(lang).split(":")[0].replace("<", "&lt;").split("_")[0] in page
    # Links to evidence lead somewhere, and each place is there once.
    targets = re.findall(r"\(#(e\d+)\)", page)
    anchors = re.findall(r'<a id="(e\d+)">', page)
    assert set(targets) == set(anchors)
    assert len(anchors) == len(set(anchors))
    assert "a\\|b.json" in page
    for status in STATUSES[:1] + STATUSES[1:3]:
        assert t(f"hypotheses.status_{status}", lang) in page


@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_text_can_be_filled(lang: str) -> None:
    for finding in check(list(GUIDE.values()), everything(), HERE):
        assert claimed_text(finding.claim, lang)
        sentence = reason_text(finding, lang)
        assert " " in sentence
        assert "{" not in sentence
        assert finding.claim.says.text(lang)
        for weighed in finding.weighed:
            assert found_text(weighed.evidence, lang)
            assert verdict_text(weighed, lang)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_what_answers_an_open_claim_is_no_file_that_cannot(lang: str) -> None:
    claims = read_claims("guia")
    findings = check(claims.claims, [], HERE)
    page = render_page(claims, findings, Header("2025-10-29T10:31:00Z"), lang)
    (line,) = [one for one in page.splitlines() if "26.88 s" in one and one.startswith("- ")]
    assert "agi_audio_core" not in line
    assert "24B" in line


def test_every_reason_is_in_the_catalogues() -> None:
    out = (
        "run_failed", "suspect", "unfair", "dummy_quality", "synthetic_quality", "other_device",
        "not_whole", "floor_precision", "not_linear", "other_machine", "extrapolated",
        "ceilings", "assumed", "threads", "dummy_words", "floor_part",
    )  # fmt: skip
    for lang in LANGUAGES:
        for why in out:
            assert t(f"hypotheses.left_{why}", lang)


def call(*words: object, lang: str = "es") -> int:
    (group,) = commands(lang)
    return run_command(group, [str(word) for word in words], lang)


def saved(folder: Path) -> Path:
    save(make_run("whisper-small+piper-joe", "cascade", median_ms=300.0), folder / "a" / "run.json")
    record = sides({"median_ms": 100.0}, {"median_ms": 78.0, "precision": "INT8"})
    save(record, folder / "b" / "comparison.json")
    (folder / "roofline.json").write_text(roofline("INT4", 51.0, 10.0).model_dump_json())
    (folder / "other.json").write_text('{"type": "something else"}')
    return folder


@pytest.mark.parametrize("lang", LANGUAGES)
def test_check_prints_within_80_columns_and_writes_the_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, lang: str
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    folder = saved(tmp_path / "runs")
    page = tmp_path / f"page-{lang}.md"
    assert call("check", "guia", folder, "--out", page, lang=lang) == 0
    out = capsys.readouterr().out
    assert max(cell_len(line) for line in out.splitlines()[:-1]) <= 80
    for symbol in "✅❌🚫⏳":
        assert symbol in out
    assert page.read_text(encoding="utf-8").startswith("# ")


def test_check_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("check", "guia", saved(tmp_path / "runs"), "--json") == 0
    found = {one["id"]: one for one in json.loads(capsys.readouterr().out)["findings"]}
    assert found["pipeline-guarantee"]["status"] == "refuted"
    assert found["vl4b-latency"]["status"] == "impossible"
    assert found["gain-quantized"]["status"] == "confirmed"
    assert found["gain-quantized"]["evidence"][0]["file"].endswith("comparison.json")


def test_a_record_given_twice_counts_once(tmp_path: Path) -> None:
    folder = saved(tmp_path / "runs")
    once, twice = read_evidence([folder]), read_evidence([folder, folder / "a"])
    assert len(once) == len(twice)


def test_list_shows_the_claims_and_the_format(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("list", lang="en") == 0
    assert "vl4b-latency" in capsys.readouterr().out
    assert call("list", "--format") == 0
    assert parse_claims(capsys.readouterr().out, "guia").claims == read_claims("guia").claims
    assert call("list", "--json") == 0
    assert len(json.loads(capsys.readouterr().out)["claims"]) == len(GUIDE)


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize(
    "words",
    [
        ["check", "nowhere.toml"],
        ["check", "guia", "nowhere"],
        ["check", "guia", "empty"],
        ["check", "guia", "bad.json"],
        ["check", "guia", "bad-roofline.json"],
        ["check", "bad.json"],
        ["check"],
    ],
)
def test_bad_input_is_one_line_and_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], lang: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.json").write_text("[1, 2")
    (tmp_path / "bad-roofline.json").write_text('{"type": "roofline", "schema_version": 1}')
    assert call(*words, lang=lang) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.strip().splitlines()) == 1
