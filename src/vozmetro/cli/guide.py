"""The benchmark in the layout of the users' guide, for `scripts/benchmark_audio_latency.py`."""

from __future__ import annotations

from pathlib import Path

from vozmetro import api
from vozmetro.cli.measure import exit_code, output_folder
from vozmetro.cli.progress import ProgressLine
from vozmetro.cli.run import guarded, output
from vozmetro.i18n import t
from vozmetro.judge.decision import judge
from vozmetro.judge.statistics import summarize_run
from vozmetro.planning import Options
from vozmetro.report.bundle import write_report
from vozmetro.report.guide import guide_comparison, guide_run


def benchmark(model: str, options: Options, out: Path | None, lang: str) -> int:
    """Measures one model and prints the guide's summary; returns the exit code."""

    def measure() -> int:
        folder = output_folder(out, model)
        with ProgressLine(lang) as line:
            run = api.bench(model, options, out=folder, listen=line)
        decision = judge(run, options.budget)
        written = write_report(folder, [run], [], lang)
        with output():
            print(guide_run(run, summarize_run(run), decision, lang))
            print(t("cli.report_written", lang, path=written))
        return exit_code([run], [decision], folder, lang)

    return guarded(measure, lang)


def benchmark_pair(a: str, b: str, options: Options, out: Path | None, lang: str) -> int:
    """Measures two models side by side and prints the guide's table; returns the exit code."""

    def measure() -> int:
        folder = output_folder(out, f"{Path(a).stem}-vs-{Path(b).stem}")
        with ProgressLine(lang) as line:
            comparison = api.compare(a, b, options, out=folder, listen=line)
        record = comparison.record
        written = write_report(folder, [], [record], lang)
        with output():
            print(guide_comparison(comparison, lang))
            print(t("cli.report_written", lang, path=written))
        decisions = [comparison.decision_a, comparison.decision_b]
        return exit_code([record.a, record.b], decisions, folder, lang)

    return guarded(measure, lang)
