"""`vozmetro swap`: what it costs to load one subject in place of another."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from vozmetro.cli.localized import LocalizedCommand
from vozmetro.cli.options import command_line, having, integers, language, numbers
from vozmetro.cli.run import output
from vozmetro.i18n import t


def commands(lang: str) -> list[click.Command]:
    """Returns `swap`."""
    say = partial(t, lang=lang)
    options = [
        click.argument("a", metavar="A"),
        click.argument("b", metavar="B"),
        click.option("--swaps", type=int, default=5, metavar="N",
                     help=say("cli.swap_swaps", default=5)),
        click.option("--iterations", type=int, default=5, metavar="N",
                     help=say("cli.iterations", default=5)),
        click.option("--corpus", metavar=say("cli.m_folder"), help=say("cli.corpus")),
        click.option("--languages", metavar="es,en", help=say("cli.languages")),
        click.option("--limit", type=click.IntRange(min=1), metavar="N", help=say("cli.limit")),
        click.option("--audio-seconds", metavar="0.5,1,2", help=say("cli.audio_seconds")),
        click.option("--prompt-tokens", metavar="16,64,256", help=say("cli.prompt_tokens")),
        click.option("--new-tokens", type=int, metavar="N", help=say("cli.new_tokens")),
        click.option("--threads", type=int, metavar="N", help=say("cli.threads")),
        click.option("--json", "as_json", is_flag=True, help=say("cli.json")),
        click.option("--out", type=click.Path(path_type=Path), metavar=say("cli.m_folder"),
                     help=say("cli.out")),
        language(lang),
    ]  # fmt: skip

    def swap(a: str, b: str, **chosen: Any) -> int:
        return _swap(a, b, chosen, lang)

    function: Any = having(options)(swap)
    params = list(reversed(function.__click_params__))
    text = say("cli.swap_help")
    return [LocalizedCommand("swap", lang=lang, callback=function, params=params, help=text)]


def _swap(a: str, b: str, chosen: dict[str, Any], lang: str) -> int:
    from rich.console import Console

    from vozmetro.cli.measure import output_folder
    from vozmetro.cli.progress import ProgressLine
    from vozmetro.measure.swap_records import SWAP_FILE
    from vozmetro.planning import Options
    from vozmetro.prepare.swap import swap
    from vozmetro.report.swap import print_swap

    options = Options(
        iterations=chosen["iterations"],
        until="iterations",
        corpus=chosen["corpus"],
        languages=[one.strip() for one in (chosen["languages"] or "").split(",") if one.strip()],
        limit=chosen["limit"],
        audio_seconds=numbers(chosen["audio_seconds"]),
        prompt_tokens=integers(chosen["prompt_tokens"]),
        new_tokens=chosen["new_tokens"],
        threads=chosen["threads"],
        command=command_line(),
    )
    name = f"{Path(a).stem}-swap-{Path(b).stem}"
    with output_folder(chosen["out"], name) as out, ProgressLine(lang) as line:
        record = swap(a, b, options, swaps=chosen["swaps"], out=out, listen=line)
    with output():
        if chosen["as_json"]:
            click.echo(record.model_dump_json(indent=1))
        else:
            print_swap(Console(), record, lang)
            click.echo("\n" + t("swap.written", lang, path=out / SWAP_FILE))
    return 0
