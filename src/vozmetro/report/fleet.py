"""What a fleet came to: at the terminal, as Markdown, as JSON."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from rich.console import Console, ConsoleRenderable, Group
from rich.text import Text

from vozmetro.errors import VozmetroError
from vozmetro.i18n import t
from vozmetro.judge.evidence import machine_of
from vozmetro.judge.fleet import ClassVerdict, FleetVerdict, Missing, Placed
from vozmetro.report.escape import escape, table
from vozmetro.report.formatting import ICONS, clip, ends, finite, number
from vozmetro.report.quality_judged import judged_study
from vozmetro.report.tables import indented, titled
from vozmetro.report.tables import table as terminal_table
from vozmetro.report.terminal import STYLES
from vozmetro.units import percent, plain, size

_NAME = 22  # letters of a subject: then its row fits 80 columns
_MOST = 6
Cleaner = Callable[[object], str]


def print_fleet(console: Console, verdict: FleetVerdict, lang: str) -> None:
    """Prints a fleet's results, a table for each kind of machine.

    Args:
        console: Where to; 80 columns are enough.
        verdict: Judged.
        lang: `es` or `en`.
    """
    parts: list[ConsoleRenderable] = []
    for one in verdict.classes:
        parts.append(
            titled(_title(one, lang), terminal_table(_columns(lang), _rows(one, lang, plain)))
        )
        parts += [indented(Text(line, style="yellow")) for line in notes(one, lang, plain)]
    line = conclusion(verdict, lang)
    parts += [Text(""), Text(line, style=f"bold {STYLES[verdict.status]}")]
    console.print(Group(*parts))


def fleet_markdown(name: str, verdict: FleetVerdict, lang: str) -> str:
    """Returns the report in Markdown.

    Args:
        name: The plan's.
        verdict: Judged.
        lang: `es` or `en`.
    """
    lines = [f"# {t('fleet.title', lang, name=escape(name))}", "", conclusion(verdict, lang), ""]
    for one in verdict.classes:
        heads = [head for head, _ in _columns(lang)]
        kinds = "".join("r" if kind == "right" else "l" for _, kind in _columns(lang))
        lines += [f"## {escape(_title(one, lang))}", ""]
        lines += [*table(heads, _rows(one, lang, escape), kinds), ""]
        found = notes(one, lang, escape)
        lines += [*(f"- {line}" for line in found), *([""] if found else [])]
    return "\n".join(lines)


def fleet_json(verdict: FleetVerdict) -> dict[str, Any]:
    """Returns what `--json` prints."""
    return {
        "type": "fleet_summary",
        "status": verdict.status,
        "cheapest": verdict.cheapest,
        "cheapest_by": verdict.by,
        "classes": [
            {
                "name": one.name,
                "status": one.status,
                "price": one.price,
                "subjects": {subject: one.of(subject) for subject in one.subjects},
                "results": [_result(placed) for placed in one.placed],
                "disagreements": [finite(asdict(found)) for found in one.disagreements],
                "unlike": [asdict(found) for found in one.unlike],
            }
            for one in verdict.classes
        ],
    }


def conclusion(verdict: FleetVerdict, lang: str) -> str:
    """Returns what it comes to, in one sentence."""
    text = t(f"fleet.verdict_{verdict.status}", lang)
    if verdict.by == "price":
        price = next(one.price for one in verdict.classes if one.name == verdict.cheapest)
        text += " " + t("fleet.cheapest_price", lang, name=verdict.cheapest, price=f"{price:g}")
    elif verdict.by == "cores":
        text += " " + t("fleet.cheapest_cores", lang, name=verdict.cheapest)
    return f"{ICONS[verdict.status]} {text}"


def notes(one: ClassVerdict, lang: str, clean: Cleaner) -> list[str]:
    """Returns what a reader must know beside the numbers."""
    found = []
    # One line for each reason, as a machine that never came is the reason of all its tasks.
    reasons: dict[str, list[Placed]] = {}
    for placed in one.placed:
        for note in placed.missing:
            why = _why(note, lang)
            reasons.setdefault(why, []).append(placed)
    for why, missing in reasons.items():
        # Once, be it neither measured nor scored.
        told = list(
            dict.fromkeys(f"{clean(clip(plain(it.subject), _NAME))} #{it.place}" for it in missing)
        )
        shown = ", ".join(told[:_MOST]) + (" …" if len(told) > _MOST else "")
        found.append(t("fleet.missing", lang, what=shown, why=clean(why)))
    for pair in one.disagreements:
        fields = {"subject": clean(pair.subject), "a": pair.a, "b": pair.b}
        if pair.files:
            found.append(t("fleet.other_files", lang, **fields))
        low, high = pair.ratio.low, pair.ratio.high
        span = ends(low, high, lambda end: "–" if end is None else percent(end, 1))
        change = f"{percent(pair.ratio.value, 1)} {span}"
        found.append(t("fleet.disagree", lang, **fields, change=change))
    if one.unlike:
        told = [f"{clean(u.name)}: {clean(u.a or '–')} / {clean(u.b or '–')}" for u in one.unlike]
        shown = "; ".join(told[:_MOST]) + (" …" if len(told) > _MOST else "")
        found.append(t("fleet.unlike", lang, what=shown))
    return found


def _why(note: Missing, lang: str) -> str:
    try:
        return VozmetroError(note.code, **note.fields).message(lang)
    except (KeyError, TypeError):
        # Of a folder that another version wrote.
        return note.code


def _title(one: ClassVerdict, lang: str) -> str:
    state = f"{ICONS[one.status]} {t(f'report.state_{one.status}', lang)}"
    machines = dict.fromkeys(
        machine_of(placed.run.environment, placed.run.subject.device)
        for placed in one.placed
        if placed.run
    )
    told = ", ".join(clip(plain(name), 40) for name in machines)
    return " · ".join(part for part in (one.name, told, state) if part)


def _columns(lang: str) -> list[tuple[str, str]]:
    return [
        (t("history.subject", lang), "fixed"), ("#", "right"), ("P50 ms [95 %]", "right"),
        ("RAM", "right"), ("WER", "right"), (t("gate.state", lang), "fixed"),
    ]  # fmt: skip


def _rows(one: ClassVerdict, lang: str, clean: Cleaner) -> list[list[str]]:
    return [
        [
            clean(clip(plain(placed.subject), _NAME)),
            str(placed.place),
            clean(_p50(placed)),
            _ram(placed),
            _wer(placed),
            f"{ICONS[placed.status]} {t(f'report.state_{placed.status}', lang)}"
            if placed.decision
            else f"– {t('fleet.none', lang)}",
        ]
        for placed in one.placed
    ]


def _p50(placed: Placed) -> str:
    if placed.decision is None:
        return "–"
    check = placed.decision.check("p50")
    return f"{number(check.value)} {ends(check.low, check.high, _short)}"


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _ram(placed: Placed) -> str:
    peak = max((one.peak_rss for one in placed.run.sessions), default=0) if placed.run else 0
    return size(peak).replace(" ", "") if peak else "–"


def _wer(placed: Placed) -> str:
    if placed.study is None:
        return "–"
    [system] = judged_study(placed.study).systems
    found = next((one for one in system.figures if one.metric == "wer"), None)
    return "–" if found is None else f"{100 * found.value:.1f}"


def _result(placed: Placed) -> dict[str, Any]:
    decision = placed.decision
    p50 = None if decision is None else decision.check("p50")
    return {
        "subject": placed.subject,
        "place": placed.place,
        "status": placed.status,
        "measured": placed.run is not None,
        "p50_ms": None if p50 is None else finite(p50.value),
        "p50_low_ms": None if p50 is None else p50.low,
        "p50_high_ms": None if p50 is None else p50.high,
        "run": placed.run.id if placed.run else None,
        "quality": placed.study.id if placed.study else None,
        "missing": [{"code": one.code, "fields": dict(one.fields)} for one in placed.missing],
    }
