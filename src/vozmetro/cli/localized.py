"""Click commands whose headings and usage errors speak the user's language."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import click

from vozmetro.i18n import t


class LocalizedCommand(click.Command):
    """A command with a `lang`."""

    def __init__(self, *args: Any, lang: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lang = lang

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the usage line under our heading."""
        pieces = " ".join(self.collect_usage_pieces(ctx))
        prefix = t("cli.usage", self.lang) + " "
        formatter.write_usage(ctx.command_path, pieces, prefix=prefix)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the options under our heading."""
        options = [param for param in self.get_params(ctx) if isinstance(param, click.Option)]
        records = [record for option in options if (record := option.get_help_record(ctx))]
        if records:
            with formatter.section(t("cli.options", self.lang)):
                formatter.write_dl(records)
        if isinstance(self, click.Group):
            self.format_commands(ctx, formatter)

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        """Returns --help with our text."""
        option = super().get_help_option(ctx)
        if option is not None:
            option.help = t("cli.help_option", self.lang)
        return option


class LocalizedGroup(LocalizedCommand, click.Group):
    """A group with a `lang`."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the commands under our heading."""
        rows = []
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None:
                rows.append((name, command.get_short_help_str(limit=200)))
        with formatter.section(t("cli.commands", self.lang)):
            formatter.write_dl(rows)


def make_group(
    name: str, lang: str, makers: Iterable[Callable[[str], click.Command]]
) -> LocalizedGroup:
    """Returns a group with its help from the catalogue, and the commands that `makers` make."""
    text = t(f"cli.{name}_help", lang)
    group = LocalizedGroup(name, lang=lang, help=text, no_args_is_help=True)
    for make in makers:
        group.add_command(make(lang))
    return group


def make_command(
    group: str, name: str, lang: str, function: Callable[..., int]
) -> LocalizedCommand:
    """Returns a group's command from a decorated function, with its help from the catalogue."""
    params = list(reversed(getattr(function, "__click_params__", [])))
    text = t(f"cli.{group}_{name}_help", lang)
    return LocalizedCommand(name, lang=lang, callback=function, params=params, help=text)


def usage_message(error: click.UsageError, lang: str) -> str:
    """Returns a usage error as one sentence in `lang`, with the help to ask for."""
    say = partial(t, lang=lang)
    path = error.ctx.command_path if error.ctx else "vozmetro"
    name = _name(error)
    if isinstance(error, click.NoSuchOption):
        near = ", ".join(error.possibilities or [])
        code = "cli.no_such_option_near" if near else "cli.no_such_option"
        what = say(code, name=error.option_name, near=near)
    elif isinstance(error, click.MissingParameter):
        what = say("cli.missing_parameter", name=name)
    elif isinstance(error, click.BadParameter):
        what = say("cli.bad_parameter", name=name, detail=_expected(error, lang))
    else:
        what = error.format_message()
    return f"{what} {say('cli.see_help', path=path)}"


def _expected(error: click.BadParameter, lang: str) -> str:
    """Says what an option takes, by its type; click's own words are English."""
    kind = error.param.type if error.param is not None else None
    if isinstance(kind, click.Choice):
        return t("cli.expects_choice", lang, choices=", ".join(map(str, kind.choices)))
    if isinstance(kind, click.types.IntParamType):
        return t("cli.expects_integer", lang)
    if isinstance(kind, click.types.FloatParamType):
        return t("cli.expects_number", lang)
    return error.message


def _name(error: click.UsageError) -> str:
    param = getattr(error, "param", None)
    if param is None:
        return str(getattr(error, "param_hint", "") or "")
    if isinstance(param, click.Argument):
        return param.make_metavar(error.ctx) if error.ctx else (param.name or "")
    return str(max(param.opts, key=len))
