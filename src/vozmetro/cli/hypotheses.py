"""`vozmetro hypotheses`: what somebody claims, held against measurements."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import click

from vozmetro.cli import options as shared
from vozmetro.cli.localized import LocalizedCommand, LocalizedGroup
from vozmetro.i18n import t


def commands(lang: str) -> list[click.Command]:
    """Returns the group `hypotheses`."""
    group = LocalizedGroup(
        "hypotheses", lang=lang, help=t("cli.hypotheses_help", lang), no_args_is_help=True
    )
    shared.language(lang)(group)
    group.add_command(_check(lang))
    group.add_command(_list(lang))
    return [group]


def _command(name: str, lang: str, function: Any) -> click.Command:
    params = list(reversed(getattr(function, "__click_params__", [])))
    text = t(f"cli.hypotheses_{name}_help", lang)
    return LocalizedCommand(name, lang=lang, callback=function, params=params, help=text)


def _check(lang: str) -> click.Command:
    say = partial(t, lang=lang)

    @click.argument("file", metavar=say("cli.m_file"))
    @click.argument(
        "runs", nargs=-1, type=click.Path(path_type=Path, exists=False), metavar="[RUN...]"
    )
    @click.option(
        "--out",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="PAGE.md",
        help=say("cli.hypotheses_out"),
    )
    @click.option("--json", "as_json", is_flag=True, help=say("cli.json"))
    @shared.language(lang)
    def check(file: str, runs: tuple[Path, ...], out: Path | None, as_json: bool) -> int:
        return _checked(file, runs, out, as_json, lang)

    return _command("check", lang, check)


def _checked(file: str, runs: tuple[Path, ...], out: Path | None, as_json: bool, lang: str) -> int:
    """Prints what became of the claims and writes the page; the exit code is that of a report."""
    from rich.console import Console

    from vozmetro.cli.run import output, print_json
    from vozmetro.hypotheses.files import read_claims, read_evidence
    from vozmetro.judge.evidence import machine_of
    from vozmetro.judge.hypotheses import check as check_claims
    from vozmetro.measure import environment
    from vozmetro.measure.storage import write_atomic
    from vozmetro.report.hypotheses import findings_json, print_findings
    from vozmetro.report.hypotheses_page import Header, render_page

    claims = read_claims(file)
    evidence = read_evidence(runs)
    machine = machine_of(environment.read())
    findings = check_claims(claims.claims, evidence, machine)
    if out is not None:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        header = Header(now, machine, shlex.join(shared.command_line()))
        write_atomic(out, render_page(claims, findings, header, lang).encode())
    with output():
        if as_json:
            found = findings_json(claims, findings, machine, lang)
            print_json(found)
            return 0
        print_findings(Console(), claims, findings, lang)
        if out is not None:
            click.echo("\n" + t("cli.page_written", lang, path=out))
    return 0


def _list(lang: str) -> click.Command:
    say = partial(t, lang=lang)

    @click.argument("file", required=False, default="guia", metavar=f"[{say('cli.m_file')}]")
    @click.option("--format", "as_format", is_flag=True, help=say("cli.hypotheses_format"))
    @click.option("--json", "as_json", is_flag=True, help=say("cli.json"))
    @shared.language(lang)
    def listed(file: str, as_format: bool, as_json: bool) -> int:
        from rich.console import Console

        from vozmetro.cli.run import output
        from vozmetro.hypotheses.files import read_claims
        from vozmetro.report.hypotheses import print_claims

        with output():
            if as_format:
                place = resources.files("vozmetro.hypotheses").joinpath("guia.toml")
                click.echo(place.read_text(encoding="utf-8"), nl=False)
                return 0
            claims = read_claims(file)
            if as_json:
                click.echo(claims.model_dump_json(indent=1, exclude_none=True))
            else:
                print_claims(Console(), claims, lang)
        return 0

    return _command("list", lang, listed)
