"""`vozmetro decide`: what measured runs mean for the pipeline, and the file that says so."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from vozmetro.cli.localized import LocalizedCommand
from vozmetro.cli.options import having, language
from vozmetro.cli.run import output, print_json
from vozmetro.errors import InputError, OutputError
from vozmetro.i18n import t


def commands(lang: str) -> list[click.Command]:
    """Returns `decide`."""
    say = partial(t, lang=lang)
    options = [
        click.argument(
            "runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN..."
        ),
        click.option("--write-config", type=click.Path(path_type=Path, dir_okay=False),
                     metavar="pipeline.toml", help=say("cli.decide_write")),
        click.option("--force", is_flag=True, help=say("cli.decide_force")),
        click.option("--json", "as_json", is_flag=True, help=say("cli.json")),
        click.option("--no-gate", is_flag=True, help=say("cli.no_gate")),
        language(lang),
    ]  # fmt: skip

    def decide(runs: tuple[Path, ...], **chosen: Any) -> int:
        return _decide(runs, chosen, lang)

    function: Any = having(options)(decide)
    params = list(reversed(function.__click_params__))
    text = say("cli.decide_help")
    return [LocalizedCommand("decide", lang=lang, callback=function, params=params, help=text)]


def _decide(paths: tuple[Path, ...], chosen: dict[str, Any], lang: str) -> int:
    from rich.console import Console

    from vozmetro.cli.measure import EXIT_CODES
    from vozmetro.judge.roles import assign
    from vozmetro.measure.storage import write_atomic
    from vozmetro.report.tiers import plan, print_roles, roles_json

    target: Path | None = chosen["write_config"]
    # Before anything is worked out: nothing that somebody wrote is lost.
    if target is not None and target.exists() and not chosen["force"]:
        raise OutputError("decide_taken", path=target)
    roles = assign(_judged(paths))
    with output():
        if chosen["as_json"]:
            print_json(roles_json(roles))
        else:
            print_roles(Console(), roles, lang)
    if target is not None:
        write_atomic(target, plan(roles).text().encode())
        if not chosen["as_json"]:
            with output():
                click.echo("\n" + t("tiers.written", lang, path=target))
    return 0 if chosen["no_gate"] else EXIT_CODES[roles.status]


def _judged(paths: tuple[Path, ...]) -> list[Any]:
    """Reads runs, and comparisons as both of their runs; quality studies count beside them.

    Raises:
        InputError: `decide_record` for records of another kind, `decide_nothing` for no run, and
            what `load_any` raises.
    """
    from vozmetro.judge.roles import Judged
    from vozmetro.measure.quality_records import QualityStudy
    from vozmetro.measure.records import ComparisonRecord, Run
    from vozmetro.measure.storage import load_any
    from vozmetro.report.quality_judged import Beside, compared, verdict

    records = [load_any(path) for path in paths]
    beside = Beside.of([record for record in records if isinstance(record, QualityStudy)])
    found: list[Judged] = []
    for path, record in zip(paths, records, strict=True):
        if isinstance(record, Run):
            found.append(Judged(record, verdict(record, beside)))
        elif isinstance(record, ComparisonRecord):
            both = compared(record, beside)
            found.append(Judged(record.a, both.decision_a))
            found.append(Judged(record.b, both.decision_b))
        elif not isinstance(record, QualityStudy):
            raise InputError("decide_record", path=path, type=record.type)
    if not found:
        raise InputError("decide_nothing")
    return found
