"""`vozmetro tune`: the fastest way to run a Whisper that hears as well."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from vozmetro.cli.localized import LocalizedCommand
from vozmetro.cli.options import command_line, having, language
from vozmetro.cli.run import output, print_json
from vozmetro.i18n import t


def commands(lang: str) -> list[click.Command]:
    """Returns `tune`."""
    say = partial(t, lang=lang)
    options = [
        click.argument("subject", metavar=say("cli.m_subject")),
        click.option("--corpus", required=True, metavar="es-ivr,en-ivr",
                     help=say("cli.quality_corpus")),
        click.option("--languages", metavar="es,en", help=say("cli.languages")),
        click.option("--limit", type=click.IntRange(min=1), default=100, metavar="N",
                     help=say("tune.limit", default=100)),
        click.option("--allow", type=float, default=0.5, metavar="P",
                     help=say("tune.allow", default=0.5)),
        click.option("--allow-high", type=float, default=1.5, metavar="P",
                     help=say("tune.allow_high", default=1.5)),
        click.option("--threads", type=int, metavar="N", help=say("cli.threads")),
        click.option("--seed", type=int, default=0, metavar="N", help=say("cli.seed")),
        click.option("--out", type=click.Path(path_type=Path), metavar=say("cli.m_folder"),
                     help=say("cli.out")),
        click.option("--json", "as_json", is_flag=True, help=say("cli.json")),
        language(lang),
    ]  # fmt: skip

    def tune(subject: str, **chosen: Any) -> int:
        return _tune(subject, chosen, lang)

    function: Any = having(options)(tune)
    params = list(reversed(function.__click_params__))
    text = say("tune.help")
    return [LocalizedCommand("tune", lang=lang, callback=function, params=params, help=text)]


def _tune(subject: str, chosen: dict[str, Any], lang: str) -> int:
    from rich.console import Console

    from vozmetro.assess import tune
    from vozmetro.assess.options import QualityOptions
    from vozmetro.cli.measure import output_folder
    from vozmetro.cli.progress import ProgressLine
    from vozmetro.quality.tuning import tuning
    from vozmetro.report.tuning import print_tuning, tuning_json

    tried = tune.changes(subject)
    options = QualityOptions(
        corpus=chosen["corpus"],
        languages=[one.strip() for one in (chosen["languages"] or "").split(",") if one.strip()],
        limit=chosen["limit"],
        threads=chosen["threads"],
        seed=chosen["seed"],
        command=command_line(),
    )
    with output_folder(chosen["out"], f"tune-{Path(subject).stem}") as out:
        with ProgressLine(lang) as line:
            study = tune.tune(tried, options, out=out, listen=line)
        found = tuning(
            study, tried, allowed=chosen["allow"] / 100, allowed_high=chosen["allow_high"] / 100
        )
        comments = [f"{study.created} {study.environment.cpu}", f"{out / 'quality.json'}"]
        written = tune.keep(subject, found, comments)
        with output():
            if chosen["as_json"]:
                print_json(tuning_json(found))
                return 0
            print_tuning(Console(), found, lang)
            if written:
                click.echo(t("tune.written", lang, path=written, name=written.stem))
            click.echo(t("cli.report_written", lang, path=out / "quality.json"))
    return 0
