"""What is printed and written of quality, and what a verdict makes of it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from quality_factory import SAID, make_study, make_subject, make_voices
from rich.cells import cell_len
from rich.console import Console
from run_factory import make_comparison, make_run

from vozmetro.cli import main
from vozmetro.errors import InputError
from vozmetro.judge.budget import Budget
from vozmetro.judge.decision import judge
from vozmetro.judge.statistics import summarize_run
from vozmetro.measure.listening_records import ListeningRecord, SystemScore
from vozmetro.measure.listening_records import save as save_listening
from vozmetro.measure.quality_records import Figure, QualityStudy
from vozmetro.measure.records import Run
from vozmetro.measure.storage import load_any, save
from vozmetro.report.bundle import write_report
from vozmetro.report.checklist import checklist
from vozmetro.report.formatting import note_text
from vozmetro.report.quality import print_quality
from vozmetro.report.quality_judged import (
    Beside,
    compared,
    judged_study,
    known_figures,
    verdict,
)
from vozmetro.report.quality_page import study_json, write_quality

WRONG = ("uno dos tres", "cinco seis siete ocho", "nueve diez once doce")
HOSTILE = "[x](http://evil) | <b>`\x1b[31m$a$"


def two() -> QualityStudy:
    return make_study(
        {
            "whisper-base": {"clean": SAID, "ssn@10": WRONG},
            "whisper-tiny": {"clean": WRONG, "ssn@10": ("", "", "")},
        },
        silence="gracias",
    )


def printed(study: QualityStudy, lang: str) -> str:
    out = io.StringIO()
    print_quality(Console(file=out, width=80), judged_study(study), lang)
    return out.getvalue()


@pytest.mark.parametrize("lang", ["es", "en"])
@pytest.mark.parametrize("study", [two(), make_voices(("piper-a", "piper-b"))])
def test_eighty_columns_are_enough(study: QualityStudy, lang: str) -> None:
    text = printed(study, lang)
    assert max(cell_len(line) for line in text.splitlines()) <= 80
    assert "MOS (" not in text.replace("(MOS)", "")


def test_what_is_printed_is_what_was_counted() -> None:
    text = " ".join(printed(two(), "en").split())
    # One word of twelve left out, and all twelve.
    assert "8.3 %" in text
    assert "100.0 %" in text
    assert "10.0 false words per minute" in text
    assert "0 substitutions, 0 deletions, 0 insertions in 12 words" in text


def test_plots_and_page_are_written_and_outside_text_stays_text(tmp_path: Path) -> None:
    study = make_study(
        {HOSTILE: {"clean": (HOSTILE, *WRONG[1:]), "white@5": WRONG}},
        said=(f"palabra {HOSTILE}", *SAID[1:]),
    )
    page = write_quality(tmp_path, judged_study(study), "es").read_text(encoding="utf-8")
    assert "http://" not in page
    assert "\x1b" not in page
    assert "<b>" not in page
    assert len(list((tmp_path / "plots").glob("*.png"))) == 2


def test_a_study_without_noise_draws_no_noise(tmp_path: Path) -> None:
    study = make_study({"whisper-base": {"clean": WRONG}})
    write_quality(tmp_path, judged_study(study), "en")
    assert [path.name for path in (tmp_path / "plots").iterdir()] == ["ab12-words-latency.png"]


def test_json_holds_rates_and_no_infinity() -> None:
    told = study_json(judged_study(two()))
    first, second = told["systems"]
    assert first["rows"][0]["wer"]["value"] == 0
    assert second["rows"][0]["deletions"] == 1
    assert first["false_words_per_minute"]["silence"]["value"] == 10
    assert {pair["b"] for pair in told["pairs"]} == {"whisper-tiny"}
    assert "Infinity" not in str(told)


def test_voices_show_predictions_by_their_full_name(tmp_path: Path) -> None:
    study = make_voices()
    page = write_quality(tmp_path, judged_study(study), "es").read_text(encoding="utf-8")
    assert "DNSMOS" in page
    assert "| humana |" in page
    assert "0.0 % " in page
    told = study_json(judged_study(study))["voices"]
    assert told[0]["predicted"]["dnsmos_ovrl"] == 3.5


LIMITS: dict[str, Any] = {
    "limits": {"wer_max": 0.5, "wer_delta_max": 0.05, "snr_double_min_db": 10, "mos_min": 3.5}
}


def test_a_budget_may_limit_quality_and_gates_what_it_limits() -> None:
    budget = Budget.from_mapping(LIMITS)
    assert budget.gates == ("p50", "ram", "wer", "wer_delta", "snr_double", "mos")
    assert Budget.from_mapping(budget.to_mapping()) == budget
    assert budget.limit("wer") == 0.5
    only = Budget.from_mapping({**LIMITS, "gate": {"metrics": ["p50"]}})
    assert only.gates == ("p50",)
    assert only.quality == budget.quality
    assert Budget().quality == ()


@pytest.mark.parametrize(
    "limits",
    [{"wer_max": 15}, {"wer_max": True}, {"mos_min": 0.5}, {"snr_double_min_db": "10"},
     {"wer_delta_max": float("nan")}],
)  # fmt: skip
def test_a_limit_that_cannot_be_one_is_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(InputError) as caught:
        Budget.from_mapping({"limits": limits})
    assert caught.value.code == "budget_invalid"


def test_a_gate_without_its_limit_is_refused() -> None:
    with pytest.raises(InputError, match="wer"):
        Budget.from_mapping({"gate": {"metrics": ["p50", "wer"]}})


@pytest.mark.parametrize(
    ("metric", "limit", "ends", "status"),
    [
        ("wer", 0.2, (0.1, 0.19), "pass"),
        ("wer", 0.2, (0.1, 0.2), "pass"),
        ("wer", 0.2, (0.2, 0.3), "undecided"),
        ("wer", 0.2, (0.21, 0.3), "fail"),
        ("wer_delta", 0.0, (0.0, 0.0), "pass"),
        ("wer_delta", 0.01, (-0.02, 0.005), "pass"),
        ("snr_double", 10.0, (None, 8.0), "pass"),
        # It never doubled down to the lowest SNR that was tried.
        ("snr_double", 10.0, (None, 10.0), "pass"),
        ("snr_double", 10.0, (9.0, None), "undecided"),
        ("snr_double", 10.0, (11.0, None), "fail"),
        ("mos", 3.5, (3.6, 4.0), "pass"),
        ("mos", 3.5, (3.5, 4.0), "pass"),
        ("mos", 3.5, (2.0, 3.5), "undecided"),
        ("mos", 3.5, (2.0, 3.4), "fail"),
    ],
)
def test_an_interval_decides_a_quality_limit(
    metric: Any, limit: float, ends: tuple[float | None, float | None], status: str
) -> None:
    key = {"wer": "wer_max", "wer_delta": "wer_delta_max", "snr_double": "snr_double_min_db",
           "mos": "mos_min"}[metric]  # fmt: skip
    budget = Budget.from_mapping({"limits": {key: limit}})
    figure = Figure(metric=metric, value=0.15, low=ends[0], high=ends[1], n=100)
    run = make_run(kind="tts" if metric == "mos" else "stt", median_ms=100.0, rounds=60)
    decision = judge(run, budget, [figure])
    assert decision.check(metric).status == status
    assert decision.check("p50").status == "pass"
    assert decision.status == status
    # The scenario is the latency's alone.
    assert decision.scenario == "A"


def test_what_a_subject_cannot_have_is_not_asked_of_it() -> None:
    budget = Budget.from_mapping(LIMITS)
    asked = {
        kind: [check.metric for check in judge(make_run(kind=kind), budget).checks[5:]]
        for kind in ("stt", "tts", "cascade", "graph")
    }
    heard = ["wer", "wer_delta", "snr_double"]
    assert asked == {"stt": heard, "tts": ["mos"], "cascade": [*heard, "mos"], "graph": []}


def fast_run(budget: dict[str, Any], kind: str = "stt") -> Run:
    run = make_run(kind=kind, median_ms=100.0, rounds=60)
    settings = run.settings.model_copy(update={"budget": budget})
    return run.model_copy(update={"settings": settings})


def test_a_fast_model_with_bad_words_loses() -> None:
    run = fast_run({"limits": {"wer_max": 0.3}})
    name = run.subject.name
    good = make_study({name: {"clean": SAID * 10}}, said=SAID * 10)
    bad = make_study({name: {"clean": ["no"] * 30}}, said=SAID * 10)
    assert verdict(run, Beside.of([good])).status == "pass"
    lost = verdict(run, Beside.of([bad]))
    assert lost.status == "fail"
    assert lost.headline.code == "decision.headline_a_blocked"
    assert lost.headline.fields["failing"] == "WER"


def test_without_words_the_verdict_asks_for_them() -> None:
    run = fast_run({"limits": {"mos_min": 3.5}}, "tts")
    decision = verdict(run)
    assert decision.status == "undecided"
    assert decision.next_steps[0].code == "decision.step_mos_measure"


def test_the_advice_names_the_option_that_gives_the_figure() -> None:
    run = fast_run({"limits": {"snr_double_min_db": 10}})
    text = note_text(verdict(run).next_steps[0], "en")
    assert "--conditions ssn" in text


def test_a_baseline_that_nobody_is_held_against_tells_nothing() -> None:
    limits = {"limits": {"wer_delta_max": 0.5}}
    alone = judged_study(make_study({"a": {"clean": SAID}}, budget=limits)).systems[0]
    assert (alone.status, alone.figures[-1].metric) == ("undecided", "wer")
    study = make_study({"a": {"clean": SAID}, "b": {"clean": SAID}}, budget=limits)
    settings = study.settings.model_copy(update={"baseline": "a"})
    both = judged_study(study.model_copy(update={"settings": settings})).systems
    assert [one.status for one in both] == ["pass", "pass"]


def test_the_noise_asked_for_first_decides_however_it_was_drawn() -> None:
    by = {"clean": WRONG, "ssn@10": WRONG, "ssn@0": ("", "", ""), "babble@10": ("", "", "")}
    study = make_study({"a": by})
    (system,) = study.systems
    mixed = system.model_copy(update={"heard": system.heard[::-1]})
    (found,) = judged_study(study.model_copy(update={"systems": [mixed]})).systems
    assert found.quality is not None
    assert list(found.quality.curves) == ["ssn", "babble"]
    assert [row.condition for row in found.quality.rows] == list(by)
    (doubling,) = [one for one in found.figures if one.metric == "snr_double"]
    # Of ssn: between 10 dB, as clean, and 0 dB; not of babble, which has doubled at 10.
    assert 0 < doubling.value < 10


def test_one_utterance_has_no_interval_and_no_winner(tmp_path: Path) -> None:
    study = make_study(
        {"a": {"clean": SAID[:1], "ssn@5": WRONG[:1]}, "b": {"clean": WRONG[:1], "ssn@5": ("",)}},
        said=SAID[:1],
    )
    judged = judged_study(study)
    assert [pair.better for pair in judged.pairs] == ["", ""]
    assert [pair.p for pair in judged.pairs] == [1.0, 1.0]
    text = printed(study, "en")
    assert "inf" not in text.replace("inference", "")
    write_quality(tmp_path, judged, "es")
    assert len(list((tmp_path / "plots").iterdir())) == 2


def test_a_corpus_without_a_language_has_a_row_of_its_own() -> None:
    study = make_study({"a": {"clean": SAID}})
    items = [one.model_copy(update={"language": ""}) for one in study.items[:1]]
    (found,) = judged_study(study.model_copy(update={"items": items + study.items[1:]})).systems
    assert found.quality is not None
    assert [(row.language, len(row.takes)) for row in found.quality.rows] == [
        ("*", 3), ("es", 2), ("", 1),
    ]  # fmt: skip


def test_people_count_for_a_study_of_voices_too(tmp_path: Path) -> None:
    study = make_voices()
    settings = study.settings.model_copy(update={"budget": {"limits": {"mos_min": 3.8}}})
    study = study.model_copy(update={"settings": settings})
    judged = judged_study(study, [listened("piper-a")])
    assert judged.systems[0].status == "pass"
    assert "4.10 [3.90, 4.30]" in write_quality(tmp_path, judged, "es").read_text()


def test_only_the_same_subject_is_spoken_of() -> None:
    run = fast_run({"limits": {"wer_max": 0.3}})
    other = make_study({"whisper-large": {"clean": ["no"] * 30}}, said=SAID * 10)
    own = known_figures(run)
    assert own
    assert known_figures(run, Beside.of([other])) == own
    # Other files under the same name are another model.
    (system,) = make_study({run.subject.name: {"clean": ["no"] * 30}}, said=SAID * 10).systems
    files = [one.model_copy(update={"sha256": "0" * 64}) for one in system.subject.files]
    subject = system.subject.model_copy(update={"files": files})
    changed = other.model_copy(update={"systems": [system.model_copy(update={"subject": subject})]})
    assert known_figures(run, Beside.of([changed])) == own


def test_each_side_of_a_comparison_is_the_others_baseline() -> None:
    record = make_comparison()
    budget = {"limits": {"wer_delta_max": 0.5}}
    a, b = (
        one.model_copy(update={"settings": one.settings.model_copy(update={"budget": budget})})
        for one in (record.a, record.b)
    )
    found = compared(record.model_copy(update={"a": a, "b": b}))
    for decision in (found.decision_a, found.decision_b):
        assert decision.check("wer_delta").value == 0
        assert decision.check("wer_delta").status == "pass"


def test_the_report_of_a_run_holds_its_quality(tmp_path: Path) -> None:
    run = make_run()
    study = make_study({run.subject.name: {"clean": WRONG}})
    page = write_report(tmp_path, [run], [], "es", beside=Beside.of([study]))
    text = page.read_text(encoding="utf-8")
    assert "## Calidad" in text
    assert "8.3 %" in text
    assert "CC-BY-SA-3.0" in text
    alone = write_report(tmp_path / "b", [make_run(kind="graph")], [], "en").read_text()
    assert "Not measured. With real speech: `vozmetro quality`." in alone


def test_a_study_of_the_runs_subjects_stands_whole_behind_them(tmp_path: Path) -> None:
    runs = [make_run("whisper-base"), make_run("whisper-tiny")]
    page = write_report(tmp_path, runs, [], "en", beside=Beside.of([two()]))
    text = page.read_text(encoding="utf-8")
    assert "Side by side" in text
    assert text.count("words-latency.png") == 1


def test_a_study_of_another_subject_stands_behind_the_runs(tmp_path: Path) -> None:
    study = make_study({"whisper-large": {"clean": WRONG}})
    text = write_report(tmp_path, [make_run()], [], "en", beside=Beside.of([study])).read_text()
    assert "## 🎧 Quality on real speech" in text
    assert "whisper-large" in text


def test_a_study_on_recorded_speech_ticks_the_box() -> None:
    run = make_run()
    real = make_study({run.subject.name: {"clean": SAID}})
    decision = verdict(run)
    boxes = checklist(run, summarize_run(run), decision, beside=Beside.of([real]))
    audio = next(box for box in boxes if box.key == "audio")
    assert audio.ticked
    assert audio.reason.code == "report.why_audio_studied"
    assert audio.reason.fields == {"n": "3"}


def listened(name: str, method: str = "acr", low: float | None = 3.9) -> ListeningRecord:
    return ListeningRecord(
        id="test", created="2026-11-22T12:00:00+00:00", vozmetro="0.1.0",
        method=method, scales=["quality"], names=[name], study_sha256="0" * 64,  # type: ignore[arg-type]
        half_width=0.25, kept=12, screened=1,
        systems=[
            SystemScore(name=name, scale="quality", value=4.1, low=low, high=4.3, ratings=120,
                        listeners=12, items=10)
        ],
    )  # fmt: skip


def test_people_fill_the_mos_of_the_report_and_decide_its_limit(tmp_path: Path) -> None:
    run = fast_run({"limits": {"mos_min": 3.8}}, "tts")
    for name in (run.subject.name, "-".join(run.subject.name.split())):
        beside = Beside(listening=[listened(name)])
        assert verdict(run, beside).check("mos").status == "pass"
        text = write_report(tmp_path / name, [run], [], "es", beside=beside).read_text()
        assert "Personas, quality: 4.10 [3.90, 4.30], 12 oyentes, 120 notas" in text
    # Without an end that is known, nothing is decided.
    assert (
        verdict(run, Beside(listening=[listened(run.subject.name, low=None)])).check("mos").status
        == "undecided"
    )
    # A share of comparisons won is no mean opinion.
    other = verdict(run, Beside(listening=[listened(run.subject.name, "ab")]))
    assert other.check("mos").status == "undecided"
    assert other.next_steps[0].code == "decision.step_mos_measure"


def test_a_report_takes_runs_studies_and_listening_tests_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run()
    save(run, tmp_path / "run" / "run.json")
    save(make_study({run.subject.name: {"clean": WRONG}}), tmp_path / "quality" / "quality.json")
    (tmp_path / "listen").mkdir()
    save_listening(listened(run.subject.name), tmp_path / "listen")
    words = ["report", *(str(tmp_path / one) for one in ("run", "quality", "listen"))]
    with pytest.raises(SystemExit) as ended:
        main([*words, "--out", str(tmp_path / "all"), "--lang", "en"])
    assert not ended.value.code
    text = (tmp_path / "all" / "report.md").read_text(encoding="utf-8")
    assert "8.3 %" in text
    assert "People, quality: 4.10" in text
    capsys.readouterr()


def test_a_study_is_read_back_and_no_run(tmp_path: Path) -> None:
    study = two()
    save(study, tmp_path / "quality.json")
    assert load_any(tmp_path) == study
    assert load_any(tmp_path / "quality.json") == study
    assert make_subject("whisper-base").name == "whisper-base"
