"""Quality on a terminal: tables that fit 80 columns, what they rest on, and the verdicts."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, ConsoleRenderable, Group
from rich.padding import Padding
from rich.text import Text

from vozmetro.i18n import t
from vozmetro.measure.records import Run
from vozmetro.quality.summary import Pair, SystemQuality
from vozmetro.report.formatting import clip, metric_value, note_text, state
from vozmetro.report.quality_judged import JudgedStudy, JudgedSystem, run_quality
from vozmetro.report.quality_rows import (
    corpus_texts,
    facts,
    headings,
    pair_texts,
    word_rows,
)
from vozmetro.report.quality_voices import print_voices
from vozmetro.report.rows import limit_row
from vozmetro.report.terminal import STYLES, bullets, pairs, table, titled
from vozmetro.units import plain, size


def print_quality(console: Console, judged: JudgedStudy, lang: str) -> None:
    """Prints a quality study.

    Args:
        console: Where to; its width is kept, 80 columns are enough.
        judged: What was found.
        lang: `es` or `en`.
    """
    study = judged.study
    parts: list[ConsoleRenderable] = [Text(t("quality.title", lang), style="bold")]
    parts += [_inset(Text(line)) for line in corpus_texts(study, lang)]
    for one in judged.systems:
        parts.append(_heading(one, lang))
        if one.quality is not None:
            parts += words_of(one.quality, lang)
        if one.checks:
            parts.append(_limits(one, lang))
    if study.human or any(system.clips for system in study.systems):
        parts += print_voices(study, lang)
    if judged.pairs:
        lines = (_inset(Text(text)) for text in pair_texts(judged.pairs, lang))
        parts.append(titled(t("quality.side_by_side", lang), *lines))
    parts += bullets(t("terminal.notes", lang), [note_text(note, lang) for note in study.notes])
    console.print(Group(*parts))


def print_words(console: Console, runs: Sequence[Run], beside: Sequence[Pair], lang: str) -> None:
    """Prints how well measured subjects heard the clips that they were timed on.

    Args:
        console: Where to.
        runs: What was measured.
        beside: The two of a comparison side by side; empty for none.
        lang: `es` or `en`.
    """
    parts: list[ConsoleRenderable] = [Text(""), Text(t("quality.title", lang), style="bold")]
    for run in runs:
        found = run_quality(run)
        parts.append(Text(f"🎤 {clip(plain(run.subject.name), 74)}", style="bold"))
        if found is None:
            parts.append(_inset(Text(t("quality.none", lang, command="vozmetro quality"))))
        else:
            parts += words_of(found, lang)
    parts += [_inset(Text(text)) for text in pair_texts(beside, lang)]
    console.print(Group(*parts))


def words_of(quality: SystemQuality, lang: str) -> list[ConsoleRenderable]:
    """Returns a subject's word errors, and what else there is to know of them."""
    note = _inset(Text(t("quality.wer_note", lang), style="dim"))
    return [table(headings(lang), word_rows(quality, lang)), note, pairs(facts(quality, lang))]


def _heading(one: JudgedSystem, lang: str) -> ConsoleRenderable:
    subject = one.system.subject
    lines = [
        " · ".join(
            word
            for word in (
                plain(f"{subject.format} {subject.precision}"),
                *(plain(engine) for engine in subject.engines),
                f"RAM {size(one.system.peak_rss)}" if one.system.peak_rss else "",
            )
            if word
        )
    ]
    if one.system.failure is not None:
        lines.append("⚠️  " + note_text(one.system.failure, lang, section="errors"))
    title = Text(f"🎤 {clip(plain(subject.name), 74)}", style="bold")
    return Group(Text(""), title, *(_inset(Text(line)) for line in lines))


def _limits(one: JudgedSystem, lang: str) -> ConsoleRenderable:
    rows = []
    for check in one.checks:
        name, interval, limit = limit_row(check, lang)
        value = metric_value(check.metric, check.value)
        rows.append([name, value, interval, limit, state(check.status, lang)])
    columns = [
        (t("terminal.metric", lang), "left"),
        (t("terminal.value", lang), "right"),
        (t("terminal.interval", lang, percent="95"), "right"),
        (t("terminal.limit", lang), "right"),
        (t("terminal.state", lang), "fixed"),
    ]
    style = STYLES[one.status]
    title = f"{t('guide.verdict_title', lang)} {t(f'guide.verdict_{one.status}', lang)}"
    return Group(Text(""), table(columns, rows), Text(title, style=f"bold {style}"))


def _inset(words: ConsoleRenderable) -> ConsoleRenderable:
    return Padding(words, (0, 0, 0, 3), expand=False)
