"""The commands. Each parses, calls the package, prints, and returns an exit code."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from vozmetro.cli import (
    convert,
    corpus,
    decide,
    fleet,
    gate,
    history,
    hypotheses,
    listen,
    models,
    quality,
    quantize,
    roofline,
    serve,
    swap,
    tune,
)
from vozmetro.cli import options as shared
from vozmetro.cli.localized import LocalizedCommand, LocalizedGroup
from vozmetro.i18n import t


def build(lang: str) -> click.Group:
    """Returns the command group with its help in `lang`."""
    group = LocalizedGroup("vozmetro", lang=lang, help=t("cli.about", lang), no_args_is_help=True)
    group.params.append(
        click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_version,
            help=t("cli.version", lang),
        )
    )
    shared.language(lang)(group)
    for make in (_bench, _compare, _report, _demo, _env, _subjects):
        group.add_command(make(lang))
    for room in (
        models,
        convert,
        quantize,
        roofline,
        hypotheses,
        quality,
        tune,
        corpus,
        listen,
        decide,
        history,
        fleet,
        gate,
        swap,
        serve,
    ):
        for command in room.commands(lang):
            group.add_command(command)
    return group


def _version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from vozmetro import __version__

        click.echo(f"vozmetro {__version__}")
        ctx.exit()


def _command(name: str, lang: str, function: Any) -> click.Command:
    """A command from a decorated function, with its help from the catalogue."""
    params = list(reversed(getattr(function, "__click_params__", [])))
    text = t(f"cli.{name}_help", lang)
    return LocalizedCommand(
        name, lang=lang, callback=function, params=params, help=text, no_args_is_help=False
    )


def _bench(lang: str) -> click.Command:
    say = partial(t, lang=lang)

    @click.argument("subject", required=False, metavar=say("cli.m_subject"))
    @click.option("--claimed-params", metavar="30B", help=say("cli.claimed_params"))
    @click.option(
        "--resume", type=click.Path(path_type=Path), metavar="RUN", help=say("cli.resume")
    )
    @shared.measuring(lang)
    def bench(subject: str | None, resume: Path | None, **chosen: Any) -> int:
        from vozmetro.cli import measure

        if (subject is None) == (resume is None):
            raise click.UsageError(say("cli.subject_or_resume"))
        if resume is not None:
            shared.refuse_with_resume(lang)
            return measure.resume(resume, chosen, lang)
        return measure.bench(str(subject), chosen, lang)

    return _command("bench", lang, bench)


def _compare(lang: str) -> click.Command:
    say = partial(t, lang=lang)

    @click.argument("a", required=False, metavar="[A")
    @click.argument("b", required=False, metavar="B]")
    @click.option("--unfair", is_flag=True, help=say("cli.unfair"))
    @click.option(
        "--resume", type=click.Path(path_type=Path), metavar="RUN", help=say("cli.resume")
    )
    @shared.measuring(lang, depths=False)
    def compare(
        a: str | None, b: str | None, unfair: bool, resume: Path | None, **chosen: Any
    ) -> int:
        from vozmetro.cli import measure

        if resume is not None and a is None:
            shared.refuse_with_resume(lang)
            return measure.resume(resume, chosen, lang)
        if resume is not None or a is None or b is None:
            raise click.UsageError(say("cli.two_subjects_or_resume"))
        return measure.compare(a, b, unfair, chosen, lang)

    return _command("compare", lang, compare)


def _report(lang: str) -> click.Command:
    say = partial(t, lang=lang)

    @click.argument(
        "runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN..."
    )
    @click.option(
        "--out", type=click.Path(path_type=Path), metavar=say("cli.m_folder"), help=say("cli.out")
    )
    @click.option(
        "--html", is_flag=False, flag_value="", metavar=say("cli.m_html"), help=say("cli.html")
    )
    @shared.language(lang)
    def report(runs: tuple[Path, ...], out: Path | None, html: str | None) -> int:
        from vozmetro.cli.report import report as write

        return write(runs, out, html, lang)

    return _command("report", lang, report)


def _demo(lang: str) -> click.Command:
    say = partial(t, lang=lang)

    @click.option(
        "--out", type=click.Path(path_type=Path), metavar=say("cli.m_folder"), help=say("cli.out")
    )
    @click.option("--corpus", metavar=say("cli.m_folder"), help=say("cli.corpus"))
    @click.option(
        "--iterations", type=int, default=5, metavar="N",
        help=say("cli.iterations", default=5),
    )  # fmt: skip
    @shared.language(lang)
    def demo(out: Path | None, corpus: str | None, iterations: int) -> int:
        from vozmetro.cli.demo import demo as run_demo

        return run_demo(out, corpus, iterations, lang)

    return _command("demo", lang, demo)


def _env(lang: str) -> click.Command:
    say = partial(t, lang=lang)

    @click.option("--json", "as_json", is_flag=True, help=say("cli.json"))
    @shared.language(lang)
    def env(as_json: bool) -> int:
        from rich.console import Console

        from vozmetro.api import read_environment
        from vozmetro.report.terminal import print_environment

        surroundings = read_environment()
        if as_json:
            click.echo(surroundings.model_dump_json(indent=1))
        else:
            print_environment(Console(), surroundings, lang)
        return 0

    return _command("env", lang, env)


def _subjects(lang: str) -> click.Command:
    @shared.language(lang)
    def subjects() -> int:
        from rich.console import Console

        from vozmetro.engines import registry
        from vozmetro.models.catalogue import catalogue
        from vozmetro.report.subjects import print_subjects

        entries = list(catalogue().values())
        print_subjects(Console(), entries, registry.names(), lang)
        return 0

    return _command("subjects", lang, subjects)
