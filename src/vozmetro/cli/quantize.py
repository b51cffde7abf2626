"""`vozmetro quantize`, `scripts/quantize_int8.py` and `scripts/quantize_int4.py`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import click

from vozmetro import units
from vozmetro.cli import language_in
from vozmetro.cli.localized import LocalizedCommand
from vozmetro.cli.options import command_line, language
from vozmetro.cli.run import output as printing
from vozmetro.cli.run import run
from vozmetro.i18n import t

F = TypeVar("F", bound=Callable[..., Any])
Bits = Literal[8, 4]


def commands(lang: str) -> list[click.Command]:
    """Returns `quantize`."""
    say = partial(t, lang=lang)

    @click.argument("model", type=click.Path(path_type=Path), metavar=say("cli.m_model"))
    @click.option("--int8", is_flag=True, help=say("cli.quantize_int8"))
    @click.option("--int4", is_flag=True, help=say("cli.quantize_int4"))
    @click.option(
        "--mode",
        type=click.Choice(["dynamic", "weight-only", "static"]),
        help=say("cli.quantize_mode", default="dynamic"),
    )
    @click.option(
        "--calibration",
        type=click.Choice(["percentile", "minmax"]),
        help=say("cli.quantize_calibration", default="percentile"),
    )
    @click.option("--embeddings", is_flag=True, help=say("cli.quantize_embeddings"))
    @click.option("--corpus", metavar=say("cli.m_folder"), help=say("cli.quantize_corpus"))
    @click.option("--json", "as_json", is_flag=True, help=say("cli.json"))
    @_shared(lang)
    def quantize(model: Path, int8: bool, int4: bool, **given: Any) -> int:
        if int8 == int4:
            raise click.UsageError(say("cli.quantize_which"))
        return _quantize(model, 8 if int8 else 4, lang=lang, **given)

    params = list(reversed(getattr(quantize, "__click_params__", [])))
    text = say("cli.quantize_help")
    return [LocalizedCommand("quantize", lang=lang, callback=quantize, params=params, help=text)]


def _shared(lang: str) -> Callable[[F], F]:
    """The options that the guide's scripts have too."""
    say = partial(t, lang=lang)

    def decorate(function: F) -> F:
        for option in (
            language(lang),
            click.option("--no-measure", is_flag=True, help=say("cli.quantize_no_measure")),
            click.option(
                # A number, so that a block that no kernel has is refused with the reason.
                "--block", type=int, metavar="32|64|128",
                help=say("cli.quantize_block", default=128),
            ),
            click.option(
                "--output",
                type=click.Path(path_type=Path),
                metavar="OUT",
                help=say("cli.quantize_output"),
            ),
        ):  # fmt: skip
            function = option(function)
        return function

    return decorate


def main(bits: Bits) -> int:
    """Runs a script with the words of the command line, in Spanish unless told otherwise.

    Args:
        bits: 8 for `quantize_int8.py`, 4 for `quantize_int4.py`.
    """
    words = sys.argv[1:]
    said = any(word.split("=")[0] == "--lang" for word in words)
    lang = language_in(words) if said else "es"

    @click.option(
        "--model",
        required=True,
        type=click.Path(path_type=Path),
        metavar=t("cli.m_model", lang),
        help=t("cli.quantize_model", lang),
    )
    @_shared(lang)
    def quantize(model: Path, **given: Any) -> int:
        return _quantize(model, bits, lang=lang, **given)

    params = list(reversed(getattr(quantize, "__click_params__", [])))
    text = t("cli.quantize_help", lang)
    command = LocalizedCommand(None, lang=lang, callback=quantize, params=params, help=text)
    return run(command, words, lang, Path(sys.argv[0]).name)


def _quantize(
    model: Path,
    bits: Bits,
    *,
    lang: str,
    output: Path | None = None,
    block: int | None = None,
    mode: Any = None,
    calibration: Any = None,
    embeddings: bool = False,
    corpus: str | None = None,
    no_measure: bool = False,
    as_json: bool = False,
) -> int:
    """Quantizes and says what came of it."""
    from vozmetro.models.quantize.plan import Plan
    from vozmetro.prepare.quantize import quantize_model
    from vozmetro.prepare.records import record_path
    from vozmetro.report.quantization import quantization_lines

    mode = mode or ("dynamic" if bits == 8 else "weight-only")
    # An option that changes nothing would be taken for one that did.
    if block is not None and bits == 8 and mode != "weight-only":
        raise click.UsageError(t("cli.quantize_block_unused", lang, mode=mode))
    if calibration is not None and mode != "static":
        raise click.UsageError(t("cli.quantize_calibration_unused", lang, mode=mode))
    plan = Plan(bits=bits, mode=mode, block=128 if block is None else block, embeddings=embeddings)
    with _progress(lang) as listen:
        done = quantize_model(
            model,
            output,
            plan,
            corpus=corpus,
            method=calibration or "percentile",
            measure=not no_measure,
            command=command_line(),
            listen=listen,
        )
    with printing():
        if as_json:
            click.echo(done.record.model_dump_json(indent=1))
        else:
            for line in quantization_lines(done.record.model_dump(), done.path, lang):
                click.echo(line)
            click.echo(t("quantize.record", lang, path=units.plain(record_path(done.path))))
    return 0


@contextmanager
def _progress(lang: str) -> Iterator[Callable[[str, int, int], None]]:
    """Shows the phase, and how much of the weights is done, on a terminal's standard error."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), TimeRemainingColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("", total=None)

        def listen(phase: str, done: int, total: int) -> None:
            bar.update(
                task,
                description=t(f"quantize.phase_{phase}", lang),
                completed=done,
                total=total or None,
            )
            if phase == "measuring":
                # A bar that draws itself would disturb what is measured.
                bar.stop()

        yield listen
