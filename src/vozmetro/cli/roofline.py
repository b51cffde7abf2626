"""`vozmetro roofline`: how fast a subject could be here at best, and how near it is."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from vozmetro.cli.localized import LocalizedCommand
from vozmetro.cli.options import command_line, having, integers, language, numbers, shape
from vozmetro.cli.run import output
from vozmetro.i18n import t


def commands(lang: str) -> list[click.Command]:
    """Returns `roofline`."""
    say = partial(t, lang=lang)
    options = [
        click.argument("subject", required=False, metavar=say("cli.m_subject")),
        click.option("--prompt-tokens", metavar="16,64,256", help=say("cli.prompt_tokens")),
        click.option("--new-tokens", type=int, metavar="N", help=say("cli.new_tokens")),
        click.option("--audio-seconds", metavar="0.5,1,2", help=say("cli.audio_seconds")),
        click.option("--shape", "shapes", multiple=True, metavar="input=1x80x300",
                     help=say("cli.shape")),
        click.option("--corpus", metavar=say("cli.m_folder"), help=say("cli.corpus")),
        click.option("--limit", type=click.IntRange(min=1), metavar="N", help=say("cli.limit")),
        click.option("--iterations", type=int, default=5, metavar="N",
                     help=say("cli.iterations", default=5)),
        click.option("--threads", type=int, metavar="N", help=say("cli.threads")),
        click.option("--floor-only", is_flag=True, help=say("cli.floor_only")),
        click.option("--parameters", metavar="30B", help=say("cli.roofline_parameters")),
        click.option("--bits", type=float, default=4.0, metavar="N",
                     help=say("cli.roofline_bits", default=4)),
        click.option("--json", "as_json", is_flag=True, help=say("cli.json")),
        click.option("--out", type=click.Path(path_type=Path), metavar=say("cli.m_folder"),
                     help=say("cli.out")),
        language(lang),
    ]  # fmt: skip

    def roofline(subject: str | None, **chosen: Any) -> int:
        return _roofline(subject, chosen, lang)

    function: Any = having(options)(roofline)
    params = list(reversed(function.__click_params__))
    text = say("cli.roofline_help")
    return [LocalizedCommand("roofline", lang=lang, callback=function, params=params, help=text)]


def _roofline(subject: str | None, chosen: dict[str, Any], lang: str) -> int:
    from rich.console import Console

    from vozmetro.cli.measure import output_folder
    from vozmetro.measure.roofline_records import ROOFLINE_FILE
    from vozmetro.report.roofline import print_roofline

    if (subject is None) == (chosen["parameters"] is None):
        raise click.UsageError(t("cli.subject_or_parameters", lang))
    with output_folder(chosen["out"], subject or str(chosen["parameters"])) as out:
        record = _made(subject, chosen, out, lang)
    with output():
        if chosen["as_json"]:
            click.echo(record.model_dump_json(indent=1))
        else:
            print_roofline(Console(), record, lang)
            click.echo(t("cli.roofline_written", lang, path=out / ROOFLINE_FILE))
    return 0


def _made(subject: str | None, chosen: dict[str, Any], out: Path, lang: str) -> Any:
    from vozmetro.cli.progress import ProgressLine
    from vozmetro.models import architectures
    from vozmetro.models.checks import parse_parameters
    from vozmetro.planning import Options
    from vozmetro.prepare.roofline import architecture_floor, parameters_floor, roofline

    common: dict[str, Any] = {
        "threads": chosen["threads"],
        "out": out,
        "command": command_line(),
    }
    if subject is None:
        said = str(chosen["parameters"])
        return parameters_floor(parse_parameters(said), chosen["bits"], name=said, **common)
    if chosen["floor_only"] and subject in architectures.names():
        return architecture_floor(subject, chosen["bits"], **common)
    options = Options(
        iterations=chosen["iterations"],
        until="iterations",
        corpus=chosen["corpus"],
        limit=chosen["limit"],
        audio_seconds=numbers(chosen["audio_seconds"]),
        shapes=dict(shape(text) for text in chosen["shapes"]),
        prompt_tokens=integers(chosen["prompt_tokens"]),
        new_tokens=chosen["new_tokens"],
        threads=chosen["threads"],
        command=command_line(),
    )
    with ProgressLine(lang) as line:
        return roofline(subject, options, out=out, listen=line, floor_only=chosen["floor_only"])
