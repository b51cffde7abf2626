"""`vozmetro models`: list, fetch, verify, inspect, and dummy weights."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from vozmetro.cli.localized import make_command, make_group
from vozmetro.cli.options import language
from vozmetro.cli.run import output as printing
from vozmetro.cli.run import print_json
from vozmetro.errors import InputError, VozmetroError
from vozmetro.i18n import t
from vozmetro.units import plain

if TYPE_CHECKING:
    from vozmetro.models.catalogue import Entry
    from vozmetro.report.models import State

_MOST_SIZE = 1 << 31


def commands(lang: str) -> list[click.Command]:
    """Returns the group `models`."""
    group = make_group("models", lang, (_list, _fetch, _verify, _inspect, _dummy))
    language(lang)(group)
    return [group]


def _list(lang: str) -> click.Command:
    say = partial(t, lang=lang)

    @click.option("--json", "as_json", is_flag=True, help=say("cli.json"))
    @language(lang)
    def run(as_json: bool) -> int:
        from rich.console import Console

        from vozmetro.models.catalogue import catalogue
        from vozmetro.report.models import Listed, print_list

        listed = [Listed(entry, _state(entry)) for entry in catalogue().values()]
        with printing():
            if as_json:
                print_json([_described(one.entry, one.state) for one in listed])
            else:
                print_list(Console(), listed, lang)
        return 0

    return make_command("models", "list", lang, run)


def _described(entry: Entry, state: State) -> dict[str, object]:
    """Returns an entry for a program to read."""
    place = {"repo": entry.hub.repo, "revision": entry.hub.revision} if entry.hub else None
    return {
        "name": entry.name,
        "task": entry.task,
        "engine": entry.engine,
        "languages": entry.languages,
        "licence": entry.licence,
        "source": entry.source,
        "extra": entry.extra,
        "bytes": entry.bytes or None,
        "packages": entry.packages,
        "hub": place,
        "state": state,
    }


def _state(entry: Entry) -> State:
    """Returns whether a model is here, without hashing gigabytes for a list."""
    from vozmetro import packages
    from vozmetro.models import assemble

    if entry.hub is not None:
        try:
            return "here" if assemble.is_sized(entry, entry.hub) else "broken"
        except VozmetroError as error:
            return "absent" if error.code == "not_fetched" else "broken"
    try:
        for file in entry.files:
            for part in file.parts:
                place = packages.locate(part.package, part.version, part.path, entry.extra)
                if place.stat().st_size != part.bytes:
                    return "broken"
    except VozmetroError as error:
        return "absent" if error.code == "missing_extra" else "broken"
    return "here"


def _fetch(lang: str) -> click.Command:
    say = partial(t, lang=lang)

    @click.argument("source", metavar=say("cli.m_source"))
    @click.option(
        "--out",
        type=click.Path(path_type=Path),
        metavar=say("cli.m_folder"),
        help=say("cli.models_out"),
    )
    @click.option("--revision", metavar="COMMIT", help=say("cli.models_revision"))
    @click.option(
        "--include", multiple=True, metavar=say("cli.m_pattern"), help=say("cli.models_include")
    )
    @click.option("--refresh", is_flag=True, help=say("cli.models_refresh"))
    @click.option("--json", "as_json", is_flag=True, help=say("cli.json"))
    @language(lang)
    def run(source: str, out: Path | None, as_json: bool, **chosen: Any) -> int:
        from rich.console import Console

        from vozmetro.cli.fetching import FetchBar
        from vozmetro.models.fetch import fetch
        from vozmetro.report.models import print_fetched

        with FetchBar(lang) as bar:
            found = fetch(source, out, listen=bar, **chosen)
        with printing():
            if as_json:
                told = {"folder": found.folder, "path": found.path, "received": found.received}
                print_json({**told, "source": found.source.model_dump()})
            else:
                print_fetched(Console(), found, out is not None, lang)
        return 0

    return make_command("models", "fetch", lang, run)


def _verify(lang: str) -> click.Command:
    say = partial(t, lang=lang)

    @click.argument("model", metavar=say("cli.m_model"))
    @click.option("--no-trial", is_flag=True, help=say("cli.models_no_trial"))
    @click.option("--json", "as_json", is_flag=True, help=say("cli.json"))
    @language(lang)
    def run(model: str, no_trial: bool, as_json: bool) -> int:
        from rich.console import Console

        from vozmetro.models.verify import verify
        from vozmetro.report.models import print_verification

        found = verify(model, trial=not no_trial)
        with printing():
            if as_json:
                print_json(found.to_json())
            else:
                print_verification(Console(), found, lang)
        return 0 if found.ok else 1

    return make_command("models", "verify", lang, run)


def _inspect(lang: str) -> click.Command:
    say = partial(t, lang=lang)

    @click.argument("model", metavar=say("cli.m_model"))
    @click.option("--dims", metavar="sequence=64", help=say("cli.models_dims"))
    @click.option(
        "--as", "--claimed-modality", "claimed", type=click.Choice(["audio"]),
        help=say("cli.models_as"),
    )  # fmt: skip
    @click.option("--json", "as_json", is_flag=True, help=say("cli.json"))
    @language(lang)
    def run(model: str, dims: str | None, claimed: str | None, as_json: bool) -> int:
        from rich.console import Console

        from vozmetro.models.overview import overview
        from vozmetro.report.models import print_overview, reason_text

        found = overview(model, sizes(dims), claimed)
        with printing():
            if as_json:
                told = found.to_json()
                told["told"] = [reason_text(remark, lang) for remark in found.remarks]
                print_json(told)
            else:
                print_overview(Console(), found, lang)
        return 1 if claimed == "audio" and found.modality.hears is not True else 0

    return make_command("models", "inspect", lang, run)


def sizes(text: str | None) -> dict[str, int]:
    """Reads `sequence=64,past_sequence=0`.

    Raises:
        InputError: `dims_invalid`.
    """
    found: dict[str, int] = {}
    for pair in (text or "").split(",") if text else ():
        name, equals, size = pair.partition("=")
        digits = size.strip()
        usable = bool(name.strip() and equals and digits.isascii() and digits.isdecimal())
        if not usable or len(digits) > 10 or int(digits) >= _MOST_SIZE:
            raise InputError("dims_invalid", given=text)
        found[name.strip()] = int(digits)
    return found


def _dummy(lang: str) -> click.Command:
    say = partial(t, lang=lang)

    @click.argument("architecture", metavar=say("cli.m_architecture"))
    @click.option(
        "--precision",
        type=click.Choice(["fp32", "int8", "int4"]),
        required=True,
        help=say("cli.models_precision"),
    )
    @click.option(
        "--layers", type=click.IntRange(min=1), metavar="N", help=say("cli.models_layers")
    )
    @click.option(
        "--output", type=click.Path(path_type=Path), metavar="OUT", help=say("cli.models_output")
    )
    @click.option("--seed", type=int, default=0, metavar="N", help=say("cli.seed"))
    @language(lang)
    def run(
        architecture: str,
        precision: Literal["fp32", "int8", "int4"],
        layers: int | None,
        output: Path | None,
        seed: int,
    ) -> int:
        from vozmetro.cli.fetching import WriteBar
        from vozmetro.models import dummy

        with WriteBar() as bar:
            written = dummy.write(architecture, precision, layers, output, seed=seed, listen=bar)
        with printing():
            click.echo(say("models.dummy_written", path=plain(written)))
            click.echo(say("models.fetched_next", path=plain(written)))
        return 0

    return make_command("models", "dummy", lang, run)
