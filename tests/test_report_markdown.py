"""`report.md`: the guide's template and checklist, with text from outside made harmless."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from run_factory import make_comparison, make_run

from vozmetro.i18n import catalogue
from vozmetro.judge.comparison import compare_record
from vozmetro.judge.decision import judge
from vozmetro.judge.statistics import summarize_run
from vozmetro.measure.records import ComparisonRecord, Failure, FileInfo, Note, Run
from vozmetro.report.checklist import Box, checklist
from vozmetro.report.escape import code, escape
from vozmetro.report.markdown import render
from vozmetro.report.template import Judged, decision_label

HOSTILE = "a|b<script>alert(1)</script>`rm`\n## título\n| x | [l](http://e.vil) ![i](x) *n* $x^2$"


def judged(run: Run) -> Judged:
    return Judged(run, summarize_run(run), judge(run))


def page(
    run: Run | list[Run], lang: str = "es", comparisons: tuple[ComparisonRecord, ...] = ()
) -> str:
    runs = run if isinstance(run, list) else [run]
    found = [compare_record(record) for record in comparisons]
    return render([judged(one) for one in runs], found, lang)


def boxes(run: Run, *records: ComparisonRecord) -> dict[str, Box]:
    one = judged(run)
    found = checklist(run, one.summary, one.decision, [compare_record(r) for r in records])
    return {box.key: box for box in found}


def headings(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("#")]


def test_sections_of_the_template_in_its_order() -> None:
    run = make_run("Qwen3-VL-4B-Instruct", "graph")
    record = make_comparison(run, make_run("Qwen3-Omni-30B", "graph", median_ms=2870))
    text = page(run, comparisons=(record,))
    assert headings(text)[:7] == [
        "# Resultados Benchmark: Qwen3-VL-4B-Instruct",
        "## Modelo Testeado",
        "## Resultados de Latencia",
        "## Comparación vs Qwen3-Omni-30B",
        "## Calidad",
        "## Decisión",
        "## Checklist de Validación",
    ]
    assert "**Fecha**: 29 octubre 2025, 10:31 UTC  \n**Hardware**: Intel" in text
    assert "16.0GB RAM, CPU-only  \n**ONNX Runtime**: 1.27.0" in text
    assert (
        "- Nombre: Qwen3-VL-4B-Instruct\n- Path: `models/model.bin`\n- Tamaño: 145.0 MB\n" in text
    )
    assert "- Formato: ONNX FP32\n" in text


def test_latency_table_has_the_templates_rows_and_intervals() -> None:
    text = page(make_run(median_ms=180))
    assert "| Métrica | Valor | Objetivo | ✅/❌ |" in text
    for row in (
        r"\| Carga modelo \| 1\.23s \| N/A \| - \|",
        r"\| Warmup \| \d+\.\d\ds \| N/A \| - \|",
        r"\| \*\*Latencia P50\*\* \| \*\*1\d\d\.\dms\*\* \[1\d\d\.\d, 1\d\d\.\d\] "
        r"\| \*\*<240ms\*\* \| \*\*✅\*\* \|",
        r"\| Latencia P90 \| \d+\.\dms \[.*\] \| <300ms \| (✅|❔) \|",
        r"\| Latencia P99 \| \d+\.\dms \[.*\] \| <400ms \| (✅|❔) \|",
        r"\| Throughput \| 5\.\d\d inf/s \[.*\] \| >4 inf/s \| ✅ \|",
    ):
        assert re.search(row, text), row
    assert "- P99 no se puede resolver con 120 muestras efectivas" in text
    assert text.count("P99 no se puede resolver") == 1


def test_comparison_table_does_not_invent_quality() -> None:
    run = make_run("a", "graph", median_ms=120)
    text = page(run, comparisons=(make_comparison(run, make_run("b", "graph", median_ms=360)),))
    assert "| Métrica | a | b | Mejora |" in text
    assert re.search(r"\| Latencia P50 \| 1\d\d\.\dms \| 3\d\d\.\dms \| -6\d% \|", text)
    assert "| RAM | 0.8GB | 0.8GB | +0% |" in text
    none = "no medida en este informe"
    assert f"| Calidad (esperada) | {none} | {none} | – |" in text
    section = text[text.index("## Comparación") : text.index("## Decisión")]
    assert "WER" not in section
    assert "A es más rápido que B: razón A/B 0.3" in text


def test_report_without_comparison_says_how_to_get_one() -> None:
    assert "`vozmetro compare A B`" in page(make_run())


@pytest.mark.parametrize(
    ("median_ms", "ram", "label"),
    [
        (150, 8e8, "✅ VIABLE"),
        (360, 8e8, "⚠️ REQUIERE ANÁLISIS"),
        (800, 8e8, "❌ NO VIABLE"),
        (150, 5e9, "❌ NO VIABLE"),
        (360, 5e9, "❌ NO VIABLE"),
    ],
)
def test_decision_label_follows_the_scenario(median_ms: float, ram: float, label: str) -> None:
    decision = judge(make_run(median_ms=median_ms, peak_rss=int(ram)))
    assert decision_label(decision, "es") == label


def test_a_fast_stub_is_not_viable() -> None:
    """A model that answers at once and always the same is the classic false win."""
    stub = make_run(median_ms=20, notes=[Note(code="constant_output", fields={"count": "5"})])
    dummy = make_run(median_ms=20, subject={"weights": "dummy"})
    for run in (stub, dummy):
        assert judge(run).check("p50").status == "pass"
        assert "VIABLE" not in decision_label(judge(run), "es")
        assert not boxes(run)["timeline"].ticked


def test_options_of_scenario_c_are_lettered_as_in_the_guide() -> None:
    text = page(make_run("m", "graph", median_ms=360))
    section = text[text.index("## Decisión") : text.index("## Checklist")]
    assert "\nA) Aceptar latencia 240-500ms si calidad justifica  \nB) Usar m como" in section
    assert "\n- ¿Es aceptable" in section
    assert "Timeline: Decisión subjetiva basada en UX testing" in section


def test_word_errors_stand_beside_the_latency() -> None:
    run = make_run("a", "stt")
    said = [item.text for item in run.items]
    heard = [run.items[0].model_copy(update={"output": said[0] + " ya"}), *run.items[1:]]
    words = sum(len(text.split()) for text in said)
    text = page(run.model_copy(update={"items": heard}), "en")
    assert f"errors in {words} words" in text
    dummy = run.subject.model_copy(update={"weights": "dummy"})
    assert "errors in" not in page(run.model_copy(update={"subject": dummy}), "en")


def test_decision_section_has_justification_and_numbered_steps() -> None:
    text = page(make_run(median_ms=150))
    section = text[text.index("## Decisión") : text.index("## Checklist")]
    assert section.startswith("## Decisión\n\n✅ VIABLE (escenario A)\n")
    assert "**Justificación**:\n\n- Latencia P50: 1" in section
    assert "con una confianza del 95 %, 120 inferencias" in section
    assert "**Próximos pasos**:\n\n1. " in section


def test_undecided_is_not_called_viable() -> None:
    decision = dataclasses.replace(judge(make_run()), status="undecided", scenario=None)
    assert decision_label(decision, "es") == "❔ SIN DECIDIR"


def test_checklist_words_are_the_guides_and_evidence_stands_beside() -> None:
    run = make_run("Qwen3-VL-4B-Instruct", "graph")
    text = page(run, comparisons=(make_comparison(run, make_run("Qwen3-Omni-30B", "graph")),))
    for words in (
        "- [x] Modelo ONNX descargado y verificado — ",
        "- [x] Benchmark de latencia ejecutado (≥20 iteraciones) — 24 o más",
        "- [x] Comparación con Qwen3-Omni-30B realizada — ",
        "- [x] RAM usage medido (<4GB objetivo) — pico de 812.0 MB, cumple",
        "- [x] Latencia P50 < 240ms validada (o documentada si no cumple) — ",
        "- [x] Test con audio real (no solo dummy input) — 5 audios de archivo",
        "- [x] Decisión documentada en reporte — escenario A",
        "- [x] Timeline de implementación definido — ",
    ):
        assert words in text, words


def test_every_box_can_stay_open_with_a_reason() -> None:
    run = make_run(
        median_ms=240, sigma=0.3, rounds=6, source="synthetic", files=[], peak_rss=0, sessions=[]
    )
    run = run.model_copy(update={"sessions": make_run(peak_rss=0).sessions})
    one = judged(run)
    check = dataclasses.replace(one.decision.check("p50"), status="undecided", runs_needed=31)
    decision = dataclasses.replace(
        one.decision,
        status="undecided",
        scenario=None,
        checks=(check, *one.decision.checks[1:]),
        runs_needed=31,
    )
    found = checklist(run, one.summary, decision)
    assert [box.key for box in found if box.ticked] == []
    text = render([Judged(run, one.summary, decision)], [], "es")
    lines = [line for line in text.splitlines() if line.startswith("- [")]
    assert len(lines) == 8
    assert all(line.startswith("- [ ] ") and " — " in line for line in lines)
    assert "el audio con menos tiene 6 inferencias" in text
    assert "Faltan unas 31 inferencias" in text
    assert "dé grabaciones con --corpus" in text


def test_model_is_verified_only_with_whole_hashes_and_real_weights() -> None:
    short = [FileInfo(path="m.onnx", bytes=1, sha256="abc")]
    assert boxes(make_run())["model"].ticked
    assert boxes(make_run(files=short))["model"].reason.code == "report.why_model_hash"
    dummy = make_run(subject={"weights": "dummy"})
    assert boxes(dummy)["model"].reason.code == "report.why_model_dummy"


def test_19_iterations_of_any_clip_leave_the_box_open() -> None:
    run = make_run(rounds=20)
    assert boxes(run)["iterations"].ticked
    assert not boxes(run.model_copy(update={"samples": run.samples[:-1]}))["iterations"].ticked


def test_an_unfair_comparison_or_one_of_others_does_not_count() -> None:
    run = make_run("a")
    other = make_run("b")
    assert boxes(run, make_comparison(run, other))["comparison"].ticked
    assert boxes(other, make_comparison(run, other))["comparison"].ticked
    unfair = make_comparison(run, other, unfair=[Note(code="unfair_kind")])
    assert not boxes(run, unfair)["comparison"].ticked
    assert not boxes(run, make_comparison(make_run("c"), other))["comparison"].ticked


def test_p50_that_fails_is_documented_and_so_ticked() -> None:
    box = boxes(make_run(median_ms=800))["p50"]
    assert box.ticked
    assert box.reason.fields["state"] == "fail"


def cells(row: str) -> list[str]:
    return re.split(r"(?<!\\)\|", row.strip("|"))


@pytest.mark.parametrize("lang", ["es", "en"])
def test_hostile_text_breaks_neither_tables_nor_the_page(lang: str) -> None:
    run = make_run(
        HOSTILE,
        text=HOSTILE,
        notes=[Note(code="nan_output", fields={"items": HOSTILE}), Note(code=HOSTILE)],
        status="failed",
        failure=Failure(code=HOSTILE, fields={}),
        files=[FileInfo(path=HOSTILE, bytes=1, sha256="0" * 64)],
    )
    text = page([run, make_run("x" * 500)], lang, (make_comparison(run, make_run("b")),))
    assert "<script" not in text
    assert "\n## título" not in text
    assert not re.search(r"(?<!\\)\]\(http", text)
    assert "![i]" not in text
    assert "://e.vil" not in text.replace("&#58;", "")
    tables = re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE)
    assert len(tables) > 8
    for table in tables:
        widths = {len(cells(row)) for row in table.splitlines()}
        assert len(widths) == 1, table


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a|b", r"a\|b"),
        ("<b>", "&lt;b&gt;"),
        ("`x`", r"\`x\`"),
        ("1. uno", "&#49;. uno"),
        ("1.27.0", "1.27.0"),
        ("- x", r"\- x"),
        ("# x", r"\# x"),
        ("uno\ndos", "uno dos"),
        ("\x1b[31m", "\N{REPLACEMENT CHARACTER}\\[31m"),
        ("\ud800", "\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_escape(text: str, shown: str) -> None:
    assert escape(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a/b.onnx", "`a/b.onnx`"),
        ("a`b", r"<code>a\`b</code>"),
        ("a|b", r"<code>a\|b</code>"),
        ("<script>", "<code>&lt;script&gt;</code>"),
        ("", ""),
    ],
)
def test_code(text: str, shown: str) -> None:
    assert code(text) == shown


def test_several_runs_get_a_section_each_and_an_overview() -> None:
    runs = [make_run("stt"), make_run("tts", "tts"), make_run("stt+tts", "cascade")]
    text = page(runs)
    assert headings(text)[0] == "# Resultados Benchmark"
    for run in runs:
        assert f"## Resultados Benchmark: {run.subject.name}\n" in text
        assert re.search(rf"^\| {re.escape(run.subject.name)} \| \d", text, re.MULTILINE)
    assert text.count("### Checklist de Validación") == 3
    assert text.count("## Entorno") == 1


def test_english_report_has_the_same_sections() -> None:
    run = make_run()
    spanish, english = page(run), page(run, "en")
    levels = [[line.split(" ")[0] for line in headings(text)] for text in (spanish, english)]
    assert levels[0] == levels[1]
    assert "## Validation checklist" in english
    assert "Latencia" not in english


def test_every_key_that_the_code_names_is_in_both_catalogues() -> None:
    folder = Path(__file__).parents[1] / "src/vozmetro/report"
    named = {
        key
        for source in folder.glob("*.py")
        for key in re.findall(
            r'"((?:report|terminal|guide|plots|html)\.\w+)"', source.read_text("utf-8")
        )
    }
    named -= {"report.md", "report.html"}
    assert len(named) > 100
    for lang in ("es", "en"):
        assert named <= set(catalogue(lang)), named - set(catalogue(lang))


def test_no_scenario_and_only_p50_failing_names_it() -> None:
    # The samples leave two scenarios open and fail in both of them.
    run = make_run(median_ms=500)
    decision = dataclasses.replace(judge(run), status="fail", scenario=None)
    found = checklist(run, judged(run).summary, decision, [])
    box = next(one for one in found if one.key == "decision")
    assert box.ticked
    assert box.reason.fields == {"names": "p50"}
