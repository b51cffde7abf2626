"""What a person sees on a terminal of 80 columns, in both languages."""

from __future__ import annotations

import dataclasses
import io
import re
from collections.abc import Callable

import pytest
from rich.cells import cell_len
from rich.console import Console
from run_factory import make_comparison, make_environment, make_run

from vozmetro.judge.comparison import compare_record
from vozmetro.judge.decision import Decision, judge
from vozmetro.judge.statistics import summarize_run
from vozmetro.measure.records import Failure, Item, Note, Run
from vozmetro.report.terminal import print_comparison, print_environment, print_run

LONG = "organizacion/un-modelo-de-nombre-larguisimo-Qwen3-VL-4B-Instruct-turbo-int8.onnx"
LANGUAGES = ["es", "en"]


def terminal(width: int = 80, **options: object) -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(file=file, width=width, **options), file  # type: ignore[arg-type]


def shown(run: Run, lang: str = "es", decision: Decision | None = None) -> str:
    console, file = terminal()
    print_run(console, run, summarize_run(run), decision or judge(run), lang)
    return file.getvalue()


def compared(a: Run, b: Run, lang: str = "es", **changes: object) -> str:
    console, file = terminal()
    print_comparison(console, compare_record(make_comparison(a, b, **changes)), lang)
    return file.getvalue()


def flat(text: str) -> str:
    """The text as one line, so that a wrapped sentence is still found."""
    return " ".join(text.split())


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("kind", ["graph", "stt", "tts", "cascade"])
@pytest.mark.parametrize("name", ["whisper-base", LONG * 2, "模型" * 30])
def test_80_columns_and_nothing_cut(lang: str, kind: str, name: str) -> None:
    run = make_run(name, kind, median_ms=12_345, sigma=0.5, rounds=8, text="palabra " * 40)
    text = shown(run, lang) + compared(run, make_run("b", median_ms=0.2, rounds=8), lang)
    console, file = terminal()
    print_environment(console, make_environment(cpu="C" * 100), lang)
    lines = (text + file.getvalue()).splitlines()
    assert max(map(cell_len, lines)) <= 80
    # rich would end a cut cell in an ellipsis; the only one of ours shortens a name given in full.
    cut = [line for line in lines if "…" in line and "(" not in line]
    assert not cut
    assert name in "".join(line.strip() for line in lines)


def test_bench_shows_every_part_in_spanish() -> None:
    text = shown(make_run(kind="cascade", median_ms=180))
    for words in (
        "CTranslate2 INT8 · 72.6 M parámetros · 145.0 MB · 4 hilos",
        "faster-whisper 1.2.1 · piper 1.3.0",
        "Reloj post-endpoint",
        "Carga                     1.23 s",
        "Primera inferencia        410.0 ms",
        "suficiente",
        "después de 2 s sin trabajo",
        "Parte: STT",
        "Parte: TTS, primer audio",
        "1.90 núcleos de 4 permitidos",
        "Modelo cargado",
        "812.0 MB",
        "Buenos días, ¿qué tal?",
        "🎯 VEREDICTO: ✅ CUMPLE · escenario A",
        "con una confianza del 95 %, 120 inferencias",
        "Próximos pasos:",
    ):
        assert words in text, words


def test_bench_names_the_other_clock_in_english() -> None:
    text = shown(make_run(median_ms=180), "en")
    assert "Per-inference clock: one call of the model." in text
    assert "🎯 VERDICT: ✅ PASS · scenario A" in text
    assert "with 95 % confidence, 120 inferences" in text


def row_of(text: str, start: str) -> str:
    return next(line for line in text.splitlines() if line.strip().startswith(start))


def test_limits_show_value_interval_limit_state_and_role() -> None:
    text = shown(make_run(median_ms=180))
    row = row_of(text, "Latencia P50")
    assert "<240ms  ✅ cumple" in row
    assert "decide" in row
    assert "[1" in row
    assert "informa" in row_of(text, "Latencia P90")
    assert "<4GB" in row_of(text, "RAM (pico)  ")
    assert "❌ no cumple" in row_of(shown(make_run(median_ms=420)), "Latencia P50")


def test_p99_of_few_samples_is_called_not_resolvable_with_its_n() -> None:
    run = make_run(lengths=(1.0,), rounds=20)
    assert "P99 no se puede resolver con 20 muestras efectivas: su intervalo" in flat(shown(run))
    assert "P99 cannot be resolved with 20 effective samples" in flat(shown(run, "en"))
    # Samples alone, judged without that note, are called the same.
    silent = dataclasses.replace(judge(run), notes=())
    assert "P99 no es resoluble con 20 inferencias independientes" in flat(
        shown(run, decision=silent)
    )
    assert ", –]" in row_of(shown(run), "Latencia P99")


def test_resolved_percentiles_are_not_called_unresolvable() -> None:
    run = make_run()
    decision = judge(run)
    known = tuple(
        dataclasses.replace(check, low=check.value, high=check.value) for check in decision.checks
    )
    text = shown(run, decision=dataclasses.replace(decision, checks=known))
    assert "resol" not in text


