"""Runs a command and turns its errors into one clear line and an exit code."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Sequence

import click

from vozmetro.cli.localized import usage_message
from vozmetro.errors import VozmetroError
from vozmetro.i18n import t

INTERRUPTED = 130


def run(command: click.Command, words: Sequence[str], lang: str, program: str = "vozmetro") -> int:
    """Runs `command` with the words of the command line; returns the exit code."""
    try:
        result = command.main(list(words), prog_name=program, standalone_mode=False)
    except click.UsageError as error:
        return _fail(usage_message(error, lang), 2, lang)
    except click.ClickException as error:
        return _fail(error.format_message(), 2, lang)
    except VozmetroError as error:
        return _fail(error.message(lang), error.exit_code, lang)
    except (KeyboardInterrupt, click.Abort):
        return _fail(t("cli.interrupted_command", lang), INTERRUPTED, lang)
    return result if isinstance(result, int) else 0


@contextlib.contextmanager
def output() -> Iterator[None]:
    """Lets the reader of our output leave (`| head`) without changing the exit code."""
    try:
        yield
        sys.stdout.flush()
    except (BrokenPipeError, SystemExit):
        # rich answers a broken pipe with SystemExit. What is still buffered goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_json(value: object) -> None:
    """Prints a value as JSON."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=1, default=str))


def _fail(message: str, code: int, lang: str) -> int:
    print(f"{t('cli.error', lang)} {message}", file=sys.stderr)
    return code
