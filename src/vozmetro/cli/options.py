"""Options that several commands share, and their parsing."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from vozmetro.errors import InputError
from vozmetro.i18n import LANGUAGES, t

if TYPE_CHECKING:
    from vozmetro.planning import Options

F = TypeVar("F", bound=Callable[..., Any])

RUNS_FOLDER = Path("vozmetro-runs")
"""Where reports go without `--out`."""


def language(lang: str) -> Callable[[F], F]:
    """`--lang`, which `main` has read before; here it is only checked and documented."""
    return click.option(
        "--lang", type=click.Choice(LANGUAGES), expose_value=False, help=t("cli.lang", lang)
    )


def having(options: Sequence[Callable[[F], F]]) -> Callable[[F], F]:
    """Returns a decorator that gives a command several options, in this order."""

    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def measuring(lang: str, *, depths: bool = True) -> Callable[[F], F]:
    """The options of every command that measures.

    Args:
        lang: `es` or `en`.
        depths: Whether its help shows those of depths; where not, the command refuses them.
    """

    def say(key: str, **fields: object) -> str:
        return t(f"cli.{key}", lang, **fields)

    options = [
        click.option("--iterations", type=int, default=20, metavar="N",
                     help=say("iterations", default=20)),
        click.option("--corpus", metavar=say("m_folder"), help=say("corpus")),
        click.option("--audio-seconds", metavar="0.5,1,2", help=say("audio_seconds")),
        click.option("--shape", "shapes", multiple=True, metavar="input=1x80x300",
                     help=say("shape")),
        click.option("--languages", metavar="es,en", help=say("languages")),
        click.option("--limit", type=click.IntRange(min=1), metavar="N", help=say("limit")),
        click.option("--prompt-tokens", metavar="16,64,256", help=say("prompt_tokens")),
        click.option("--new-tokens", type=int, metavar="N", help=say("new_tokens")),
        click.option("--layers", metavar="1,2,4", help=say("layers"), hidden=not depths),
        click.option("--check-full", is_flag=True, help=say("check_full"), hidden=not depths),
        click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu",
                     help=say("device", default="cpu")),
        click.option("--threads", type=int, metavar="N", help=say("threads")),
        click.option("--budget", type=click.Path(path_type=Path), metavar="TOML",
                     help=say("budget")),
        click.option("--until", type=click.Choice(["decided", "iterations"]), default="decided",
                     help=say("until", default="decided")),
        click.option("--max-time", type=float, default=600.0, metavar="S",
                     help=say("max_time", default=600)),
        click.option("--turns", is_flag=True, help=say("turns")),
        click.option("--hangover", type=float, metavar="S", help=say("hangover", default=0.208)),
        click.option("--quality", is_flag=True, help=say("quality_flag")),
        click.option("--seed", type=int, default=0, metavar="N", help=say("seed")),
        click.option("--out", type=click.Path(path_type=Path), metavar=say("m_folder"),
                     help=say("out")),
        click.option("--json", "as_json", is_flag=True, help=say("json")),
        click.option("--no-gate", is_flag=True, help=say("no_gate")),
        language(lang),
    ]  # fmt: skip

    return having(options)


def refuse_with_resume(lang: str, but: Sequence[str] = ()) -> None:
    """Refuses options that a resumed measurement would ignore: it goes on as it began.

    Args:
        lang: `es` or `en`.
        but: Names of options that count for it all the same.

    Raises:
        click.UsageError: Naming the first one.
    """
    context = click.get_current_context()
    for param in context.command.params:
        name = param.name or ""
        said = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if said and name not in ("resume", "as_json", "no_gate", "quality", "lang", *but):
            raise click.UsageError(t("cli.resume_alone", lang, option=param.opts[0]))


def to_options(chosen: dict[str, Any], command: list[str]) -> Options:
    """Returns the API's options from the parsed ones.

    Raises:
        InputError: `bad_number_list`, `bad_integer_list` or `bad_shape`, and what reading the
            budget raises.
    """
    from vozmetro.api import load_budget
    from vozmetro.judge.budget import Budget
    from vozmetro.planning import Options

    return Options(
        iterations=chosen["iterations"],
        corpus=chosen["corpus"],
        audio_seconds=numbers(chosen["audio_seconds"]),
        shapes=dict(shape(text) for text in chosen["shapes"]),
        threads=chosen["threads"],
        budget=load_budget(chosen["budget"]) if chosen["budget"] else Budget(),
        until=chosen["until"],
        max_time_s=chosen["max_time"],
        languages=[one.strip() for one in (chosen["languages"] or "").split(",") if one.strip()],
        limit=chosen["limit"],
        claimed_parameters=chosen.get("claimed_params"),
        seed=chosen["seed"],
        command=command,
        device=chosen["device"],
        prompt_tokens=integers(chosen["prompt_tokens"]),
        new_tokens=chosen["new_tokens"],
        layers=integers(chosen["layers"]),
        check_full=chosen["check_full"],
        turns=chosen["turns"],
        hangover_s=chosen["hangover"],
    )


def numbers(text: str | None) -> list[float]:
    """Reads `0.5,1,2` as seconds."""
    try:
        values = [float(part) for part in text.split(",")] if text else []
    except ValueError as error:
        raise InputError("bad_number_list", given=text) from error
    if not all(math.isfinite(value) for value in values):
        raise InputError("bad_number_list", given=text)
    return values


def integers(text: str | None) -> list[int]:
    """Reads `16,64,256`."""
    try:
        return [int(part) for part in text.split(",")] if text else []
    except ValueError as error:
        raise InputError("bad_integer_list", given=text) from error


def shape(text: str) -> tuple[str, list[int]]:
    """Reads `input=1x80x300`."""
    name, _, sizes = text.rpartition("=")
    parts = sizes.lower().split("x")
    if not name or not all(part.isdecimal() for part in parts):
        raise InputError("bad_shape", given=text)
    values = [int(part) for part in parts]
    # 2^31 elements would be gigabytes of made-up input.
    if math.prod(values) >= 1 << 31:
        raise InputError("bad_shape", given=text)
    return name, values


def command_line() -> list[str]:
    """Returns the words that started this process, for the record."""
    return ["vozmetro" if Path(sys.argv[0]).name == "vozmetro" else sys.argv[0], *sys.argv[1:]]
