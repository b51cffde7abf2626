"""`vozmetro quality`: how well subjects hear, or what voices say, on real speech."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from vozmetro.cli.localized import LocalizedCommand
from vozmetro.cli.options import command_line, having, language
from vozmetro.cli.run import INTERRUPTED, output, print_json
from vozmetro.errors import VozmetroError
from vozmetro.i18n import t


def commands(lang: str) -> list[click.Command]:
    """Returns `quality`."""
    say = partial(t, lang=lang)
    options = [
        click.argument("subjects", nargs=-1, metavar=say("cli.m_subjects")),
        click.option("--corpus", metavar="es-ivr,en-ivr", help=say("cli.quality_corpus")),
        click.option("--languages", metavar="es,en", help=say("cli.languages")),
        click.option("--limit", type=click.IntRange(min=1), metavar="N", help=say("cli.limit")),
        click.option("--conditions", default="clean", metavar="clean,ssn@10",
                     help=say("cli.conditions")),
        click.option("--baseline", metavar=say("cli.m_subject"), help=say("cli.baseline")),
        click.option("--judge", metavar="STT", help=say("cli.judge")),
        click.option("--repeats", type=int, default=1, metavar="N", help=say("cli.repeats")),
        click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu",
                     help=say("cli.device", default="cpu")),
        click.option("--threads", type=int, metavar="N", help=say("cli.threads")),
        click.option("--budget", type=click.Path(path_type=Path), metavar="TOML",
                     help=say("cli.budget")),
        click.option("--seed", type=int, default=0, metavar="N", help=say("cli.seed")),
        click.option("--out", type=click.Path(path_type=Path), metavar=say("cli.m_folder"),
                     help=say("cli.out")),
        click.option("--resume", type=click.Path(path_type=Path), metavar="RUN",
                     help=say("cli.resume")),
        click.option("--executor", type=click.Choice(["local", "ray"]), default="local",
                     help=say("cli.executor")),
        click.option("--address", default="local", metavar="local|auto|HOST:PORT",
                     help=say("cli.address")),
        click.option("--shards", type=click.IntRange(min=1), metavar="N", help=say("cli.shards")),
        click.option("--workers", type=click.IntRange(min=1), metavar="N",
                     help=say("cli.workers")),
        click.option("--utterance-limit", type=click.FloatRange(min=0.1, max=86_400.0),
                     default=120.0, metavar="S", help=say("cli.utterance_limit")),
        click.option("--json", "as_json", is_flag=True, help=say("cli.json")),
        click.option("--no-gate", is_flag=True, help=say("cli.no_gate")),
        language(lang),
    ]  # fmt: skip

    def quality(subjects: tuple[str, ...], **chosen: Any) -> int:
        return _quality(subjects, chosen, lang)

    function: Any = having(options)(quality)
    params = list(reversed(function.__click_params__))
    text = say("cli.quality_help")
    return [LocalizedCommand("quality", lang=lang, callback=function, params=params, help=text)]


def _quality(subjects: tuple[str, ...], chosen: dict[str, Any], lang: str) -> int:
    from vozmetro.assess import study
    from vozmetro.cli.measure import output_folder
    from vozmetro.cli.options import refuse_with_resume
    from vozmetro.cli.progress import ProgressLine
    from vozmetro.measure.storage import check_writable, load_quality

    resumed = chosen["resume"]
    if bool(subjects) == bool(resumed) or (subjects and not chosen["corpus"]):
        raise click.UsageError(t("cli.quality_usage", lang))
    divided = resumed is not None and load_quality(resumed).settings.executor == "ray"
    if divided or chosen["executor"] == "ray":
        return _on_ray(subjects, chosen, lang)
    _refuse_without_ray(lang)
    if resumed is not None:
        refuse_with_resume(lang)
        folder = resumed if resumed.is_dir() else resumed.parent
        check_writable(folder)
        with ProgressLine(lang) as line:
            found = study.resume(resumed, listen=line)
        return _show(found, folder, chosen, lang)
    options = _options(chosen)
    with output_folder(chosen["out"], f"quality-{Path(subjects[0]).stem}") as out:
        with ProgressLine(lang) as line:
            found = study.quality(subjects, options, out=out, listen=line)
        return _show(found, out, chosen, lang)


_RAY_ONLY = ("address", "shards", "workers", "utterance_limit")


def _refuse_without_ray(lang: str) -> None:
    """Refuses options that say how Ray divides a study, where nothing is divided.

    Raises:
        click.UsageError: Naming the first one.
    """
    context = click.get_current_context()
    for param in context.command.params:
        said = context.get_parameter_source(param.name or "") is ParameterSource.COMMANDLINE
        if said and param.name in _RAY_ONLY:
            raise click.UsageError(t("cli.ray_only", lang, option=param.opts[0]))


def _on_ray(subjects: tuple[str, ...], chosen: dict[str, Any], lang: str) -> int:
    """Has the workers of a Ray cluster hear a corpus in parts."""
    from vozmetro.assess import sharded
    from vozmetro.assess.shards_on_ray import hushed, on_ray, workers_for
    from vozmetro.cli.measure import output_folder
    from vozmetro.cli.options import refuse_with_resume
    from vozmetro.cli.progress import ProgressLine
    from vozmetro.fleet.cluster import connect
    from vozmetro.measure.storage import check_writable, load_quality

    resumed = chosen["resume"]
    threads = chosen["threads"] or 1
    if resumed is not None:
        refuse_with_resume(lang, but=("executor", "address", "workers", "utterance_limit"))
        threads = load_quality(resumed).settings.threads

    def sharding() -> sharded.Sharding:
        fitting = workers_for(threads)
        return sharded.Sharding(
            on_ray,
            chosen["workers"] or fitting,
            chosen["shards"],
            chosen["utterance_limit"],
        )

    @contextmanager
    def connected() -> Iterator[ProgressLine]:
        with ExitStack() as stack:
            with hushed():
                stack.enter_context(connect(chosen["address"], from_outside=False))
            # Ray tells of lost machines on standard output, where JSON may be expected.
            nowhere = stack.enter_context(Path(os.devnull).open("w", encoding="utf-8"))
            stack.enter_context(redirect_stdout(nowhere))
            yield stack.enter_context(ProgressLine(lang))

    if resumed is not None:
        folder = resumed if resumed.is_dir() else resumed.parent
        check_writable(folder)
        with connected() as line:
            found = sharded.resume(resumed, sharding(), listen=line)
        return _show(found, folder, chosen, lang)
    options = _options(chosen)
    with output_folder(chosen["out"], f"quality-{Path(subjects[0]).stem}") as out:
        with connected() as line:
            found = sharded.quality(subjects, options, sharding(), out=out, listen=line)
        return _show(found, out, chosen, lang)


def _options(chosen: dict[str, Any]) -> Any:
    from vozmetro.api import load_budget
    from vozmetro.assess.options import QualityOptions
    from vozmetro.judge.budget import Budget

    return QualityOptions(
        corpus=chosen["corpus"],
        languages=[one.strip() for one in (chosen["languages"] or "").split(",") if one.strip()],
        limit=chosen["limit"],
        conditions=chosen["conditions"],
        judge=chosen["judge"] or "",
        repeats=chosen["repeats"],
        baseline=chosen["baseline"] or "",
        threads=chosen["threads"],
        device=chosen["device"],
        seed=chosen["seed"],
        budget=load_budget(chosen["budget"]) if chosen["budget"] else Budget(),
        command=command_line(),
    )


def _show(study: Any, out: Path, chosen: dict[str, Any], lang: str) -> int:
    """Prints a study, writes its report, and returns the exit code."""
    from rich.console import Console

    from vozmetro.report.quality import print_quality
    from vozmetro.report.quality_judged import judged_study
    from vozmetro.report.quality_page import study_json, write_quality

    judged = judged_study(study)
    with output():
        if chosen["as_json"]:
            print_json(study_json(judged))
        else:
            print_quality(Console(), judged, lang)
    written = write_quality(out, judged, lang)
    if not chosen["as_json"]:
        with output():
            click.echo(t("cli.report_written", lang, path=written))
    return _exit_code(judged, out, chosen["no_gate"], lang)


def _exit_code(judged: Any, out: Path, no_gate: bool, lang: str) -> int:
    """As for a measurement: of several subjects the better one counts."""
    from vozmetro.cli.measure import EXIT_CODES

    study = judged.study
    if study.status == "failed" and study.failure is not None:
        error = VozmetroError(study.failure.code, **study.failure.fields)
        click.echo(f"{t('cli.error', lang)} {error.message(lang)}", err=True)
        click.echo(t("cli.partial_saved", lang, path=out), err=True)
        return 2
    if study.status == "interrupted":
        click.echo(t("cli.interrupted", lang, command="quality", path=out), err=True)
        return INTERRUPTED
    for one in judged.systems:
        if one.system.failure is not None:
            error = VozmetroError(one.system.failure.code, **one.system.failure.fields)
            click.echo(f"{t('cli.error', lang)} {one.name}: {error.message(lang)}", err=True)
            click.echo(t("cli.partial_saved", lang, path=out), err=True)
            return 2
    found = {one.status for one in judged.systems}
    if no_gate or not any(one.checks for one in judged.systems):
        return 0
    return next(code for status, code in EXIT_CODES.items() if status in found)
