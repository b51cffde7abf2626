"""What tuning has found, at the terminal and as JSON."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from vozmetro.i18n import t
from vozmetro.quality.tuning import Gain, Tried, Tuning
from vozmetro.units import plain


def print_tuning(console: Console, found: Tuning, lang: str) -> None:
    """Prints every change: latency, gain beside the one expected, words.

    Args:
        console: Where.
        found: What was tried.
        lang: `es` or `en`.
    """
    console.print(t("tune.title", lang, baseline=plain(found.baseline)), style="bold")
    rows = [*found.tried, *([found.narrow] if found.narrow else [])]
    for number, one in enumerate(rows, 1):
        mark = "→" if one is found.best else " "
        console.print(f"{mark}{number:>2} {plain(_name(one, lang))}", highlight=False, markup=False)
    table = Table(box=None, pad_edge=False, padding=(0, 1))
    for key in ("number", "p50", "gain", "expected", "wer", "cost"):
        table.add_column(t(f"tune.{key}", lang), justify="right")
    table.add_column("")
    for number, one in enumerate(rows, 1):
        allowed = t("tune.allowed" if one.allowed else "tune.not_allowed", lang)
        table.add_row(str(number), *_cells(one), allowed)
    console.print(table)
    if found.best is None or not found.best.change.against:
        console.print(t("tune.none", lang, baseline=plain(found.baseline)), markup=False)
    else:
        best = plain(found.best.change.words)
        console.print(t("tune.best", lang, best=best), markup=False)


def _name(one: Tried, lang: str) -> str:
    tip = t(f"tune.tip_{one.change.tip}", lang) if one.change.tip else t("tune.baseline", lang)
    return f"{one.change.words} · {tip}"


def _cells(one: Tried) -> list[str]:
    cost = one.cost
    expected = one.change.expected
    return [
        f"{one.p50_ms:.1f}",
        _gain(one.gain) if one.gain else "–",
        f"{100 * expected[0]:.0f}–{100 * expected[1]:.0f} %" if expected else "–",
        f"{100 * one.wer:.1f} %",
        f"{100 * cost.value:+.1f} [{100 * cost.low:+.1f}, {100 * cost.high:+.1f}]" if cost else "–",
    ]


def _gain(gain: Gain) -> str:
    return f"{100 * gain.value:.0f} % [{100 * gain.low:.0f}, {100 * gain.high:.0f}]"


def tuning_json(found: Tuning) -> dict[str, Any]:
    """Returns all figures; gains and WER as fractions."""
    rows = [*found.tried, *([found.narrow] if found.narrow else [])]
    return {
        "baseline": found.baseline,
        "best": found.best.change.words if found.best else None,
        "tried": [_row_json(one) for one in rows],
    }


def _row_json(one: Tried) -> dict[str, Any]:
    gain, cost = one.gain, one.cost
    return {
        "subject": one.change.words,
        "against": one.change.against or None,
        "tip": one.change.tip or None,
        "p50_ms": one.p50_ms,
        "gain": [gain.value, gain.low, gain.high] if gain else None,
        "expected": list(one.change.expected) if one.change.expected else None,
        "wer": one.wer,
        "wer_cost": [cost.value, cost.low, cost.high] if cost else None,
        "allowed": one.allowed,
    }
