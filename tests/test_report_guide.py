"""The users' guide fixes these words and this layout."""

from __future__ import annotations

import dataclasses
import re

import pytest
from rich.cells import cell_len
from run_factory import make_comparison, make_run

from vozmetro.judge.budget import Budget
from vozmetro.judge.comparison import compare_record
from vozmetro.judge.decision import judge
from vozmetro.judge.statistics import Interval, summarize_run
from vozmetro.measure.records import ComparisonRecord, Note, Run
from vozmetro.report.guide import guide_comparison, guide_run

LONG = "organizacion/un-modelo-de-nombre-larguisimo-Qwen3-VL-4B-Instruct-turbo-int8.onnx"


def shown(run: Run, lang: str = "es", budget: Budget | None = None) -> str:
    return guide_run(run, summarize_run(run), judge(run, budget), lang)


def compared(record: ComparisonRecord, lang: str = "es") -> str:
    return guide_comparison(compare_record(record), lang)


def test_run_has_the_guides_lines_in_its_order() -> None:
    text = shown(make_run(median_ms=180))
    fixed = [
        r"⏱️  Tiempos de Carga:",
        r"   Carga modelo:  1\.23s",
        r"   Warmup \(avg\):  \d+\.\d\ds",
        r"",
        r"⚡ Latencia de Inferencia:",
        r"   P50 promedio:  1[78]\d\.\dms",
        r"   P99 promedio:  \d+\.\dms",
    ]
    assert re.match("\n".join(fixed) + "\n", text)
    assert "\n\n🎯 Objetivo: <240ms\n   ✅ CUMPLE\n" in text


def test_run_that_misses_the_target_says_so_in_the_guides_words() -> None:
    text = shown(make_run(median_ms=420))
    assert "\n🎯 Objetivo: <240ms\n   ❌ NO CUMPLE\n" in text
    assert "✅" not in text


def test_target_comes_from_the_budget() -> None:
    text = shown(make_run(median_ms=180), budget=Budget(p50_ms=150, slow_ms=500))
    assert "🎯 Objetivo: <150ms\n   ❌ NO CUMPLE" in text


def test_mean_says_over_which_audio_and_p99_says_that_it_is_not_resolvable() -> None:
    text = shown(make_run(lengths=(0.5, 1.0, 2.0), rounds=24))
    assert "(promedio sobre 3 audios de 0.5, 1, 2 s)" in text
    assert "P99 no resoluble con 24 inferencias por audio" in text


def test_mean_over_many_lengths_gives_their_range() -> None:
    lengths = tuple(1.0 + 0.25 * index for index in range(12))
    assert "(promedio sobre 12 audios de entre 1 y 3.75 s)" in shown(make_run(lengths=lengths))


def test_resolved_p99_is_not_called_unresolvable() -> None:
    run = make_run(rounds=30)
    summary = summarize_run(run)
    known = Interval(200.0, 190.0, 220.0)
    items = {name: dataclasses.replace(item, p99=known) for name, item in summary.per_item.items()}
    text = guide_run(run, dataclasses.replace(summary, per_item=items), judge(run), "es")
    assert "no resoluble" not in text


def test_undecided_says_how_many_runs_are_missing() -> None:
    run = make_run(median_ms=240, sigma=0.2, rounds=3)
    decision = judge(run)
    check = dataclasses.replace(decision.check("p50"), status="undecided", runs_needed=34)
    checks = (check, *decision.checks[1:])
    open_one = dataclasses.replace(decision, status="undecided", scenario=None, checks=checks)
    text = guide_run(run, summarize_run(run), open_one, "es")
    assert "   ❔ SIN DECIDIR\n     Faltan unas 34 inferencias más para decidirlo.\n" in text
    assert "   ✅ CUMPLE" not in text


def test_ram_that_fails_is_named_though_the_p50_holds() -> None:
    text = shown(make_run(median_ms=150, peak_rss=5_100_000_000))
    assert "   ✅ CUMPLE\n" in text
    assert "RAM (pico) 5.1GB (<4GB): ❌ NO CUMPLE" in text


def test_partial_run_is_labelled() -> None:
    assert "MEDICIÓN PARCIAL (interrumpida)" in shown(make_run(status="interrupted"))
    assert "PARCIAL" not in shown(make_run())