def undecided(run: Run, needed: int | None) -> Decision:
    decision = judge(run)
    check = dataclasses.replace(decision.check("p50"), status="undecided", runs_needed=needed)
    return dataclasses.replace(
        decision,
        status="undecided",
        scenario=None,
        scenario_candidates=("A", "C"),
        checks=(check, *decision.checks[1:]),
        runs_needed=needed,
    )


def test_undecided_says_how_many_runs_and_which_scenarios_remain() -> None:
    run = make_run(median_ms=240)
    text = flat(shown(run, decision=undecided(run, 57)))
    assert "❔ SIN DECIDIR" in text
    assert "Faltan unas 57 inferencias más para decidirlo." in text
    assert "Escenarios todavía posibles: A, C." in text
    assert "CUMPLE ·" not in text


def test_undecided_without_forecast_says_so() -> None:
    run = make_run(median_ms=240)
    assert "No se puede prever" in shown(run, decision=undecided(run, None))


def test_failing_ram_is_named() -> None:
    text = shown(make_run(median_ms=150, peak_rss=5_100_000_000))
    assert "No cumple: RAM (pico)." in text
    assert "❌ NO CUMPLE" in text


def test_insufficient_warmup_stands_out() -> None:
    run = make_run()
    session = run.sessions[0].model_copy(update={"warmup_sufficient": False})
    assert "INSUFICIENTE" in shown(run.model_copy(update={"sessions": [session]}))


def test_unknown_codes_of_newer_versions_show_bare() -> None:
    note = Note(code="from_the_future", fields={"x": "1"})
    failure = Failure(code="new_failure", fields={})
    run = make_run(notes=[note], status="failed", failure=failure)
    text = shown(run)
    assert "from_the_future" in text
    assert "MEDICIÓN PARCIAL (falló)" in text
    assert "new_failure" in flat(text)


def test_outside_text_cannot_steer_the_terminal() -> None:
    text = "\x1b[2J\x1b]0;title\x07[bold red]hola[/bold red] :smile: \u202egro"
    run = make_run("m\x1b[31m[red]x", text=text)
    out = shown(run)
    assert "\x1b" not in out
    assert "\x07" not in out
    assert "\u202e" not in out
    assert "[red]x" in out
    assert ":smile:" in out


def test_colour_only_on_a_terminal() -> None:
    run = make_run()
    assert "\x1b[" not in shown(run)
    console, file = terminal(force_terminal=True, color_system="standard")
    print_run(console, run, summarize_run(run), judge(run), "es")
    assert "\x1b[" in file.getvalue()


def test_many_items_are_counted_not_scrolled() -> None:
    lengths = tuple(1.0 + index / 10 for index in range(30))
    text = shown(make_run(lengths=lengths, rounds=2))
    assert "… y 10 más, en report.md" in text


def partial(run: Run) -> Run:
    return run.model_copy(update={"samples": run.samples[:3], "status": "interrupted"})


def without_sessions(run: Run) -> Run:
    return run.model_copy(update={"sessions": []})


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("less", [partial, without_sessions])
def test_little_data_is_shown_as_little_not_as_nan(lang: str, less: Callable[[Run], Run]) -> None:
    run = less(make_run(rounds=1))
    text = shown(run, lang) + compared(run, run, lang)
    assert not re.search(r"\bnan\b|\bNone\b", text)
    assert "✅ CUMPLE" not in text
    assert "✅ PASS" not in text
    assert max(map(cell_len, text.splitlines())) <= 80


def test_item_without_samples_is_left_out() -> None:
    run = make_run(rounds=4)
    more = Item(id="nunca", seconds=1.0, source="corpus")
    assert "nunca" not in shown(run.model_copy(update={"items": [*run.items, more]}))


def test_comparison_shows_both_verdicts_and_the_ratio() -> None:
    text = compared(make_run("tiny", median_ms=120, seed=1), make_run("base", median_ms=600))
    assert "A (tiny): ✅ cumple · escenario A" in text
    assert "B (base): ❌ no cumple · escenario B" in text
    assert "A es más rápido que B" in text
    assert "Bloques ABBA" in text
    assert "→ Recomendación:" in text


def test_comparison_prints_that_it_is_unfair() -> None:
    note = Note(code="unfair_kind", fields={"a": "stt", "b": "graph"})
    text = compared(make_run("a"), make_run("b"), unfair=[note], mode="alternating")
    assert "COMPARACIÓN DESIGUAL (--unfair)" in text
    assert "no caben juntos en RAM" in flat(text)


@pytest.mark.parametrize(("lang", "words"), [("es", "1.20 %"), ("en", "1.20 %")])
def test_environment_shows_the_machine_and_its_noise(lang: str, words: str) -> None:
    console, file = terminal()
    print_environment(console, make_environment(), lang)
    assert "i7-7700HQ" in file.getvalue()
    assert words in file.getvalue()
    assert "None" not in file.getvalue()


def test_environment_leaves_out_what_could_not_be_read() -> None:
    console, file = terminal()
    bare = make_environment(
        cores_physical=None, frequency_mhz=None, governor="", load=None, noise=None, versions={}
    )
    print_environment(console, bare, "es")
    assert "None" not in file.getvalue()
    assert "Frecuencia" not in file.getvalue()
    assert "no comprobado" in file.getvalue()
