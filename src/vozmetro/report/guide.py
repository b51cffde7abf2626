"""The layout of the users' guide, word for word, for `scripts/benchmark_audio_latency.py`."""

from __future__ import annotations

from rich.cells import cell_len

from vozmetro.i18n import t
from vozmetro.judge.comparison import Comparison
from vozmetro.judge.decision import Check, Decision
from vozmetro.judge.statistics import RunSummary
from vozmetro.measure.records import Run
from vozmetro.report.formatting import (
    SUMMARY_PERCENT,
    all_notes,
    check_interval,
    clip,
    confidence_text,
    in_seconds,
    lengths_text,
    limit_text,
    metric_value,
    note_text,
    number,
    pad,
    pair_names,
    pair_notes,
    partial_text,
    ratio_text,
    recommendation,
    runs_needed_text,
    steps,
    wrap,
)
from vozmetro.report.rows import ComparisonRow, comparison_rows

WIDTH = 80
# Where the guide's columns begin: metric, A, B; the difference begins at 68 if it fits there.
_COLUMN_A, _COLUMN_B, _COLUMN_CHANGE = 26, 47, 68
_INDENT = "   "


def guide_run(run: Run, summary: RunSummary, decision: Decision, lang: str = "es") -> str:
    """Returns one subject's result in the guide's layout (its step 2), at most 80 cells wide.

    Args:
        run: What was measured.
        summary: Its statistics.
        decision: Its verdict.
        lang: `es` or `en`.
    """
    check = decision.check("p50")
    lines = [
        t("guide.load_title", lang),
        t("guide.load", lang, value=in_seconds(summary.load_ms)),
        t("guide.warmup", lang, value=in_seconds(summary.warmup_ms)),
        "",
        t("guide.latency_title", lang),
        t("guide.p50", lang, value=number(summary.p50_mean)),
        t("guide.p99", lang, value=number(summary.p99_mean)),
        *_aside(t("guide.mean_over", lang, what=lengths_text(summary, lang))),
        *_aside(_p99_state(summary, lang)),
        "",
        t("guide.target", lang, limit=limit_text(check)),
        _INDENT + t(f"guide.verdict_{check.status}", lang),
    ]
    if check.status == "undecided":
        lines += _aside(runs_needed_text(check.runs_needed, lang))
    lines += _aside(_basis(check, decision, summary, lang))
    lines += _other_gates(decision, lang)
    if run.status != "complete":
        lines += wrap(partial_text(run, lang), WIDTH, f"{_INDENT}⚠️  ")
    notes = [note_text(note, lang) for note in all_notes(run, decision)]
    if notes:
        lines += ["", t("guide.notes_title", lang)]
        lines += [line for note in notes for line in wrap(note, WIDTH, f"{_INDENT}- ")]
    return "\n".join([*lines, "", *_decision(decision, lang)]) + "\n"


def _decision(decision: Decision, lang: str) -> list[str]:
    """The guide's step 4: what is decided, what to do next and how long it takes."""
    title, marked = steps(decision, lang)
    lines = [*wrap(note_text(decision.headline, lang), WIDTH), "", title]
    lines += [line for mark, step in marked for line in wrap(step, WIDTH, f"{mark} ")]
    return [*lines, "", *wrap(note_text(decision.timeline, lang), WIDTH)]


def _aside(text: str) -> list[str]:
    return wrap(text, WIDTH, f"{_INDENT}  ") if text else []


def _p99_state(summary: RunSummary, lang: str) -> str:
    """Says so where an input's P99 is no more than the slowest of its few samples."""
    open_items = [item for item in summary.per_item.values() if not item.p99.resolved]
    if not open_items:
        return ""
    fewest = min(item.n for item in open_items)
    needed = max((item.p99.n_needed or 0 for item in open_items), default=0)
    key = "guide.p99_unresolved" if needed else "guide.p99_unresolved_open"
    return t(key, lang, n=fewest, needed=needed)


def _basis(check: Check, decision: Decision, summary: RunSummary, lang: str) -> str:
    return t(
        "guide.basis",
        lang,
        value=metric_value("p50", check.value, ""),
        interval=check_interval(check),
        confidence=confidence_text(decision, summary, lang),
    )


