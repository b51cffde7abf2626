"""`vozmetro fleet`: one plan on every kind of machine that a product must run on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vozmetro.cli.localized import LocalizedCommand, LocalizedGroup
from vozmetro.cli.options import RUNS_FOLDER, command_line, having, language
from vozmetro.cli.run import output, print_json
from vozmetro.errors import InputError
from vozmetro.i18n import t
from vozmetro.units import plain

if TYPE_CHECKING:
    from vozmetro.fleet.executor import Executor, Told
    from vozmetro.fleet.plan import Plan

LOCAL = "local"


def commands(lang: str) -> list[click.Command]:
    """Returns `fleet`."""
    say = partial(t, lang=lang)
    group = LocalizedGroup("fleet", lang=lang, help=say("fleet.help"), no_args_is_help=True)
    file = click.Path(path_type=Path, dir_okay=False)
    shared = [
        click.argument("plan", type=file, metavar="PLAN.toml"),
        click.option("--address", default=LOCAL, metavar="local|auto|HOST:PORT|ray://…",
                     help=say("fleet.address", default=LOCAL)),
        click.option("--as", "machine_class", metavar=say("fleet.m_class"), help=say("fleet.as")),
        click.option("--place", type=int, default=1, metavar="N",
                     help=say("fleet.place", default=1)),
    ]  # fmt: skip
    running = [
        click.option("--out", type=click.Path(path_type=Path), metavar=say("cli.m_folder"),
                     help=say("fleet.out")),
        click.option("--patience", type=click.FloatRange(min=0), default=600.0, metavar="S",
                     help=say("fleet.patience", default=600)),
        click.option("--json", "as_json", is_flag=True, help=say("cli.json")),
        click.option("--no-gate", is_flag=True, help=say("cli.no_gate")),
    ]  # fmt: skip

    def run(plan: Path, **chosen: Any) -> int:
        return _run(plan, chosen, lang)

    def check(plan: Path, **chosen: Any) -> int:
        return _check(plan, chosen, lang)

    for function, options, text in (
        (run, [*shared, *running, language(lang)], "fleet.run_help"),
        (check, [*shared, language(lang)], "fleet.check_help"),
    ):
        made: Any = having(options)(function)
        params = list(reversed(made.__click_params__))
        group.add_command(
            LocalizedCommand(
                function.__name__, lang=lang, callback=made, params=params, help=say(text)
            )
        )
    return [group]


def _run(path: Path, chosen: dict[str, Any], lang: str) -> int:
    from rich.console import Console

    from vozmetro.cli.measure import EXIT_CODES
    from vozmetro.fleet import run as fleet
    from vozmetro.fleet.plan import load
    from vozmetro.fleet.verdict import judged
    from vozmetro.measure.storage import check_writable, write_atomic
    from vozmetro.planning import new_id
    from vozmetro.report.fleet import fleet_json, fleet_markdown, print_fleet
    from vozmetro.report.places import REPORT

    plan = load(path)
    out = chosen["out"] or RUNS_FOLDER / new_id(f"fleet-{path.stem}")
    known = out.exists()
    check_writable(out)
    try:
        with _executor(plan, chosen) as executor:
            results = fleet.run(
                plan, executor, out, command=command_line(), listen=partial(_say, lang=lang)
            )
    finally:
        if not known and not any(out.iterdir()):
            out.rmdir()
    verdict = judged(plan, results)
    write_atomic(out / REPORT, fleet_markdown(plan.name, verdict, lang).encode())
    with output():
        if chosen["as_json"]:
            print_json(fleet_json(verdict))
        else:
            print_fleet(Console(), verdict, lang)
            click.echo(t("cli.report_written", lang, path=out / REPORT))
    return 0 if chosen["no_gate"] else EXIT_CODES[verdict.status]


def _check(path: Path, chosen: dict[str, Any], lang: str) -> int:
    from rich.console import Console

    from vozmetro.fleet.parcels import pack_corpus, pack_subject, parcels
    from vozmetro.fleet.plan import load
    from vozmetro.report.tables import table
    from vozmetro.units import size

    plan = load(path)
    words = [pack_subject(one) for one in plan.subjects]
    words += [pack_corpus(one) for one in (plan.corpus, plan.quality) if one]
    travels = {one.digest: one.bytes for packed in words for one in parcels(packed)}
    with _executor(plan, chosen) as executor:
        rows = []
        for name, machine in plan.classes.items():
            there = executor.hosts(machine) if _here(name, plan, chosen) else []
            labels = ", ".join(f"{key}={value}" for key, value in machine.labels.items())
            enough = len(there) >= machine.nodes
            hosts = plain(", ".join(sorted(set(there)))[:30])
            rows.append(
                [name, labels or "–", f"{len(there)} / {machine.nodes}", hosts or "–",
                 "✅" if enough else "❌"]
            )  # fmt: skip
    heads = ["fleet.class", "fleet.labels", "fleet.there", "fleet.hosts"]
    kinds = ["fixed", "left", "right", "left", "fixed"]
    columns = [*zip([t(one, lang) for one in heads], kinds[:4], strict=True), ("", "fixed")]
    with output():
        click.echo()
        Console().print(table(columns, rows))
        count = len(plan.subjects) * sum(one.nodes for one in plan.classes.values())
        click.echo(
            t("fleet.planned", lang, tasks=count * (2 if plan.quality else 1),
              bytes=size(sum(travels.values())))
        )  # fmt: skip
    return 0 if all(row[-1] == "✅" for row in rows) else 1


def _here(name: str, plan: Plan, chosen: dict[str, Any]) -> bool:
    """Whether a kind of machine is looked for at all: of this machine alone, it is one."""
    return chosen["address"] != LOCAL or name == _own(plan, chosen["machine_class"])


def _own(plan: Plan, given: str | None) -> str:
    """Returns the kind of this machine.

    Raises:
        InputError: `fleet_which` where the plan has several and none was named, `fleet_class` for
            one that it does not have.
    """
    known = ", ".join(plan.classes)
    if given is None:
        if len(plan.classes) > 1:
            raise InputError("fleet_which", known=known)
        return next(iter(plan.classes))
    if given not in plan.classes:
        raise InputError("fleet_class", given=given, known=known)
    return given


@contextlib.contextmanager
def _executor(plan: Plan, chosen: dict[str, Any]) -> Iterator[Executor]:
    """Gives who carries the plan out.

    Raises:
        InputError: As `_own`, or `cluster_unreachable`.
        MissingExtraError: Ray is not installed, and another address than `local` was given.
    """
    if chosen["address"] == LOCAL:
        from vozmetro.fleet.executor import Local

        name, place = _own(plan, chosen["machine_class"]), chosen["place"]
        nodes = plan.classes[name].nodes
        if not 1 <= place <= nodes:
            raise InputError("fleet_place", name=name, nodes=nodes)
        yield Local(name, place)
        return
    if chosen["machine_class"] is not None or chosen["place"] != 1:
        raise InputError("fleet_as_local")
    from vozmetro.fleet.cluster import connect
    from vozmetro.fleet.on_ray import OnRay

    with connect(chosen["address"]):
        yield OnRay(plan, chosen.get("patience", 600.0))


def _say(told: Told, lang: str) -> None:
    """Says on standard error what happens to a task."""
    task = told.task
    what = t(f"fleet.told_{told.what}", lang)
    stage = t(f"fleet.stage_{task.stage}", lang)
    where = f"{task.machine_class} {task.place}" + (f" ({told.host})" if told.host else "")
    click.echo("  " + plain(f"{where} · {task.subject} · {stage}: {what}"), err=True)
