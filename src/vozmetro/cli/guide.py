"""The benchmark in the layout of the users' guide, for `scripts/benchmark_audio_latency.py`."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import click

from vozmetro import api
from vozmetro.cli import language_in
from vozmetro.cli.localized import LocalizedCommand
from vozmetro.cli.measure import exit_code, output_folder, say_report
from vozmetro.cli.options import language
from vozmetro.cli.progress import ProgressLine
from vozmetro.cli.run import output, run
from vozmetro.i18n import t
from vozmetro.judge.statistics import summarize_run
from vozmetro.planning import Options
from vozmetro.report.guide import guide_comparison, guide_run
from vozmetro.report.quality_judged import verdict


def main() -> int:
    """Runs the script with the words of the command line; returns the exit code.

    It speaks Spanish unless `--lang` says otherwise: it is the program of the Spanish notes.
    """
    words = sys.argv[1:]
    said = any(word.split("=")[0] == "--lang" for word in words)
    lang = language_in(words) if said else "es"
    return run(_command(lang), words, lang, Path(sys.argv[0]).name)


def _command(lang: str) -> click.Command:
    say = partial(t, lang=lang)

    @click.option("--model", metavar=say("cli.m_subject"), help=say("cli.guide_model"))
    @click.option("--compare", is_flag=True, help=say("cli.compare_help"))
    @click.option("--model-a", metavar="A", help=say("cli.guide_model_a"))
    @click.option("--model-b", metavar="B", help=say("cli.guide_model_b"))
    @click.option(
        "--iterations", type=int, default=20, metavar="N", help=say("cli.iterations", default=20)
    )
    @click.option("--corpus", metavar=say("cli.m_folder"), help=say("cli.corpus"))
    @click.option("--threads", type=int, metavar="N", help=say("cli.threads"))
    @click.option(
        "--out", type=click.Path(path_type=Path), metavar=say("cli.m_folder"), help=say("cli.out")
    )
    @language(lang)
    def benchmark(model: str | None, compare: bool, out: Path | None, **given: Any) -> int:
        pair = (given["model_a"], given["model_b"])
        options = Options(
            iterations=given["iterations"],
            corpus=given["corpus"],
            threads=given["threads"],
            command=["python", *sys.argv],
        )
        if compare and all(pair) and not model:
            return _pair(*pair, options, out, lang)
        if model and not compare and not any(pair):
            return _single(model, options, out, lang)
        raise click.UsageError(say("cli.guide_usage"))

    params = list(reversed(getattr(benchmark, "__click_params__", [])))
    text = say("cli.bench_help")
    return LocalizedCommand(None, lang=lang, callback=benchmark, params=params, help=text)


def _single(model: str, options: Options, out: Path | None, lang: str) -> int:
    with output_folder(out, model) as folder:
        with ProgressLine(lang) as line:
            found = api.bench(model, options, out=folder, listen=line)
        decision = verdict(found)
        with output():
            print(guide_run(found, summarize_run(found), decision, lang))
        say_report(folder, [found], [], lang)
        return exit_code([found], [decision], folder, lang)


def _pair(a: str, b: str, options: Options, out: Path | None, lang: str) -> int:
    with output_folder(out, f"{Path(a).stem}-vs-{Path(b).stem}") as folder:
        with ProgressLine(lang) as line:
            comparison = api.compare(a, b, options, out=folder, listen=line)
        record = comparison.record
        with output():
            print(guide_comparison(comparison, lang))
        say_report(folder, [], [record], lang)
        decisions = [comparison.decision_a, comparison.decision_b]
        return exit_code([record.a, record.b], decisions, folder, lang)