def _other_gates(decision: Decision, lang: str, indent: str = _INDENT) -> list[str]:
    """The guide's verdict is on P50; another limit that gates and does not hold is named too."""
    lines: list[str] = []
    for check in decision.checks:
        if check.gates and check.metric != "p50" and check.status != "pass":
            text = t(
                "guide.other_gate",
                lang,
                name=t(f"report.metric_{check.metric}", lang),
                value=metric_value(check.metric, check.value, ""),
                limit=limit_text(check),
                verdict=t(f"guide.verdict_{check.status}", lang),
            )
            lines += wrap(text, WIDTH, indent)
    return lines


def guide_comparison(comparison: Comparison, lang: str = "es") -> str:
    """Returns two subjects side by side in the guide's layout (its step 3), 80 cells wide.

    Args:
        comparison: What was measured, judged.
        lang: `es` or `en`.
    """
    rows = comparison_rows(comparison, lang)
    header = ComparisonRow(
        "header",
        t("guide.metric", lang),
        t("guide.model", lang, letter="A"),
        t("guide.model", lang, letter="B"),
        t("guide.difference", lang),
    )
    # The guide's own differences reach past column 80; all of them move left together instead.
    widest = max(cell_len(row.difference) for row in rows)
    start = min(_COLUMN_CHANGE, WIDTH - widest)
    lines = [
        t("guide.table_title", lang),
        "=" * WIDTH,
        "",
        _line(header, _COLUMN_CHANGE),
        "-" * WIDTH,
        *(_line(row, start) for row in rows),
        "",
        "=" * WIDTH,
        "",
        t("guide.verdict_title", lang),
        *_verdicts(comparison, lang),
        *_difference(comparison, lang),
        *_recommendation(comparison, lang),
        *_caveats(comparison, lang),
    ]
    return "\n".join(lines) + "\n"


def _line(row: ComparisonRow, start: int) -> str:
    a = clip(row.a, _COLUMN_B - _COLUMN_A - 1)
    # As in the guide, a long name pushes its "N/A" to the right.
    b = clip(row.b, WIDTH - _COLUMN_B - 1 - cell_len(row.difference))
    label = pad(clip(row.label, _COLUMN_A - 1), _COLUMN_A)
    value = pad(b, max(start - _COLUMN_B, cell_len(b) + 1))
    return label + pad(a, _COLUMN_B - _COLUMN_A) + value + row.difference


def _verdicts(comparison: Comparison, lang: str) -> list[str]:
    a, b = pair_names(comparison.record)
    return [
        *_verdict("A", a, comparison.decision_a, lang),
        *_verdict("B", b, comparison.decision_b, lang),
    ]


def _verdict(letter: str, name: str, decision: Decision, lang: str) -> list[str]:
    check = decision.check("p50")
    key = f"guide.model_{letter.lower()}_{check.status}"
    fields = {"limit": limit_text(check), "letter": letter}
    room = WIDTH - cell_len(_INDENT + t(key, lang, name="", **fields))
    lines = [_INDENT + t(key, lang, name=clip(name, room), **fields)]
    further = _INDENT * 2
    if cell_len(name) > min(room, _COLUMN_B - _COLUMN_A - 1):
        lines += wrap(f"{letter} = {name}", WIDTH, further)
    if check.status == "undecided":
        lines += wrap(runs_needed_text(check.runs_needed, lang), WIDTH, further)
    return lines + _other_gates(decision, lang, further)


def _difference(comparison: Comparison, lang: str) -> list[str]:
    text = t(
        f"guide.{comparison.verdict}",
        lang,
        ratio=ratio_text(comparison.ratio),
        n=comparison.pairs,
        percent=SUMMARY_PERCENT,
    )
    return wrap(text, WIDTH, _INDENT, f"{_INDENT}   ")


def _recommendation(comparison: Comparison, lang: str) -> list[str]:
    sentences = recommendation(comparison, lang)
    if not sentences:
        return []
    first = f"{_INDENT}→ {t('guide.recommendation', lang)} "
    return wrap("\n".join(sentences), WIDTH, first, f"{_INDENT}  ")


def _caveats(comparison: Comparison, lang: str) -> list[str]:
    record = comparison.record
    texts = [note_text(note, lang) for note in record.unfair]
    if texts:
        texts.insert(0, t("report.unfair", lang))
    if record.mode == "alternating":
        texts.append(t("report.mode_alternating", lang))
    texts += pair_notes(comparison, lang)
    return [line for text in texts for line in wrap(text, WIDTH, f"{_INDENT}⚠️  ")]
