"""What `bench` does with a model that is measured at several depths."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from vozmetro import studies
from vozmetro.cli.progress import ProgressLine
from vozmetro.cli.run import INTERRUPTED, output
from vozmetro.errors import OutputError, VozmetroError
from vozmetro.i18n import t
from vozmetro.judge.depth_report import depth_report
from vozmetro.measure.depth_records import DepthStudy
from vozmetro.planning import Options
from vozmetro.report.depths import print_study, study_json, write_study

EXIT_CODES = {"pass": 0, "undecided": 3, "fail": 1}
_BAD = 2


def bench_study(
    subject: str, options: Options, out: Path, chosen: dict[str, Any], lang: str
) -> int:
    """Measures a study; returns the exit code."""
    with ProgressLine(lang) as line:
        study = studies.study(subject, options, out=out, listen=line)
    return show_study(study, out, chosen, lang)


def show_study(study: DepthStudy, out: Path, chosen: dict[str, Any], lang: str) -> int:
    """Prints a study and writes its report; returns the exit code."""
    report = depth_report(study)
    with output():
        if chosen["as_json"]:
            click.echo(json.dumps(study_json(study, report), ensure_ascii=False, indent=1))
        else:
            print_study(Console(), study, report, lang)
    try:
        written = write_study(out, study, report, lang)
    except OutputError:
        click.echo(t("cli.partial_saved", lang, path=out), err=True)
        raise
    if not chosen["as_json"]:
        with output():
            click.echo(t("cli.report_written", lang, path=written))
    if study.status == "failed" and study.failure is not None:
        error = VozmetroError(study.failure.code, **study.failure.fields)
        click.echo(f"{t('cli.error', lang)} {error.message(lang)}", err=True)
        click.echo(t("cli.partial_saved", lang, path=out), err=True)
        return _BAD
    if study.status == "interrupted":
        click.echo(t("cli.interrupted", lang, command="bench", path=out), err=True)
        return INTERRUPTED
    return 0 if chosen["no_gate"] else EXIT_CODES[report.status]
