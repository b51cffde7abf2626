"""`vozmetro demo`: the main job on the models and the speech of the `demo` extra."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rich.console import Console

from vozmetro import api
from vozmetro.cli.measure import output_folder
from vozmetro.cli.options import command_line
from vozmetro.cli.progress import ProgressLine
from vozmetro.cli.report import write_beside
from vozmetro.cli.run import INTERRUPTED
from vozmetro.errors import VozmetroError
from vozmetro.i18n import t
from vozmetro.judge.statistics import summarize_run
from vozmetro.measure.records import ComparisonRecord, Run
from vozmetro.planning import Options
from vozmetro.report.bundle import write_report
from vozmetro.report.quality_judged import verdict
from vozmetro.report.terminal import print_comparison, print_environment, print_run

FAST = "whisper-base-onnx-int8@context=3.0"
"""INT8 weights, and an encoder that hears the utterance and 3 s of silence instead of 30 s.

With less silence the decoder more often runs in a loop and has to begin again; how often, and what
it costs, is what `benchmarks/whisper.py` prints."""
# With how many times the asked iterations: English-only subjects have half of the utterances.
ALONE = {
    "whisper-base-onnx": 1,
    FAST: 2,
    "whisper-base": 1,
    "piper-joe": 2,
    f"{FAST}+piper-joe": 2,
}
PAIR = ("whisper-base-onnx", FAST)
# Whole stages of a slow machine are cut here, so that the demo ends in minutes all the same.
_STAGE_S = 75.0


def demo(out: Path | None, corpus: str | None, iterations: int, lang: str) -> int:
    """Measures each subject alone, two side by side, and the cascade; prints and reports.

    Returns:
        0 where everything was measured, whatever the verdicts: a demo does not gate.
    """
    with output_folder(out, "demo") as folder:
        return _stages(folder, corpus, iterations, lang)


def _stages(folder: Path, corpus: str | None, iterations: int, lang: str) -> int:
    """Measures one subject after the other, and reports."""
    console = Console()
    options = Options(
        iterations=iterations,
        corpus=corpus,
        until="iterations",
        max_time_s=_STAGE_S,
        command=command_line(),
    )
    console.print(t("cli.demo_intro", lang))
    print_environment(console, api.read_environment(api.QUICK_NOISE_PAIRS), lang)
    runs: list[Run] = []
    for subject, times in ALONE.items():
        console.rule(subject)
        more = replace(options, iterations=times * iterations)
        with ProgressLine(lang) as line:
            run = api.bench(subject, more, out=folder / subject, listen=line)
        runs.append(run)
        decision = verdict(run)
        print_run(console, run, summarize_run(run), decision, lang)
        if run.status != "complete":
            return _stopped(run, folder, runs, [], lang)
    console.rule(" / ".join(PAIR))
    with ProgressLine(lang) as line:
        pairs = replace(options, iterations=iterations * 3 // 2)
        comparison = api.compare(*PAIR, pairs, out=folder / "comparison", listen=line)
    print_comparison(console, comparison, lang)
    record = comparison.record
    if record.a.status != "complete":
        return _stopped(record.a, folder, runs, [record], lang)
    written = [write_report(folder, runs, [record], lang)]
    page = write_beside(folder, runs, [record], lang)
    for path in [*written, *([page] if page else [])]:
        console.print(t("cli.report_written", lang, path=path), soft_wrap=True, markup=False)
    return 0


def _stopped(
    run: Run, folder: Path, runs: list[Run], comparisons: list[ComparisonRecord], lang: str
) -> int:
    """Reports what there is when a stage was interrupted or failed."""
    written = write_report(folder, runs, comparisons, lang)
    console = Console(stderr=True)
    console.print(t("cli.report_written", lang, path=written), soft_wrap=True, markup=False)
    if run.failure is None:
        return INTERRUPTED
    error = VozmetroError(run.failure.code, **run.failure.fields)
    console.print(f"{t('cli.error', lang)} {error.message(lang)}", soft_wrap=True, markup=False)
    return 2
