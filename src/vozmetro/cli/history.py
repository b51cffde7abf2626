"""`vozmetro history`: what was measured before, as a list, a trend, or one against another."""

from __future__ import annotations

import math
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vozmetro.cli.localized import LocalizedGroup, make_command
from vozmetro.cli.options import RUNS_FOLDER, having, language
from vozmetro.cli.run import output, print_json
from vozmetro.errors import InputError, OutputError
from vozmetro.i18n import t

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from vozmetro.history.store import Filter, History
    from vozmetro.judge.rows import Row
    from vozmetro.measure.records import Run

_MOST = 50
_ENOUGH = 50  # files from which on reading is worth a line


class _DefaultGroup(LocalizedGroup):
    """A group whose first command is meant where none is named."""

    default = "list"

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Puts the default command before words that name none."""
        # `--lang es` may stand before the command; both take it.
        rest = list(args)
        while rest and rest[0].startswith("--lang"):
            rest = rest[1 if "=" in rest[0] else 2 :]
        if not rest or (rest[0] not in self.commands and rest[0] != "--help"):
            args = [self.default, *args]
        return super().parse_args(ctx, args)


def commands(lang: str) -> list[click.Command]:
    """Returns the group `history`."""
    group = _DefaultGroup("history", lang=lang, help=t("cli.history_help", lang))
    language(lang)(group)
    for make in (_list, _trend, _show, _diff, _export):
        group.add_command(make(lang))
    return [group]


def opened(folders: tuple[Path, ...], lang: str) -> AbstractContextManager[History]:
    """Opens the history below folders, with progress on standard error.

    Raises:
        InputError: `history_missing` for a folder that is not there.
    """
    from vozmetro.history.store import History
    from vozmetro.packages import is_dir, is_file

    places = folders or (RUNS_FOLDER,)
    for folder in places:
        if not is_dir(folder) and not is_file(folder):
            raise InputError("history_missing", path=folder)

    def listen(done: int, of: int) -> None:
        if of >= _ENOUGH and sys.stderr.isatty():
            end = "\n" if done == of else ""
            click.echo(
                "\r" + t("history.reading", lang, done=done, of=of) + end, err=True, nl=False
            )

    return History.open(places, listen=listen, jobs=0)


def _folders() -> Any:
    return click.argument("folders", nargs=-1, type=click.Path(path_type=Path))


def folder_option(lang: str) -> Any:
    """`--history FOLDER`, for commands whose words name runs."""
    return click.option(
        "--history", "folders", multiple=True, type=click.Path(path_type=Path),
        metavar=t("cli.m_folder", lang), help=t("cli.history_folder", lang, default=RUNS_FOLDER),
    )  # fmt: skip


def _filters(lang: str) -> list[Any]:
    say = partial(t, lang=lang)
    return [
        click.option("--subject", metavar="GLOB", help=say("cli.history_subject")),
        click.option("--machine", metavar="GLOB", help=say("cli.history_machine")),
        click.option("--precision", metavar="INT8", help=say("cli.history_precision")),
        click.option("--since", metavar="2026-01-31", help=say("cli.history_since")),
        click.option("--until", metavar="2026-01-31", help=say("cli.history_until")),
        click.option("--status", metavar="pass", help=say("cli.history_status")),
    ]


def _chosen(words: dict[str, Any]) -> Filter:
    from vozmetro.history.moments import moment
    from vozmetro.history.store import Filter

    since, until = words["since"], words["until"]
    return Filter(
        subject=words["subject"],
        machine=words["machine"],
        precision=words["precision"],
        since=None if since is None else moment(since),
        until=None if until is None else moment(until, end=True),
        status=words["status"],
    )


def _list(lang: str) -> click.Command:
    say = partial(t, lang=lang)
    options = [
        _folders(), *_filters(lang),
        click.option("--limit", type=click.IntRange(min=1), default=_MOST, metavar="N",
                     help=say("cli.history_limit", default=_MOST)),
        click.option("--strict", is_flag=True, help=say("cli.history_strict")),
        click.option("--json", "as_json", is_flag=True, help=say("cli.json")),
        click.option("--csv", "as_csv", is_flag=True, help=say("cli.history_csv")),
        language(lang),
    ]  # fmt: skip

    def listed(folders: tuple[Path, ...], **words: Any) -> int:
        return _listed(folders, words, lang)

    return make_command("history", "list", lang, having(options)(listed))


def _listed(folders: tuple[Path, ...], words: dict[str, Any], lang: str) -> int:
    from rich.console import Console

    from vozmetro.report.history import print_rows, print_unreadable, rows_csv, rows_json

    chosen = _chosen(words)
    with opened(folders, lang) as history:
        rows = history.rows(chosen, words["limit"])
        total, unreadable = history.count(chosen), history.unreadable()
    with output():
        if words["as_json"]:
            found = {"type": "history", "rows": rows_json(rows), "total": total,
                     "unreadable": [{"file": one.file, "detail": one.detail}
                                    for one in unreadable]}  # fmt: skip
            print_json(found)
        elif words["as_csv"]:
            click.echo(rows_csv(rows), nl=False)
        else:
            print_rows(Console(), rows, total, len(unreadable), lang)
            if words["strict"]:
                print_unreadable(Console(), unreadable, lang)
    if words["strict"] and unreadable:
        raise InputError("history_unreadable", n=len(unreadable), path=unreadable[0].file)
    return 0


def _trend(lang: str) -> click.Command:
    from vozmetro.judge.rows import METRICS

    say = partial(t, lang=lang)
    options = [
        _folders(),
        click.option("--metric", type=click.Choice(METRICS), default="p50",
                     help=say("cli.history_metric", default="p50")),
        *_filters(lang),
        click.option("--limit", type=click.IntRange(min=1), default=_MOST, metavar="N",
                     help=say("cli.history_trend_limit", default=_MOST)),
        click.option("--plot", type=click.Path(path_type=Path, dir_okay=False),
                     metavar="PLOT.png|svg", help=say("cli.history_plot")),
        click.option("--json", "as_json", is_flag=True, help=say("cli.json")),
        language(lang),
    ]  # fmt: skip

    def trend(folders: tuple[Path, ...], **words: Any) -> int:
        return _trended(folders, words, lang)

    return make_command("history", "trend", lang, having(options)(trend))


def _trended(folders: tuple[Path, ...], words: dict[str, Any], lang: str) -> int:
    from rich.console import Console

    from vozmetro.judge.trend import trends
    from vozmetro.report.trends import print_trends, trends_json

    metric, plot = words["metric"], words["plot"]
    if plot is not None and plot.suffix.lower() not in (".png", ".svg"):
        raise OutputError("plot_kind", path=plot)
    with opened(folders, lang) as history:
        found = trends(history.rows(_chosen(words)), metric)
    with output():
        if words["as_json"]:
            print_json(trends_json(found, metric))
        else:
            print_trends(Console(), found, metric, words["limit"], lang)
    if plot is not None:
        from vozmetro.measure.storage import write_atomic
        from vozmetro.report.history_plots import trend_plot

        image = trend_plot(found, metric, lang, plot.suffix.lower()[1:])
        if image is None:
            raise InputError("history_no_plot", metric=metric)
        write_atomic(plot, image)
        if not words["as_json"]:
            click.echo("\n" + t("cli.page_written", lang, path=plot))
    return 0


def _show(lang: str) -> click.Command:
    options = [
        click.argument("run", metavar="ID"),
        folder_option(lang),
        click.option("--json", "as_json", is_flag=True, help=t("cli.json", lang)),
        language(lang),
    ]

    def show(run: str, folders: tuple[Path, ...], as_json: bool) -> int:
        from rich.console import Console

        from vozmetro.judge.statistics import summarize_run
        from vozmetro.report.bundle import summary_json
        from vozmetro.report.quality_judged import verdict
        from vozmetro.report.terminal import print_run

        with opened(folders, lang) as history:
            found = _run(run, history)
        summary, decision = summarize_run(found), verdict(found)
        with output():
            if as_json:
                print_json(summary_json(found, summary, decision))
            else:
                print_run(Console(), found, summary, decision, lang)
        return 0

    return make_command("history", "show", lang, having(options)(show))


def _run(words: str, history: History) -> Run:
    """Returns the measured run that a path, or the beginning or end of an id, names.

    Raises:
        InputError: As for `selectors.records`; `run_empty` where nothing was measured.
    """
    from vozmetro.history.selectors import records
    from vozmetro.measure.records import ComparisonRecord

    found = records(words, history)
    if len(found) != 1 or isinstance(found[0], ComparisonRecord):
        raise InputError("history_one_run", given=words)
    if not found[0].samples:
        raise InputError("run_empty", path=words)
    return found[0]


def _diff(lang: str) -> click.Command:
    options = [
        click.argument("a", metavar="ID"),
        click.argument("b", metavar="ID"),
        folder_option(lang),
        click.option("--json", "as_json", is_flag=True, help=t("cli.json", lang)),
        language(lang),
    ]

    def diff(a: str, b: str, folders: tuple[Path, ...], as_json: bool) -> int:
        return _differ(a, b, folders, as_json, lang)

    return make_command("history", "diff", lang, having(options)(diff))


def _differ(a: str, b: str, folders: tuple[Path, ...], as_json: bool, lang: str) -> int:
    from dataclasses import asdict

    from rich.console import Console

    from vozmetro.history.rows import run_row
    from vozmetro.judge.differences import differences
    from vozmetro.judge.rows import METRICS
    from vozmetro.judge.statistics import summarize_run
    from vozmetro.judge.trend import item_ratio, ratio
    from vozmetro.report.formatting import finite
    from vozmetro.report.trends import print_differences
    from vozmetro.report.values import metric_name, value
    from vozmetro.report.values import ratio as ratio_text

    with opened(folders, lang) as history:
        runs = [_run(words, history) for words in (a, b)]
    found = differences(*runs)
    left, right = (run_row(run, "") for run in runs)
    both = {name: (left.metric(name), right.metric(name)) for name in METRICS}
    ratios = {name: ratio(y, x) for name, (x, y) in both.items() if x is not None and y is not None}
    # What items differ by among themselves says nothing of the two runs.
    by_item = item_ratio(*(summarize_run(run) for run in reversed(runs)))
    ratios |= {"p50": by_item} if by_item else {}
    with output():
        if as_json:
            metrics = {name: finite(asdict(one)) for name, one in ratios.items()}
            print_json({"type": "diff", "a": left.id, "b": right.id,
                        "differences": [asdict(one) for one in found],
                        "ratios": metrics})  # fmt: skip
            return 0
        rows = [
            [metric_name(name, lang), value(name, x.value), value(name, y.value),
             "–" if math.isnan(ratios[name].value) else ratio_text(ratios[name])]
            for name, (x, y) in both.items()
            if x is not None and y is not None
        ]  # fmt: skip
        print_differences(Console(), (left.id, right.id), found, rows, lang)
    return 0


def _export(lang: str) -> click.Command:
    say = partial(t, lang=lang)
    options = [
        _folders(),
        click.option("--mlflow", "store", required=True, metavar="URI|" + say("cli.m_folder"),
                     help=say("cli.history_mlflow")),
        click.option("--experiment", default="vozmetro", metavar="NAME",
                     help=say("cli.history_experiment", default="vozmetro")),
        *_filters(lang), language(lang),
    ]  # fmt: skip

    def export(folders: tuple[Path, ...], store: str, experiment: str, **words: Any) -> int:
        from vozmetro.history.mlflow_export import export as write

        chosen = _chosen(words)
        with opened(folders, lang) as history:
            rows: list[Row] = history.rows(chosen)
        told = write(rows, store, experiment)
        with output():
            click.echo(
                t("history.exported", lang, new=len(told.new), known=len(told.known), uri=store)
            )
        return 0

    return make_command("history", "export", lang, having(options)(export))
