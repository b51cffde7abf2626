"""Quality in Markdown and JSON: the section of a report, and the report of a study."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vozmetro.errors import MissingExtraError
from vozmetro.i18n import t
from vozmetro.judge.budget import Budget
from vozmetro.measure.listening_records import ListeningRecord
from vozmetro.measure.quality_records import QualityStudy
from vozmetro.measure.records import Run, Subject
from vozmetro.measure.storage import QUALITY_FILE, write_atomic
from vozmetro.quality.summary import Row, SystemQuality
from vozmetro.report import quality_plots
from vozmetro.report.escape import code, escape, table
from vozmetro.report.formatting import (
    Cleaner,
    check_interval,
    finite,
    limit_text,
    metric_value,
    note_text,
    state,
    when,
)
from vozmetro.report.places import PLOTS, REPORT
from vozmetro.report.quality_judged import (
    Beside,
    JudgedStudy,
    JudgedSystem,
    listening_names,
    run_quality,
    same_subject,
)
from vozmetro.report.quality_rows import (
    clean_points,
    corpus_texts,
    facts,
    headings,
    pair_texts,
    word_rows,
)
from vozmetro.report.quality_voices import (
    bands_texts,
    disagreements,
    prosody_columns,
    prosody_rows,
    repeats_texts,
    score_columns,
    score_rows,
)
from vozmetro.report.rows import environment_rows
from vozmetro.report.template import heading
from vozmetro.units import plain

_MOST_WRONG = 20
"""Utterances with most errors that are listed."""


def section(run: Run, beside: Beside, level: int, lang: str) -> list[str]:
    """Returns "Calidad" of a measured subject: its own words, studies of it, and people.

    Args:
        run: What was measured.
        beside: Records on quality; those of the same subject are shown, studies whole elsewhere.
        level: Of the heading.
        lang: `es` or `en`.
    """
    found: list[str] = []
    own = run_quality(run)
    if own is not None:
        found += ["", t("quality.own_words", lang), "", *_words(own, lang)]
    for judged in beside.studies:
        for one in judged.systems:
            if not same_subject(one.system.subject, run.subject):
                continue
            found += ["", f"**{t('quality.title', lang)}**", ""]
            found += [f"- {escape(text)}" for text in corpus_texts(judged.study, lang)]
            if one.quality is not None:
                found += ["", *_words(one.quality, lang)]
    found += _people(beside.listening, run.subject, lang)
    if not found:
        found = [t("quality.none", lang, command=code("vozmetro quality"))]
    return [*heading(level, t("quality.section", lang)), *found]


def _people(listening: Sequence[ListeningRecord], subject: Subject, lang: str) -> list[str]:
    lines = [f"- {text}" for text in people_texts(listening, subject, lang, escape)]
    return ["", *lines] if lines else []


def people_texts(
    listening: Sequence[ListeningRecord], subject: Subject, lang: str, clean: Cleaner
) -> list[str]:
    """Returns what people said of a subject, a sentence for each scale.

    Args:
        listening: Results of tests.
        subject: Whose.
        lang: `es` or `en`.
        clean: Makes text from outside harmless for the output at hand.
    """
    return [
        t(
            "quality.people",
            lang,
            scale=clean(one.scale),
            value=f"{one.value:.2f}",
            low="–" if one.low is None else f"{one.low:.2f}",
            high="–" if one.high is None else f"{one.high:.2f}",
            listeners=one.listeners,
            ratings=one.ratings,
        )
        for record in listening
        for one in record.systems
        if one.name in listening_names(subject)
    ]


def write_quality(folder: Path, judged: JudgedStudy, lang: str) -> Path:
    """Writes a study's `report.md` and its plots; returns the report's path.

    Args:
        folder: Where the study lies.
        judged: What was found.
        lang: `es` or `en`.

    Raises:
        OutputError: `unwritable` or `disk_full`.
    """
    path = folder / REPORT
    lines = study_lines(folder, judged, 1, lang)
    if (folder / QUALITY_FILE).is_file():
        lines += heading(2, t("report.raw_title", lang))
        lines.append(t("report.raw_line", lang, links=f"[{QUALITY_FILE}]({QUALITY_FILE})"))
    write_atomic(path, ("\n".join(lines) + "\n").encode())
    return path


def study_lines(folder: Path, judged: JudgedStudy, level: int, lang: str) -> list[str]:
    """Draws a study's plots and returns its page in Markdown.

    Args:
        folder: Where the report lies.
        judged: What was found.
        level: Of its heading.
        lang: `es` or `en`.

    Raises:
        OutputError: `unwritable` or `disk_full`.
    """
    study = judged.study
    below = level + 1
    lines = [
        f"{'#' * level} {t('quality.title', lang)}",
        "",
        f"**{t('report.head_date', lang)}**: {escape(when(study.created, lang))}  ",
        *(f"- {escape(text)}" for text in corpus_texts(study, lang)),
    ]
    if study.status != "complete":
        words = t("report.partial", lang, status=t(f"report.status_{study.status}", lang))
        lines += ["", f"> ⚠️ {words}"]
    lines += _drawn(folder, judged, lang)
    for one in judged.systems:
        lines += _system(one, below, lang)
        lines += _people(judged.listening, one.system.subject, lang)
    if judged.pairs:
        lines += heading(below, t("quality.side_by_side", lang))
        lines += [f"- {escape(text)}" for text in pair_texts(judged.pairs, lang)]
    if study.human or any(one.clips for one in study.systems):
        lines += _voices(study, below, lang)
    if study.notes:
        lines += heading(below, t("terminal.notes", lang))
        lines += [f"- ⚠️ {note_text(note, lang, escape)}" for note in study.notes]
    lines += heading(below, t("report.environment_title", lang))
    rows = environment_rows(study.environment, lang)
    lines += [f"- {label}: {escape(value)}" for label, value in rows]
    if study.settings.command:
        command = code(shlex.join(study.settings.command))
        lines += ["", t("report.method_command", lang, command=command)]
    return lines


def _drawn(folder: Path, judged: JudgedStudy, lang: str) -> list[str]:
    """Draws the plots; returns the lines that show them."""
    heard = judged.heard
    if not heard:
        return []
    limit = Budget.from_mapping(judged.study.settings.budget).p50_ms
    lines = []
    try:
        images = {
            "words-latency": quality_plots.words_against_latency(clean_points(heard), limit, lang),
            "words-noise": quality_plots.words_against_noise(heard, lang),
        }
    except MissingExtraError:
        return ["", t("report.no_plots", lang, command="`pip install 'vozmetro[plots]'`")]
    for name, image in images.items():
        if image is None:
            continue
        path = f"{PLOTS}/{judged.study.id[-4:]}-{name}.png"
        write_atomic(folder / path, image)
        alt = t(f"plots.alt_{name.replace('-', '_')}", lang)
        lines += ["", f"![{alt}]({path})"]
    return lines


def _system(one: JudgedSystem, level: int, lang: str) -> list[str]:
    subject = one.system.subject
    lines = heading(level, escape(subject.name))
    lines.append(escape(f"{subject.format} {subject.precision} · {', '.join(subject.engines)}"))
    if one.system.failure is not None:
        lines += ["", "⚠️ " + note_text(one.system.failure, lang, escape, section="errors")]
    if one.quality is not None:
        lines += ["", *_words(one.quality, lang), *_wrong(one.quality, level + 1, lang)]
    if one.checks:
        header = [t(f"report.col_{key}", lang) for key in ("metric", "value", "target")]
        rows = [
            [
                t(f"report.metric_{check.metric}", lang),
                f"{metric_value(check.metric, check.value)} {check_interval(check)}",
                limit_text(check),
                state(check.status, lang),
            ]
            for check in one.checks
        ]
        lines += ["", *table([*header, "✅/❌"], rows)]
    return lines


def _words(quality: SystemQuality, lang: str) -> list[str]:
    header = [title for title, _ in headings(lang)]
    return [
        *table(header, [[escape(cell) for cell in row] for row in word_rows(quality, lang)],
               "xxrrrrrr"),
        "",
        t("quality.wer_note", lang),
        "",
        *(f"- {escape(label)}: {escape(value)}" for label, value in facts(quality, lang)),
    ]  # fmt: skip


def _wrong(quality: SystemQuality, level: int, lang: str) -> list[str]:
    rows = [[escape(cell) for cell in row] for row in worst_rows(quality)]
    if not rows:
        return []
    header = [t(key, lang) for key in WORST_COLUMNS]
    return [*heading(level, t("quality.worst", lang)), *table(header, rows, "xr")]


WORST_COLUMNS = ("terminal.item", "quality.col_errors", "terminal.reference", "terminal.output")
"""Keys of the headings of `worst_rows`."""


def worst_rows(quality: SystemQuality) -> list[tuple[str, str, str, str]]:
    """Returns the utterances with most errors: what a reader would listen to first."""
    clean = quality.row()
    if clean is None:
        return []
    errors = clean.folded.errors
    worst = sorted(range(len(clean.takes)), key=lambda index: -int(errors[index]))[:_MOST_WRONG]
    return [
        (
            plain(clean.takes[index].item.id),
            str(int(errors[index])),
            plain(clean.takes[index].item.text),
            plain(clean.takes[index].output) or "–",
        )
        for index in worst
        if errors[index]
    ]


def _voices(study: QualityStudy, level: int, lang: str) -> list[str]:
    columns = score_columns(study, lang)
    rows = [[escape(cell) for cell in row] for row in score_rows(study, lang)]
    lines = [
        *heading(level, t("quality.voices", lang)),
        *table(columns, rows, "x" + "r" * (len(columns) - 1)),
        "",
        t("quality.predicted_note", lang),
    ]
    if study.judge is not None:
        lines += ["", t("quality.judged_by", lang, name=escape(study.judge.name))]
    heads = prosody_columns(lang)
    rows = [[escape(cell) for cell in row] for row in prosody_rows(study, lang)]
    lines += heading(level, t("quality.prosody", lang))
    lines += [*table(heads, rows, "xrrrr"), ""]
    lines += [f"- {escape(text)}" for text in bands_texts(study, lang)]
    lines += [f"- {escape(text)}" for text in repeats_texts(study, lang)]
    lines += [f"- ⚠️ {escape(text)}" for text in disagreements(study, lang)]
    return [*lines, "", t("quality.prosody_note", lang)]


def study_json(judged: JudgedStudy) -> dict[str, Any]:
    """Returns what `quality --json` prints: rates and intervals, no single utterances.

    Args:
        judged: What was found.
    """
    study = judged.study
    found = {
        "schema_version": study.schema_version,
        "type": "quality_summary",
        "id": study.id,
        "created": study.created,
        "status": study.status,
        "settings": study.settings.model_dump(mode="json"),
        "corpora": [one.model_dump(mode="json") for one in study.corpora],
        "normalizers": study.normalizers,
        "systems": [_system_json(one) for one in judged.systems],
        "pairs": [{**asdict(pair), "better": pair.better} for pair in judged.pairs],
        "voices": _voices_json(study),
        "notes": [note.model_dump(mode="json") for note in study.notes],
    }
    clean: dict[str, Any] = finite(found)
    return clean


def _system_json(one: JudgedSystem) -> dict[str, Any]:
    quality = one.quality
    return {
        "subject": one.system.subject.model_dump(mode="json"),
        "load_ms": one.system.load_ms,
        "peak_rss_bytes": one.system.peak_rss,
        "rows": [_row_json(row) for row in quality.rows] if quality else [],
        "false_words_per_minute": (
            {kind: asdict(value) for kind, value in quality.false_words.items()} if quality else {}
        ),
        "curves": {kind: asdict(value) for kind, value in quality.curves.items()}
        if quality
        else {},
        "checks": [asdict(check) for check in one.checks],
        "status": one.status if one.checks else None,
        "failure": one.system.failure and one.system.failure.model_dump(mode="json"),
    }


def _row_json(row: Row) -> dict[str, Any]:
    counts = row.folded
    return {
        "language": row.language or None,
        "condition": row.condition,
        "wer": asdict(row.wer),
        "wer_with_accents": asdict(row.wer_exact),
        "cer": counts.cer,
        "substitutions": int(counts.substitutions.sum()),
        "deletions": int(counts.deletions.sum()),
        "insertions": int(counts.insertions.sum()),
        "words": int(counts.words.sum()),
        "utterances": row.wer.n,
        "loops": row.loops,
        "rtfx": row.rtfx,
        "ms": row.ms,
        "predicted": row.predicted,
    }


def _voices_json(study: QualityStudy) -> list[dict[str, Any]]:
    from vozmetro.quality.summary import mean_scores
    from vozmetro.report.quality_voices import understood, voices_of

    return [
        {
            "voice": name,
            "clips": len(clips),
            "predicted": mean_scores([clip.predicted for clip in clips]),
            "round_trip_wer": understood(study, clips),
        }
        for name, clips in voices_of(study, "en")
    ]
