"""The sections of the guide's report template and its checklist, in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vozmetro.i18n import t
from vozmetro.judge.comparison import Comparison
from vozmetro.judge.decision import Check, Decision
from vozmetro.judge.statistics import RunSummary
from vozmetro.measure.records import Note, Run
from vozmetro.report.checklist import Box, checklist, other_subject, side
from vozmetro.report.escape import code, escape, table
from vozmetro.report.formatting import (
    ICONS,
    SUMMARY_PERCENT,
    Cleaner,
    check_interval,
    failing_gates,
    in_seconds,
    limit_text,
    metric_value,
    note_text,
    pair_names,
    ratio_text,
    recommendation,
    runs_needed_text,
    state,
    steps,
    sure_text,
    unfit,
    unresolved,
    waiting_text,
)
from vozmetro.report.quality_judged import Beside
from vozmetro.report.rows import comparison_rows, head_rows, model_rows
from vozmetro.report.words import percentage, words_of
from vozmetro.units import GB, percent


@dataclass(frozen=True)
class Judged:
    """A run with what was made of it."""

    run: Run
    summary: RunSummary
    decision: Decision


def heading(level: int, text: str) -> list[str]:
    """Returns a heading with the blank lines around it."""
    return ["", f"{'#' * level} {text}", ""]


def head(run: Run, lang: str) -> list[str]:
    """Returns the template's first lines: date, hardware, ONNX Runtime."""
    # Two spaces at the end keep the template's lines apart.
    return [f"**{label}**: {value}  " for label, value in head_rows(run, lang, escape)]


def model(run: Run, level: int, lang: str) -> list[str]:
    """Returns "Modelo Testeado"."""
    rows = model_rows(run, lang, escape, code)
    return [
        *heading(level, t("report.model_title", lang)),
        *(f"- {label}: {value}" for label, value in rows),
    ]


def latency(judged: Judged, level: int, lang: str) -> list[str]:
    """Returns "Resultados de Latencia": the template's table, an interval beside each value."""
    summary, decision = judged.summary, judged.decision
    rows = [
        [t("report.row_load", lang), f"{in_seconds(summary.load_ms)}s", "N/A", "-"],
        [t("report.row_warmup", lang), f"{in_seconds(summary.warmup_ms)}s", "N/A", "-"],
        *(_limit_row(check, lang) for check in decision.checks),
    ]
    header = [
        t("report.col_metric", lang),
        t("report.col_value", lang),
        t("report.col_target", lang),
        "✅/❌",
    ]
    note = interval_note(decision, lang)
    asides = [f"- {text}" for text in unresolved(summary, decision, lang)]
    return [
        *heading(level, t("report.latency_title", lang)),
        *table(header, rows),
        "",
        note,
        *(["", *asides] if asides else []),
    ]


def interval_note(decision: Decision, lang: str) -> str:
    """Returns what the brackets mean, and which limits gate."""
    gates = [check.metric for check in decision.checks if check.gates]
    return t(
        "report.interval_note",
        lang,
        percent=f"{decision.confidence * 100:g}",
        gates=_metrics(gates, lang),
    )


def _limit_row(check: Check, lang: str) -> list[str]:
    value = metric_value(check.metric, check.value, "")
    strong = "**" if check.metric == "p50" else ""
    interval = check_interval(check)
    name = t(f"report.metric_{check.metric}", lang)
    # A number after "<" opens no tag, and one bracket alone no link: the guide's words stay whole.
    limit = limit_text(check)
    shown = f"{strong}{value}{strong}" + (f" {interval}" if interval else "")
    cells = [f"{strong}{name}{strong}", shown, f"{strong}{limit}{strong}"]
    return [*cells, f"{strong}{ICONS[check.status]}{strong}"]


def _metrics(names: Sequence[str], lang: str) -> str:
    return ", ".join(t(f"report.metric_{name}", lang) for name in names)


def comparison(
    judged: Judged, comparisons: Sequence[Comparison], level: int, lang: str
) -> list[str]:
    """Returns "Comparación vs X" for each comparison with this subject as its A."""
    lines: list[str] = []
    for found in comparisons:
        which = side(judged.run, found)
        if which is None:
            continue
        other = other_subject(judged.run, found)
        lines += heading(level, t("report.comparison_title", lang, name=escape(other)))
        if which == "a":
            lines += _comparison_body(found, lang)
        else:
            lines.append(t("report.comparison_elsewhere", lang, name=escape(other)))
    if not lines:
        lines = heading(level, t("report.comparison_none_title", lang))
        lines.append(t("report.comparison_none", lang))
    return lines


def _comparison_table(found: Comparison, lang: str) -> list[str]:
    """The template's own table. Quality is the WER where both heard words, else not claimed."""
    p50_a, p50_b = found.a.overall.p50.value, found.b.overall.p50.value
    ram_a, ram_b = found.a.peak_rss, found.b.peak_rss
    words = [words_of(found.record.a), words_of(found.record.b)]
    none = t("report.quality_none", lang)
    heard = [f"WER {percentage(one)}" if one else none for one in words]
    rows = [
        [
            t("report.metric_p50", lang),
            metric_value("p50", p50_a, ""),
            metric_value("p50", p50_b, ""),
            percent(p50_a / p50_b),
        ],
        [
            t("report.row_ram", lang),
            f"{ram_a / GB:.1f}GB",
            f"{ram_b / GB:.1f}GB",
            percent(ram_a / ram_b if ram_b else None),
        ],
        [t("report.row_quality", lang), *heard, "–"],
    ]
    names = [escape(name) for name in pair_names(found.record)]
    return table([t("report.col_metric", lang), *names, t("report.col_change", lang)], rows)


