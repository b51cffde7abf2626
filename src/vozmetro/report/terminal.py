"""Results on a terminal: rich tables that fit 80 columns, coloured only where rich may."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console, ConsoleRenderable, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from vozmetro.i18n import t
from vozmetro.judge.comparison import Comparison
from vozmetro.judge.decision import Decision
from vozmetro.judge.language import language_summary
from vozmetro.judge.statistics import RunSummary
from vozmetro.measure.records import Environment, Run
from vozmetro.report import language as lm
from vozmetro.report.formatting import (
    ICONS,
    SUMMARY_PERCENT,
    Pair,
    all_notes,
    clip,
    clock_text,
    failing_gates,
    lengths_text,
    metric_value,
    note_text,
    pair_names,
    pair_notes,
    partial_text,
    ratio_text,
    recommendation,
    state,
    steps,
    sure_text,
    unfit,
    unresolved,
    waiting_text,
)
from vozmetro.report.rows import (
    comparison_rows,
    environment_rows,
    item_rows,
    item_state_heading,
    limit_row,
    memory_rows,
    subject_parts,
    time_rows,
    transcript_rows,
)
from vozmetro.report.tables import indented, new_table, pairs, table, titled
from vozmetro.report.words import words_text
from vozmetro.units import plain

STYLES = {"pass": "green", "fail": "red", "undecided": "yellow"}
# More rows than this scroll the verdict away; the report has them all.
_MOST_ROWS = 20


def print_run(
    console: Console, run: Run, summary: RunSummary, decision: Decision, lang: str
) -> None:
    """Prints one subject's measurement and its verdict.

    Args:
        console: Where to; its width is kept, 80 columns are enough.
        run: What was measured.
        summary: Its statistics.
        decision: Its verdict.
        lang: `es` or `en`.
    """
    parts: list[ConsoleRenderable] = [_subject(run, lang)]
    if run.status != "complete":
        parts.append(_partial(run, lang))
    parts += [
        titled(t("terminal.times", lang), pairs(time_rows(run, summary, lang))),
        titled(t("terminal.limits", lang), _limits(decision, summary, lang)),
    ]
    parts += _language(run, lang)
    parts += _items(run, summary, decision, lang)
    parts += _memory(run, summary, lang)
    parts += _transcripts(run, lang)
    parts += bullets(
        t("terminal.notes", lang), [note_text(n, lang) for n in all_notes(run, decision)]
    )
    parts.append(_verdict(summary, decision, lang))
    console.print(Group(*parts))


def print_comparison(console: Console, comparison: Comparison, lang: str) -> None:
    """Prints two subjects side by side, the verdict on each and the recommendation.

    Args:
        console: Where to; its width is kept, 80 columns are enough.
        comparison: What was measured, judged.
        lang: `es` or `en`.
    """
    record = comparison.record
    parts: list[ConsoleRenderable] = []
    for letter, run in (("A", record.a), ("B", record.b)):
        parts.append(_subject(run, lang, f"{letter} ="))
    parts.append(titled(t("terminal.comparison", lang), _comparison_table(comparison, lang)))
    parts.append(_inset(Text(t(f"report.mode_{record.mode}", lang))))
    texts = [t("report.unfair", lang)] if record.unfair else []
    texts += [note_text(note, lang) for note in record.unfair]
    # The two are measured in turn: where one stopped, so did the other.
    if record.a.status != "complete":
        parts.append(_partial(record.a, lang))
    parts += bullets(t("terminal.notes", lang), texts + pair_notes(comparison, lang))
    parts.append(_comparison_verdict(comparison, lang))
    console.print(Group(*parts))


def print_environment(console: Console, environment: Environment, lang: str) -> None:
    """Prints the machine, its state and the smallest difference that it resolves today.

    Args:
        console: Where to.
        environment: As recorded.
        lang: `es` or `en`.
    """
    title = t("terminal.environment", lang)
    console.print(titled(title, pairs(environment_rows(environment, lang))))


def _subject(run: Run, lang: str, prefix: str = "") -> ConsoleRenderable:
    grid = Table.grid(padding=(0, 1, 0, 0), pad_edge=False)
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row(Text(f"🎤 {prefix}"), Text(plain(run.subject.name), style="bold"))
    engines = " · ".join(plain(engine) for engine in run.subject.engines)
    for words in (" · ".join(subject_parts(run, lang)), engines, clock_text(run, lang)):
        grid.add_row(Text(""), Text(words))
    return Group(Text(""), grid)


def _partial(run: Run, lang: str) -> ConsoleRenderable:
    text = partial_text(run, lang)
    return Group(Text(""), _listed([("⚠️ ", text)]))


def _limits(decision: Decision, summary: RunSummary, lang: str) -> ConsoleRenderable:
    percent = f"{decision.confidence * 100:g}"
    table = new_table(
        (t("terminal.metric", lang), "left"),
        (t("terminal.value", lang), "right"),
        (t("terminal.interval", lang, percent=percent), "right"),
        (t("terminal.limit", lang), "right"),
        (t("terminal.state", lang), "fixed"),
        (t("terminal.role", lang), "fixed"),
    )
    for check in decision.checks:
        name, interval, limit = limit_row(check, lang)
        table.add_row(
            Text(name, style="bold" if check.gates else ""),
            Text(metric_value(check.metric, check.value)),
            Text(interval),
            Text(limit),
            Text(state(check.status, lang), style=STYLES[check.status]),
            Text(t("report.role_gates" if check.gates else "report.role_reported", lang)),
        )
    asides = [Text(line, style="yellow") for line in unresolved(summary, decision, lang)]
    return Group(indented(table), *map(indented, asides))


def _language(run: Run, lang: str) -> list[ConsoleRenderable]:
    found = language_summary(run)
    if found is None:
        return []
    made = table(((title, "right") for title in lm.headings(lang)), lm.rows(found))
    facts = pairs(lm.facts(found, lang))
    return [titled(t("lm.title_terminal", lang), made, Text(""), facts)]


def _items(run: Run, summary: RunSummary, decision: Decision, lang: str) -> list[ConsoleRenderable]:
    rows = item_rows(run, summary, decision)
    table = new_table(
        (t("terminal.prompt" if run.subject.kind == "lm" else "terminal.item", lang), "left"),
        (t("terminal.seconds", lang), "right"),
        ("n", "right"),
        ("P50 (ms)", "right"),
        ("P90 (ms)", "right"),
        (t("terminal.max", lang), "right"),
        (item_state_heading(decision), "fixed"),
    )
    for row in rows[:_MOST_ROWS]:
        table.add_row(*(Text(cell) for cell in row))
    body: list[ConsoleRenderable] = [indented(table)]
    body += _more(len(rows), lang)
    body.append(Text("  " + t("terminal.mean_over", lang, what=lengths_text(summary, lang))))
    title = "terminal.prompts" if run.subject.kind == "lm" else "terminal.items"
    return [titled(t(title, lang), *body)]


def _more(rows: int, lang: str) -> list[ConsoleRenderable]:
    if rows <= _MOST_ROWS:
        return []
    return [Text("  " + t("terminal.more", lang, n=rows - _MOST_ROWS), style="dim")]


def _memory(run: Run, summary: RunSummary, lang: str) -> list[ConsoleRenderable]:
    rows = memory_rows(run, summary, lang)
    if not rows:
        return []
    table = new_table(
        (t("terminal.phase", lang), "left"), ("RSS", "right"), ("USS", "right"), ("PSS", "right")
    )
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return [titled(t("terminal.memory", lang), indented(table))]


def _transcripts(run: Run, lang: str) -> list[ConsoleRenderable]:
    rows = transcript_rows(run)
    if not rows:
        return []
    table = new_table(
        (t("terminal.item", lang), "left"),
        (t("terminal.reference", lang), "left"),
        (t("terminal.output", lang), "left"),
    )
    table.columns[0].ratio, table.columns[1].ratio, table.columns[2].ratio = 2, 4, 4
    table.expand = True
    for row in rows[:_MOST_ROWS]:
        table.add_row(*(Text(cell) for cell in row))
    table.width = 78
    words = words_text(run, lang)
    below = [*_more(len(rows), lang), *([_inset(Text(words))] if words else [])]
    return [titled(t("terminal.transcripts", lang), indented(table), *below)]


def bullets(title: str, texts: Sequence[str]) -> list[ConsoleRenderable]:
    """Warnings under their heading; nothing for none."""
    if not texts:
        return []
    return [titled(title, _listed([("⚠️ ", text) for text in texts]))]


def _inset(words: ConsoleRenderable) -> ConsoleRenderable:
    return Padding(words, (0, 0, 0, 3), expand=False)


def _listed(rows: Iterable[Pair]) -> Table:
    grid = Table.grid(padding=(0, 1, 0, 0), pad_edge=False)
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for mark, text in rows:
        grid.add_row(Text(f"  {mark}"), Text(text))
    return grid


def _verdict(summary: RunSummary, decision: Decision, lang: str) -> ConsoleRenderable:
    style = STYLES["undecided" if unfit(decision) else decision.status]
    title = f"{t('guide.verdict_title', lang)} {t(f'guide.verdict_{decision.status}', lang)}"
    if decision.scenario is not None:
        title += " · " + t("report.scenario", lang, letter=decision.scenario)
    lines = [sure_text(decision, summary, lang)]
    failing = failing_gates(decision)
    if failing:
        names = ", ".join(t(f"report.metric_{check.metric}", lang) for check in failing)
        lines.append(t("report.failing", lang, names=names))
    if decision.status == "undecided":
        lines.append(waiting_text(decision, lang))
        candidates = ", ".join(decision.scenario_candidates)
        lines.append(t("report.candidates", lang, letters=candidates))
    lines += ["", note_text(decision.headline, lang)]
    heading, marked = steps(decision, lang)
    body: list[ConsoleRenderable] = [_inset(Text(line)) if line else Text("") for line in lines]
    if marked:
        body += [Text(""), Text(f"   {heading}", style="bold")]
        body += [Padding(_listed(marked), (0, 0, 0, 1), expand=False), Text("")]
    body.append(_inset(Text(note_text(decision.timeline, lang))))
    return Group(Text(""), Text(title, style=f"bold {style}"), *body)


def _comparison_table(comparison: Comparison, lang: str) -> ConsoleRenderable:
    table = new_table(
        (t("guide.metric", lang), "left"),
        (t("guide.model", lang, letter="A"), "right"),
        (t("guide.model", lang, letter="B"), "right"),
        (t("guide.difference", lang), "fixed"),
    )
    for row in comparison_rows(comparison, lang):
        # The names stand above the table, in full.
        if row.key != "model":
            table.add_row(*(Text(cell) for cell in (row.label, row.a, row.b, row.difference)))
    return indented(table)


def _comparison_verdict(comparison: Comparison, lang: str) -> ConsoleRenderable:
    rows: list[ConsoleRenderable] = []
    name_a, name_b = pair_names(comparison.record)
    for letter, name, decision in (
        ("A", clip(name_a, 30), comparison.decision_a),
        ("B", clip(name_b, 30), comparison.decision_b),
    ):
        words = f"{letter} ({name}): {state(decision.status, lang)}"
        if decision.scenario is not None:
            words += " · " + t("report.scenario", lang, letter=decision.scenario)
        if decision.status == "undecided":
            words += " · " + waiting_text(decision, lang)
        failing = failing_gates(decision)
        if failing:
            names = ", ".join(t(f"report.metric_{check.metric}", lang) for check in failing)
            words += " · " + t("report.failing", lang, names=names)
        rows.append(Text(words, style=STYLES[decision.status]))
    rows.append(
        Text(
            t(
                f"guide.{comparison.verdict}",
                lang,
                ratio=ratio_text(comparison.ratio),
                n=comparison.pairs,
                percent=SUMMARY_PERCENT,
            )
        )
    )
    sentences = recommendation(comparison, lang)
    if sentences:
        rows.append(Text(f"→ {t('guide.recommendation', lang)} " + "\n".join(sentences)))
    title = Text(t("guide.verdict_title", lang), style="bold")
    return Group(Text(""), title, *(_inset(row) for row in rows))


__all__ = [
    "ICONS",
    "STYLES",
    "pairs",
    "print_comparison",
    "print_environment",
    "print_run",
    "table",
    "titled",  # of `tables`, by the name that others know
]
