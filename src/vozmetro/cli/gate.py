"""`vozmetro gate`: for CI, whether a build is slower than it was."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vozmetro.cli.history import folder_option, opened
from vozmetro.cli.localized import LocalizedCommand
from vozmetro.cli.options import having, language
from vozmetro.cli.run import output, print_json
from vozmetro.errors import InputError, OutputError
from vozmetro.i18n import t

if TYPE_CHECKING:
    from vozmetro.history.store import History
    from vozmetro.judge.gate import GateResult, Plan
    from vozmetro.measure.records import ComparisonRecord, Run

_GITHUB = "GITHUB_STEP_SUMMARY"


def commands(lang: str) -> list[click.Command]:
    """Returns `gate`."""
    say = partial(t, lang=lang)
    file = click.Path(path_type=Path, dir_okay=False)
    options = [
        click.argument("runs", nargs=-1, required=True, metavar="RUN..."),
        click.option("--baseline", multiple=True, metavar="RUN|SELECTOR",
                     help=say("cli.gate_baseline")),
        folder_option(lang),
        click.option("--metrics", default="p50", metavar="p50,peak_ram",
                     help=say("cli.gate_metrics", default="p50")),
        click.option("--tolerance", default="1%", metavar="1%",
                     help=say("cli.gate_tolerance", default="1%")),
        click.option("--detect", default="5%", metavar="5%",
                     help=say("cli.gate_detect", default="5%")),
        click.option("--new-model", is_flag=True, help=say("cli.gate_new_model")),
        click.option("--unfair", is_flag=True, help=say("cli.gate_unfair")),
        click.option("--junit", type=file, metavar="JUNIT.xml", help=say("cli.gate_junit")),
        click.option("--summary", type=file, metavar="SUMMARY.md", help=say("cli.gate_summary")),
        click.option("--github", is_flag=True, help=say("cli.gate_github", name=_GITHUB)),
        click.option("--badge", type=file, metavar="BADGE.json", help=say("cli.gate_badge")),
        click.option("--json", "as_json", is_flag=True, help=say("cli.json")),
        click.option("--no-gate", is_flag=True, help=say("cli.gate_no_gate")),
        language(lang),
    ]  # fmt: skip

    def gate(runs: tuple[str, ...], **chosen: Any) -> int:
        return _gate(runs, chosen, lang)

    function: Any = having(options)(gate)
    params = list(reversed(function.__click_params__))
    text = say("cli.gate_help")
    return [LocalizedCommand("gate", lang=lang, callback=function, params=params, help=text)]


def _gate(words: tuple[str, ...], chosen: dict[str, Any], lang: str) -> int:
    from rich.console import Console

    from vozmetro.cli.measure import EXIT_CODES
    from vozmetro.report.gate import gate_json, print_gate

    if chosen["github"] and not os.environ.get(_GITHUB):
        raise InputError("gate_no_github", name=_GITHUB)
    result = _judged(words, chosen["baseline"], _plan(chosen), chosen["folders"], lang)
    with output():
        if chosen["as_json"]:
            print_json(gate_json(result))
        else:
            print_gate(Console(), result, lang)
    _write(result, chosen, lang)
    return 0 if chosen["no_gate"] else EXIT_CODES[result.status]


def _plan(chosen: dict[str, Any]) -> Plan:
    from vozmetro.judge.gate import METRICS, Plan

    names = list(dict.fromkeys(one.strip() for one in chosen["metrics"].split(",") if one.strip()))
    metrics = tuple(metric for metric in METRICS if metric in names)
    unknown = [one for one in names if one not in METRICS]
    if unknown or not names:
        raise InputError("gate_metrics", given=chosen["metrics"], known=", ".join(METRICS))
    return Plan(
        # The one that was named first leads, on the badge too.
        metrics=tuple(sorted(metrics, key=names.index)),
        tolerance=share(chosen["tolerance"]),
        detect=share(chosen["detect"]),
        new_model=chosen["new_model"],
        unfair=chosen["unfair"],
    )


def share(text: str) -> float:
    """Reads `5%` or `0.05` as a fraction.

    Raises:
        InputError: `bad_share`.
    """
    bare = text.strip()
    try:
        value = float(bare.removesuffix("%")) / (100 if bare.endswith("%") else 1)
    except ValueError as error:
        raise InputError("bad_share", given=text) from error
    # From 1 on somebody means percent and not a hundredfold.
    if not 0 <= value < 1:
        raise InputError("bad_share", given=text)
    return value


def _judged(
    words: tuple[str, ...], baseline: tuple[str, ...], plan: Plan, folders: tuple[Path, ...],
    lang: str,
) -> GateResult:  # fmt: skip
    """Finds the runs, and holds them against each other.

    Raises:
        InputError: `gate_mixed`, `gate_no_baseline`, and what finding and judging raise.
    """
    from vozmetro.cli.options import RUNS_FOLDER
    from vozmetro.history.words import gate_words
    from vozmetro.judge.gate import gate, gate_comparisons
    from vozmetro.measure.records import ComparisonRecord, Run

    # Paths alone need no history.
    places = folders or ((RUNS_FOLDER,) if RUNS_FOLDER.exists() else ())
    with _history((*words, *baseline), places, lang) as history:
        found = _records(words, history)
        comparisons = [one for one in found if isinstance(one, ComparisonRecord)]
        runs = [one for one in found if isinstance(one, Run)]
        if comparisons:
            if runs or baseline:
                raise InputError("gate_mixed")
            heard = [record.b for record in comparisons], [record.a for record in comparisons]
            return gate_comparisons(comparisons, plan, gate_words(*heard))
        if not baseline:
            raise InputError("gate_no_baseline")
        against = _baselines(baseline, history, runs, plan)
    return gate(runs, against, plan, gate_words(runs, against))


def _history(words: tuple[str, ...], places: tuple[Path, ...], lang: str) -> Any:
    import contextlib

    from vozmetro.history.selectors import is_selector
    from vozmetro.packages import is_dir, is_file

    if all((is_file(Path(one)) or is_dir(Path(one))) and not is_selector(one) for one in words):
        return contextlib.nullcontext(None)
    if not places:
        from vozmetro.cli.options import RUNS_FOLDER

        raise InputError("history_missing", path=RUNS_FOLDER)
    return opened(places, lang)


def _records(words: tuple[str, ...], history: History) -> list[Run | ComparisonRecord]:
    from vozmetro.history.selectors import records

    found = [record for one in words for record in records(one, history)]
    # The same record, given twice, is no repeat.
    return list({record.id: record for record in found}.values())


def _baselines(words: tuple[str, ...], history: History, runs: list[Run], plan: Plan) -> list[Run]:
    from vozmetro.history.selectors import is_selector, records, selected
    from vozmetro.measure.records import ComparisonRecord

    found: dict[str, Run] = {}
    for one in words:
        if is_selector(one):
            told: Any = selected(one, history, runs, new_model=plan.new_model)
        else:
            told = records(one, history)
        if any(isinstance(record, ComparisonRecord) for record in told):
            raise InputError("gate_mixed")
        found |= {run.id: run for run in told}
    return list(found.values())


def _write(result: GateResult, chosen: dict[str, Any], lang: str) -> None:
    """Writes the files that were asked for.

    Raises:
        OutputError: One cannot be written.
        MissingExtraError: junitparser is not installed.
    """
    from vozmetro.measure.storage import write_atomic
    from vozmetro.report.gate import badge_text, junit, markdown

    if chosen["summary"]:
        write_atomic(chosen["summary"], markdown(result, lang).encode())
    if chosen["badge"]:
        write_atomic(chosen["badge"], badge_text(result, lang).encode())
    if chosen["github"]:
        path = Path(os.environ[_GITHUB])
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(markdown(result, lang))
        except OSError as error:
            detail = error.strerror or error
            raise OutputError("unwritable", path=path, detail=detail) from error
    if chosen["junit"]:
        write_atomic(chosen["junit"], junit(result, lang))