def _comparison_body(found: Comparison, lang: str) -> list[str]:
    record = found.record
    ratio = ratio_text(found.ratio)
    fields = {"ratio": ratio, "n": found.pairs, "percent": SUMMARY_PERCENT}
    notes = [note_text(note, lang, escape) for note in record.unfair]
    if notes:
        notes.insert(0, f"**{t('report.unfair', lang)}**")
    advice = " ".join(recommendation(found, lang, escape))
    full = [
        [row.label, row.a, row.b, row.difference]
        for row in comparison_rows(found, lang)
        if row.key != "model"
    ]
    columns = [
        t("guide.metric", lang),
        *(t("guide.model", lang, letter=letter) for letter in "AB"),
        t("guide.difference", lang),
    ]
    return [
        *_comparison_table(found, lang),
        "",
        t(f"guide.{found.verdict}", lang, **fields),
        *(["", f"→ **{t('guide.recommendation', lang)}** {advice}"] if advice else []),
        "",
        t(f"report.mode_{record.mode}", lang),
        *(["", *(f"- ⚠️ {note}" for note in notes)] if notes else []),
        "",
        f"{t('report.full_table', lang)}:",
        "",
        *table(columns, full, "xrr"),
    ]


def decision_label(decision: Decision, lang: str) -> str:
    """Returns the template's `✅ VIABLE / ❌ NO VIABLE / ⚠️ REQUIERE ANÁLISIS`, or undecided."""
    if decision.status == "pass":
        return t("report.needs_analysis" if unfit(decision) else "report.viable", lang)
    if decision.status == "undecided":
        return t("report.undecided", lang)
    others = [check for check in failing_gates(decision) if check.metric != "p50"]
    # Scenario C is "better, not enough": the guide leaves it to a person.
    borderline = decision.scenario == "C" and not others
    return t("report.needs_analysis" if borderline else "report.not_viable", lang)


def decision(judged: Judged, level: int, lang: str) -> list[str]:
    """Returns "Decisión" with its justification and next steps."""
    verdict = judged.decision
    reasons = [_because(check, lang) for check in verdict.checks]
    reasons.append(sure_text(verdict, judged.summary, lang))
    if verdict.status == "undecided":
        reasons.append(waiting_text(verdict, lang))
        letters = ", ".join(verdict.scenario_candidates)
        reasons.append(t("report.candidates", lang, letters=letters))
    label = decision_label(verdict, lang)
    if verdict.scenario is not None:
        label += f" ({t('report.scenario', lang, letter=verdict.scenario)})"
    lines = [
        *heading(level, t("report.decision_title", lang)),
        label,
        "",
        *_block(note_text(verdict.headline, lang, escape)),
        "",
        f"**{t('report.justification', lang)}**:",
        "",
        *(f"- {reason}" for reason in reasons),
    ]
    lines += ["", f"**{t('report.next_steps_title', lang)}**:", ""]
    for mark, step in steps(verdict, lang, escape)[1]:
        first, *more = step.split("\n")
        # Letters make no list in Markdown: the two spaces keep each option on its own line.
        end = "" if mark.endswith(".") else "  "
        lines += [f"{mark} {first}{end}", *(f"   {line}" for line in more)]
    return [*lines, "", *_block(note_text(verdict.timeline, lang, escape))]


def _block(text: str) -> list[str]:
    # The catalogues break lines only before lists and paragraphs, as Markdown does.
    return text.split("\n")


def _because(check: Check, lang: str) -> str:
    interval = check_interval(check)
    return t(
        "report.because" if interval else "report.because_exact",
        lang,
        name=t(f"report.metric_{check.metric}", lang),
        value=metric_value(check.metric, check.value, ""),
        interval=interval,
        limit=limit_text(check),
        state=state(check.status, lang),
    )


def boxes(
    judged: Judged, comparisons: Sequence[Comparison], beside: Beside, level: int, lang: str
) -> list[str]:
    """Returns "Checklist de Validación" with the evidence, or what is missing, at each box."""
    found = checklist(judged.run, judged.summary, judged.decision, comparisons, beside)
    return [
        *heading(level, t("report.checklist_title", lang)),
        *(f"- [{'x' if box.ticked else ' '}] {box_text(box, lang)}" for box in found),
    ]


def box_text(box: Box, lang: str, clean: Cleaner = escape) -> str:
    """Returns a box's words and its reason.

    Args:
        box: Of the checklist.
        lang: `es` or `en`.
        clean: Makes text from outside harmless for the output at hand.
    """
    fields = dict(box.fields)
    if box.key == "comparison" and not fields["other"]:
        fields["other"] = t("report.another_model", lang)
    words = note_text(Note(code=f"report.check_{box.key}", fields=fields), lang, clean)
    return f"{words} — {_reason(box, lang, clean)}"


def _reason(box: Box, lang: str, clean: Cleaner) -> str:
    fields = dict(box.reason.fields)
    if "state" in fields:
        fields["state"] = t(f"report.state_{fields['state']}", lang)
    if "names" in fields:
        fields["names"] = _metrics(fields["names"].split(","), lang)
    if "needed" in fields:
        fields["needed"] = runs_needed_text(int(fields["needed"] or 0) or None, lang)
    return note_text(box.reason.model_copy(update={"fields": fields}), lang, clean)
