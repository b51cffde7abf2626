"""What the gate says: at the terminal, as Markdown, JUnit XML, JSON, and a badge."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from rich.console import Console, ConsoleRenderable, Group
from rich.text import Text

from vozmetro.errors import MissingExtraError
from vozmetro.i18n import t
from vozmetro.judge.gate import GateCheck, GateResult
from vozmetro.judge.interval import ASSUMED_SPREAD
from vozmetro.report.escape import code, escape, table
from vozmetro.report.formatting import ICONS, clip, finite
from vozmetro.report.tables import table as terminal_table
from vozmetro.report.tables import titled
from vozmetro.report.terminal import STYLES, bullets
from vozmetro.report.values import metric_name, ratio, value
from vozmetro.units import percent, plain

_COLOURS = {"pass": "brightgreen", "fail": "red", "undecided": "yellow"}
_MOST_CHANGES = 12
Cleaner = Callable[[object], str]


def print_gate(console: Console, result: GateResult, lang: str) -> None:
    """Prints what the gate says.

    Args:
        console: Where to; 80 columns are enough.
        result: Judged.
        lang: `es` or `en`.
    """
    head = t("gate.head", lang, subject=clip(plain(result.subject), 60))
    parts: list[ConsoleRenderable] = [
        Text(""),
        Text(head, style="bold"),
        Text("  " + _where(result, lang)),
        Text("  " + _runs(result, lang)),
        Text(""),
        terminal_table(
            [(t("gate.metric", lang), "left"), (t("gate.baseline", lang), "right"),
             (t("gate.candidate", lang), "right"), (t("gate.change", lang), "right"),
             (t("gate.state", lang), "fixed")],
            [_cells(check, lang) for check in result.checks],
        ),
    ]  # fmt: skip
    parts += bullets(t("terminal.notes", lang), notes(result, lang))
    changes = _changes(result, lang)
    if changes:
        rows = [Text(f"    {line}") for line in changes]
        parts.append(titled(t("gate.changed", lang), *rows))
    parts += [Text(""), Text(verdict(result, lang), style=f"bold {STYLES[result.status]}")]
    console.print(Group(*parts))


def verdict(result: GateResult, lang: str) -> str:
    """Returns the verdict in one sentence."""
    fields = {
        "detect": f"{100 * result.plan.detect:g}",
        "metrics": ", ".join(
            metric_name(check.metric, lang)
            for check in result.checks
            if check.status == result.status
        ),
    }
    return f"{ICONS[result.status]} {t(f'gate.verdict_{result.status}', lang, **fields)}"


def notes(result: GateResult, lang: str, clean: Cleaner = plain) -> list[str]:
    """Returns what a reader must know beside the numbers."""
    found = [
        t("gate.unlike", lang, name=clean(one.name), a=clean(one.a or "–"), b=clean(one.b or "–"))
        for one in result.unfair
    ]
    if any(check.design == "one-run" for check in result.checks):
        found.append(t("gate.one_run", lang, spread=f"{100 * ASSUMED_SPREAD:g}"))
    for check in result.checks:
        name = metric_name(check.metric, lang)
        if check.machine:
            found.append(t("gate.machine_slower", lang, metric=name))
        elif check.status == "undecided" and check.runs_needed:
            found.append(t("gate.runs_needed", lang, metric=name, n=check.runs_needed))
    return found


def _where(result: GateResult, lang: str) -> str:
    return t("gate.where", lang, machine=plain(result.machine), threads=result.threads)


def _runs(result: GateResult, lang: str) -> str:
    key = "gate.paired" if result.paired else "gate.apart"
    return t(key, lang, n=len(result.candidates), m=len(result.baselines))


def _cells(check: GateCheck, lang: str) -> list[str]:
    return [
        metric_name(check.metric, lang),
        value(check.metric, check.baseline),
        value(check.metric, check.candidate),
        change(check),
        f"{ICONS[check.status]} {t(f'gate.state_{check.status}', lang)}",
    ]


def change(check: GateCheck) -> str:
    """Returns a change with its interval: `+5.2 % [+3.1, +7.4]`; of the WER in points."""
    if check.metric == "wer":
        ends = (check.change.value, check.change.low, check.change.high)
        shown = [f"{100 * (one or 0.0):+.1f}" for one in ends]
        return f"{shown[0]} pp [{shown[1]}, {shown[2]}]"
    return ratio(check.change)


def _changes(result: GateResult, lang: str, clean: Cleaner = plain) -> list[str]:
    shown = [
        f"{clean(one.name)}: {clean(clip(one.a, 30) or '–')} → {clean(clip(one.b, 30) or '–')}"
        for one in result.changed[:_MOST_CHANGES]
    ]
    left = len(result.changed) - len(shown)
    return [*shown, *([t("gate.more_changes", lang, n=left)] if left > 0 else [])]


def markdown(result: GateResult, lang: str) -> str:
    """Returns the summary of a job, in Markdown; names from outside are made harmless."""
    lines = [
        f"### {verdict(result, lang)}",
        "",
        f"{code(result.subject)} · {escape(_where(result, lang))} · {_runs(result, lang)}",
        "",
        *table(
            [t(f"gate.{name}", lang)
             for name in ("metric", "baseline", "candidate", "change", "state")],
            [[escape(cell) for cell in _cells(check, lang)] for check in result.checks],
            "lrrrl",
        ),
    ]  # fmt: skip
    said = notes(result, lang, escape)
    lines += ["", *(f"- {line}" for line in said)] if said else []
    changes = _changes(result, lang, escape)
    if changes:
        title = t("gate.changed", lang)
        lines += ["", f"<details><summary>{title}</summary>", ""]
        lines += [*(f"- {line}" for line in changes), "", "</details>"]
    return "\n".join([*lines, ""])


def badge(result: GateResult, lang: str) -> dict[str, Any]:
    """Returns the badge as shields.io's endpoint takes it: https://shields.io/badges/endpoint-badge."""
    first = result.checks[0]
    key = t(f"gate.state_{result.status}", lang)
    shown = key if first.metric == "wer" else f"{key} {percent(first.change.value, 1)}"
    return {
        "schemaVersion": 1,
        "label": metric_name(first.metric, lang),
        "message": shown,
        "color": _COLOURS[result.status],
    }