def test_comparison_has_the_guides_header_rules_and_rows() -> None:
    lines = compared(make_comparison()).splitlines()
    header = "Métrica                   Modelo A             Modelo B             Diferencia"
    assert lines[:5] == ["📊 TABLA COMPARATIVA", "=" * 80, "", header, "-" * 80]
    labels = [line[:26].rstrip() for line in lines[5:15]]
    assert labels == [
        "Modelo",
        "Carga (s)",
        "Warmup (s)",
        "Latencia P50 (ms)",
        "Latencia P99 (ms)",
        "Cumple <240ms",
        "Throughput (inf/s)",
        "RAM pico (GB)",
        "WER",
        "Razón A/B, IC",
    ]
    assert lines[15:19] == ["", "=" * 80, "", "🎯 VEREDICTO:"]


def test_comparison_arrows_and_verdicts() -> None:
    text = compared(make_comparison())
    p50 = next(line for line in text.splitlines() if line.startswith("Latencia P50"))
    assert re.search(r"⬇️ -2\d\d \(-6\d%\) 🎯$", p50)
    assert re.search(r"Throughput .*⬆️ \+\d\.\d\d \(\+\d+%\)", text)
    assert re.search(r"Cumple <240ms +✅ SÍ +❌ NO +N/A", text)
    assert "   ✅ Modelo A (whisper-tiny) CUMPLE objetivo (<240ms)\n" in text
    assert "   ❌ Modelo B (whisper-base) NO cumple\n" in text
    assert "\n   → Recomendación: " in text
    assert "A es más rápido que B: razón A/B 0.3" in text


def test_slower_a_points_up() -> None:
    text = compared(make_comparison(make_run("a", median_ms=360), make_run("b", median_ms=120)))
    assert re.search(r"Latencia P50 .*⬆️ \+\d+ \(\+\d+%\) 🎯", text)
    assert "   ❌ Modelo A (a) NO CUMPLE objetivo (<240ms)\n" in text
    assert "   ✅ Modelo B (b) CUMPLE\n" in text
    assert "B es más rápido que A" in text


def test_no_difference_is_not_read_as_a_winner() -> None:
    record = make_comparison(make_run("a", seed=3), make_run("b", seed=4))
    compared_ = compare_record(record)
    even = dataclasses.replace(
        compared_, verdict="no_difference_shown", ratio=Interval(1.002, 0.98, 1.02)
    )
    text = guide_comparison(even, "es")
    assert "No se ha demostrado diferencia entre A y B: razón A/B 1.002 [0.980, 1.020]" in text
    assert "más rápido" not in text.split("VEREDICTO")[1].split("Recomendación")[0]


def test_unfair_and_alternating_are_printed() -> None:
    note = Note(code="unfair_kind", fields={"a": "stt", "b": "graph"})
    text = compared(make_comparison(unfair=[note], mode="alternating"))
    assert "--unfair" in text
    assert "no caben juntos en RAM" in text


@pytest.mark.parametrize("lang", ["es", "en"])
@pytest.mark.parametrize("name", ["m", LONG, LONG * 3, "模型" * 30, "x" * 200])
def test_long_and_wide_names_neither_break_columns_nor_pass_80_cells(lang: str, name: str) -> None:
    a, b = make_run(name, median_ms=1950, rounds=8), make_run(LONG, median_ms=18, rounds=8)
    text = compared(make_comparison(a, b), lang)
    lines = text.splitlines()
    assert max(map(cell_len, lines)) <= 80
    rows = lines[5:14]
    assert all(_begins_at(line, column) for line in rows for column in (26, 47))
    assert max(map(cell_len, shown(a, lang).splitlines())) <= 80
    # Nothing is lost: the whole name stands below the table.
    whole = name.rsplit("/", 1)[-1].removesuffix(".onnx")
    assert whole in "".join(line.strip() for line in lines)


def test_a_path_is_called_by_its_last_part_unless_both_are_the_same() -> None:
    paths = ("models/onnx/Qwen3-VL-4B-Instruct.onnx", "models/onnx/agi_audio_core_int8.onnx")
    a, b = (make_run(path, "graph", seed=seed) for seed, path in enumerate(paths))
    text = compared(make_comparison(a, b))
    assert re.search(r"Modelo +Qwen3-VL-4B-Instruct agi_audio_core_int8 ", text)
    assert "Modelo A (Qwen3-VL-4B-Instruct) CUMPLE" in text
    same = (make_run("fp32/m.onnx", "graph"), make_run("int8/m.onnx", "graph"))
    text = compared(make_comparison(*same))
    assert "Modelo A (fp32/m.onnx)" in text
    assert "Modelo B (int8/m.onnx)" in text


def _begins_at(line: str, column: int) -> bool:
    """Whether a word begins exactly `column` cells into the line."""
    found = [index for index in range(len(line)) if cell_len(line[:index]) == column]
    return any(line[index - 1] == " " and line[index] != " " for index in found)
