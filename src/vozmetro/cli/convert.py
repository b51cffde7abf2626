"""`vozmetro convert`, and `scripts/convert_to_onnx.py`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click

from vozmetro import units
from vozmetro.cli import language_in
from vozmetro.cli.localized import LocalizedCommand
from vozmetro.cli.options import command_line, language
from vozmetro.cli.run import output as printing
from vozmetro.cli.run import run
from vozmetro.i18n import t

F = TypeVar("F", bound=Callable[..., Any])


def commands(lang: str) -> list[click.Command]:
    """Returns `convert`."""
    say = partial(t, lang=lang)

    @click.argument("source", type=click.Path(path_type=Path), metavar=say("cli.m_folder"))
    @click.option(
        "--precision",
        type=click.Choice(["fp32", "int8", "int4"]),
        default="fp32",
        help=say("cli.convert_precision", default="fp32"),
    )
    @click.option(
        "--block",
        type=click.Choice(["32", "64", "128"]),
        help=say("cli.convert_block", default="128"),
    )
    @click.option("--corpus", metavar=say("cli.m_folder"), help=say("cli.convert_corpus"))
    @click.option("--json", "as_json", is_flag=True, help=say("cli.json"))
    @_shared(lang)
    def convert(source: Path, **given: Any) -> int:
        return _convert(source, lang=lang, **given)

    params = list(reversed(getattr(convert, "__click_params__", [])))
    text = say("cli.convert_help")
    return [LocalizedCommand("convert", lang=lang, callback=convert, params=params, help=text)]


def _shared(lang: str) -> Callable[[F], F]:
    """The options that the guide's script has too."""
    say = partial(t, lang=lang)

    def decorate(function: F) -> F:
        for option in (
            language(lang),
            click.option("--no-parity", is_flag=True, help=say("cli.convert_no_parity")),
            click.option("--optimize", is_flag=True, help=say("cli.convert_optimize")),
            click.option(
                "--output",
                required=True,
                type=click.Path(path_type=Path),
                metavar="OUT",
                help=say("cli.convert_output"),
            ),
        ):
            function = option(function)
        return function

    return decorate


def main() -> int:
    """Runs the script with the words of the command line, in Spanish unless told otherwise."""
    words = sys.argv[1:]
    said = any(word.split("=")[0] == "--lang" for word in words)
    lang = language_in(words) if said else "es"

    @click.option(
        "--model",
        required=True,
        type=click.Path(path_type=Path),
        metavar=t("cli.m_folder", lang),
        help=t("cli.convert_model", lang),
    )
    @_shared(lang)
    def convert(model: Path, **given: Any) -> int:
        return _convert(model, lang=lang, **given)

    params = list(reversed(getattr(convert, "__click_params__", [])))
    text = t("cli.convert_help", lang)
    command = LocalizedCommand(None, lang=lang, callback=convert, params=params, help=text)
    return run(command, words, lang, Path(sys.argv[0]).name)


def _convert(
    source: Path,
    output: Path,
    optimize: bool,
    *,
    lang: str,
    precision: Any = "fp32",
    block: str | None = None,
    no_parity: bool = False,
    corpus: str | None = None,
    as_json: bool = False,
) -> int:
    """Converts and says what came of it; returns 1 where it is not the same model."""
    from rich.console import Console

    from vozmetro.prepare.convert import convert
    from vozmetro.prepare.records import record_path
    from vozmetro.report.conversion import conversion_lines, differs

    if block is not None and precision != "int4":
        # An option that changes nothing would be taken for one that did.
        raise click.UsageError(t("cli.convert_block_unused", lang, precision=precision))
    quiet = Console(stderr=True)
    done = convert(
        source,
        output,
        precision=precision,
        block=int(block or "128"),
        parity=not no_parity,
        optimize=optimize,
        corpus=corpus,
        command=command_line(),
        listen=lambda phase: quiet.print(t(f"convert.phase_{phase}", lang), style="dim"),
    )
    record = done.record.model_dump()
    with printing():
        if as_json:
            click.echo(done.record.model_dump_json(indent=1))
        else:
            for line in conversion_lines(record, done.path, lang):
                click.echo(line)
            click.echo(t("convert.record", lang, path=units.plain(record_path(done.path))))
    return int(differs(record))