def badge_text(result: GateResult, lang: str) -> str:
    """Returns the badge as the text of its file."""
    return json.dumps(badge(result, lang), ensure_ascii=False) + "\n"


def junit(result: GateResult, lang: str) -> bytes:
    """Returns JUnit XML: a case for each metric; what is undecided counts as skipped.

    Raises:
        MissingExtraError: junitparser is not installed.
    """
    try:
        from junitparser import Failure, JUnitXml, Skipped, TestCase, TestSuite
    except ImportError as error:
        raise MissingExtraError("history", "junitparser") from error
    suite = TestSuite("vozmetro gate")
    for name, said in (("subject", result.subject), ("machine", result.machine)):
        suite.add_property(_xml(name), _xml(said))
    for check in result.checks:
        case = TestCase(_xml(f"{metric_name(check.metric, lang)}"), _xml(result.subject), 0.0)
        said = " ".join(_cells(check, lang)[1:4])
        if check.status == "fail":
            case.result = [Failure(_xml(change(check)), "regression")]
        elif check.status == "undecided":
            case.result = [Skipped(_xml(change(check)))]
        case.system_out = _xml("\n".join([said, *notes(result, lang)]))
        suite.add_testcase(case)
    xml = JUnitXml("vozmetro")
    xml.add_testsuite(suite)
    data = io.BytesIO()
    xml.write(data)
    return data.getvalue()


def _xml(text: str) -> str:
    """Text without what XML 1.0 cannot hold."""
    return "".join(char if char >= " " or char in "\n\t" else "\ufffd" for char in text)


def gate_json(result: GateResult) -> dict[str, Any]:
    """Returns what `--json` prints: English keys, base units, changes as ratios."""
    told = asdict(result)
    return {"type": "gate", **{name: finite(one) for name, one in told.items()}}
