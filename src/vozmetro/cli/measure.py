"""What `bench` and `compare` do: measure with progress, print, write the report, exit code."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from vozmetro import api, studies
from vozmetro.cli.options import RUNS_FOLDER, command_line, to_options
from vozmetro.cli.progress import ProgressLine
from vozmetro.cli.run import INTERRUPTED, output, print_json
from vozmetro.errors import OutputError, VozmetroError
from vozmetro.i18n import t
from vozmetro.judge.comparison import Comparison
from vozmetro.judge.decision import Decision
from vozmetro.judge.depth_report import DepthReport, depth_report
from vozmetro.judge.statistics import summarize_run
from vozmetro.measure.depth_records import DepthStudy
from vozmetro.measure.records import ComparisonRecord, Run
from vozmetro.measure.storage import check_writable
from vozmetro.models.checks import parse_parameters
from vozmetro.planning import new_id
from vozmetro.report.bundle import comparison_json, summary_json, write_report
from vozmetro.report.depths import print_study, study_json, write_study
from vozmetro.report.quality import print_words
from vozmetro.report.quality_judged import run_pairs, verdict
from vozmetro.report.terminal import print_comparison, print_run

# In the order in which the better of two subjects is found.
EXIT_CODES = {"pass": 0, "undecided": 3, "fail": 1}
_BAD = 2


def bench(subject: str, chosen: dict[str, Any], lang: str) -> int:
    """Measures one subject; returns the exit code."""
    if chosen.get("claimed_params"):
        chosen = {**chosen, "claimed_params": parse_parameters(chosen["claimed_params"])}
    options = to_options(chosen, command_line())
    with output_folder(chosen["out"], subject) as out:
        if studies.wants_study(subject, options):
            with ProgressLine(lang) as line:
                study = studies.study(subject, options, out=out, listen=line)
            return show_study(study, out, chosen, lang)
        with ProgressLine(lang) as line:
            run = api.bench(subject, options, out=out, listen=line)
        return show_run(run, out, chosen, lang)


def compare(a: str, b: str, unfair: bool, chosen: dict[str, Any], lang: str) -> int:
    """Measures two subjects side by side; returns the exit code."""
    options = to_options(chosen, command_line())
    if options.layers or options.check_full:
        raise click.UsageError(t("cli.layers_alone", lang))
    with output_folder(chosen["out"], f"{Path(a).stem}-vs-{Path(b).stem}") as out:
        with ProgressLine(lang) as line:
            comparison = api.compare(a, b, options, out=out, listen=line, unfair=unfair)
        return show_comparison(comparison, out, chosen, lang)


def resume(path: Path, chosen: dict[str, Any], lang: str) -> int:
    """Goes on with a saved measurement; returns the exit code."""
    folder = path if path.is_dir() else path.parent
    check_writable(folder)
    with ProgressLine(lang) as line:
        result = api.resume(path, listen=line)
    if isinstance(result, DepthStudy):
        return show_study(result, folder, chosen, lang)
    if isinstance(result, Comparison):
        return show_comparison(result, folder, chosen, lang)
    return show_run(result, folder, chosen, lang)


@contextlib.contextmanager
def output_folder(given: Path | None, name: str) -> Iterator[Path]:
    """Gives the folder to write to, tried out before anything is measured.

    A folder in which nothing came to lie, because of an error, is taken away again.

    Raises:
        OutputError: `unwritable` or `disk_full`.
    """
    folder = given or RUNS_FOLDER / new_id(name)
    known = folder.exists()
    check_writable(folder)
    try:
        yield folder
    finally:
        if not known and not any(folder.iterdir()):
            folder.rmdir()


def show_run(run: Run, out: Path, chosen: dict[str, Any], lang: str) -> int:
    """Prints a run and writes its report; returns the exit code."""
    decision = verdict(run)
    summary = summarize_run(run)
    with output():
        if chosen["as_json"]:
            found = summary_json(run, summary, decision)
            print_json(found)
        else:
            print_run(Console(), run, summary, decision, lang)
            if chosen.get("quality"):
                print_words(Console(), [run], [], lang)
    say_report(out, [run], [], lang, quiet=chosen["as_json"])
    return exit_code([run], [decision], out, lang, chosen["no_gate"])


def show_comparison(comparison: Comparison, out: Path, chosen: dict[str, Any], lang: str) -> int:
    """Prints a comparison and writes its report; returns the exit code of the better one."""
    record = comparison.record
    decisions = [comparison.decision_a, comparison.decision_b]
    with output():
        if chosen["as_json"]:
            print_json(comparison_json(comparison))
        else:
            print_comparison(Console(), comparison, lang)
            if chosen.get("quality"):
                print_words(Console(), [record.a, record.b], run_pairs(record)[:1], lang)
    say_report(out, [], [record], lang, quiet=chosen["as_json"])
    return exit_code([record.a, record.b], decisions, out, lang, chosen["no_gate"])


def show_study(study: DepthStudy, out: Path, chosen: dict[str, Any], lang: str) -> int:
    """Prints a study of depths and writes its report; returns the exit code."""
    found = depth_report(study)
    with output():
        if chosen["as_json"]:
            print_json(study_json(study, found))
        else:
            print_study(Console(), study, found, lang)
    _say(lambda: write_study(out, study, found, lang), out, lang, chosen["as_json"])
    return exit_code([study], [found], out, lang, chosen["no_gate"])


def say_report(
    out: Path,
    runs: Sequence[Run],
    comparisons: Sequence[ComparisonRecord],
    lang: str,
    quiet: bool = False,
) -> None:
    """Writes the report, after the verdict was printed, and says where it is.

    Raises:
        OutputError: It cannot be written; what was measured stays saved, and that is said.
    """
    _say(lambda: write_report(out, runs, comparisons, lang), out, lang, quiet)


def _say(write: Callable[[], Path], out: Path, lang: str, quiet: bool) -> None:
    try:
        written = write()
    except OutputError:
        click.echo(t("cli.partial_saved", lang, path=out), err=True)
        raise
    if not quiet:
        with output():
            click.echo(t("cli.report_written", lang, path=written))


def exit_code(
    runs: Sequence[Run | DepthStudy],
    decisions: Sequence[Decision | DepthReport],
    out: Path,
    lang: str,
    no_gate: bool = False,
) -> int:
    """Returns the exit code; says on standard error how an incomplete measurement ended.

    Of two subjects the better one counts: one that passes is an answer.
    """
    for run in runs:
        if run.status == "failed" and run.failure is not None:
            error = VozmetroError(run.failure.code, **run.failure.fields)
            click.echo(f"{t('cli.error', lang)} {error.message(lang)}", err=True)
            click.echo(t("cli.partial_saved", lang, path=out), err=True)
            return _BAD
        if run.status == "interrupted":
            command = "bench" if len(runs) == 1 else "compare"
            click.echo(t("cli.interrupted", lang, command=command, path=out), err=True)
            return INTERRUPTED
    if no_gate:
        return 0
    found = {decision.status for decision in decisions}
    return next(code for status, code in EXIT_CODES.items() if status in found)
