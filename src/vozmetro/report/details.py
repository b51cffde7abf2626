"""What stands behind a verdict, in Markdown: method, machine, inputs, transcripts, files."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from vozmetro.i18n import t
from vozmetro.judge.language import language_summary
from vozmetro.measure.records import Environment, Run
from vozmetro.report import language as lm
from vozmetro.report.escape import code, escape, link_target, table
from vozmetro.report.formatting import (
    Cleaner,
    all_notes,
    clock_text,
    lengths_text,
    note_text,
    subject_name,
)
from vozmetro.report.rows import (
    INPUT_COLUMNS,
    environment_rows,
    input_rows,
    item_rows,
    item_state_heading,
    memory_rows,
    time_rows,
    transcript_rows,
)
from vozmetro.report.template import Judged, heading
from vozmetro.report.words import words_text
from vozmetro.units import duration, size


def method(judged: Judged, level: int, lang: str) -> list[str]:
    """Returns how it was measured: clock, threads, sampling, intervals."""
    lines = method_texts(judged, lang, code)
    return [*heading(level, t("report.method_title", lang)), *(f"- {line}" for line in lines)]


def method_texts(judged: Judged, lang: str, shown: Cleaner) -> list[str]:
    """Returns how it was measured in sentences.

    Args:
        judged: What was measured.
        lang: `es` or `en`.
        shown: Makes the command line harmless for the output at hand.
    """
    run, settings = judged.run, judged.run.settings
    sampling, effective = sampling_texts(judged, lang)
    lines = [
        clock_text(run, lang),
        t(
            "report.method_threads",
            lang,
            n=settings.threads,
            allowed=run.environment.cores_allowed,
        ),
        sampling,
        t(
            f"report.method_until_{settings.until}",
            lang,
            max=duration(settings.max_time_s),
        ),
        effective,
        t("report.method_intervals", lang, percent=f"{judged.decision.confidence * 100:g}"),
        t("report.method_abba", lang),
    ]
    if settings.command:
        command = shown(shlex.join(settings.command))
        lines.append(t("report.method_command", lang, command=command))
    return lines


def environments(runs: Sequence[Run], level: int, lang: str) -> list[str]:
    """Returns the machine: once if all runs had the same, else once for each."""
    distinct = machines(runs)
    lines = heading(level, t("report.environment_title", lang))
    for environment, names in distinct:
        if len(distinct) > 1:
            lines += ["", f"**{', '.join(map(escape, names))}**", ""]
        rows = environment_rows(environment, lang)
        lines += [f"- {label}: {escape(value)}" for label, value in rows]
    return lines


def sampling_texts(judged: Judged, lang: str) -> tuple[str, str]:
    """Returns how samples were taken, and how many independent ones they are worth."""
    run, summary = judged.run, judged.summary
    settings, overall = run.settings, summary.overall
    return (
        t(
            "report.method_sampling",
            lang,
            n=len(run.samples),
            rounds=len({sample.round for sample in run.samples}),
            sessions=len(run.sessions),
            items=len(summary.per_item),
            seed=settings.seed,
            iterations=settings.iterations,
        ),
        t(
            "report.method_effective",
            lang,
            n=overall.n,
            r=f"{overall.autocorrelation:.2f}",
            effective=f"{overall.n_effective:.0f}",
        ),
    )


def machines(runs: Sequence[Run]) -> list[tuple[Environment, list[str]]]:
    """Returns each machine once, with the names of the subjects measured on it."""
    distinct: dict[str, tuple[Environment, list[str]]] = {}
    for run in runs:
        # What changes from minute to minute does not make it another machine.
        steady = run.environment.model_copy(
            update={"load": None, "ram_available": 0, "frequency_mhz": None, "noise": None}
        )
        found = distinct.setdefault(steady.model_dump_json(), (run.environment, []))
        found[1].append(subject_name(run))
    return list(distinct.values())


def times(judged: Judged, level: int, lang: str) -> list[str]:
    """Returns load, cold start, warm-up, steady state, after-idle and RAM by phase."""
    run, summary = judged.run, judged.summary
    memory = memory_rows(run, summary, lang)
    rows = [[label, value] for label, value in time_rows(run, summary, lang)]
    header = [t("report.col_what", lang), t("report.col_value", lang)]
    lines = [*heading(level, t("report.times_title", lang)), *table(header, rows)]
    if memory:
        lines += heading(level, t("report.memory_title", lang))
        lines += table([t("report.col_phase", lang), "RSS", "USS", "PSS"], memory, "xrrr")
    return lines


def per_length(judged: Judged, level: int, lang: str) -> list[str]:
    """Returns the table of every utterance and, for graphs, how its inputs got their shapes."""
    header = [
        t("report.col_item", lang),
        t("report.col_seconds", lang),
        "n",
        "P50 (ms)",
        "P90 (ms)",
        t("report.col_max", lang),
        item_state_heading(judged.decision),
    ]
    rows = [
        [escape(name), *numbers]
        for name, *numbers in item_rows(judged.run, judged.summary, judged.decision)
    ]
    what = lengths_text(judged.summary, lang)
    lines = [
        *heading(level, t("report.per_length_title", lang)),
        t("terminal.mean_over", lang, what=what),
        "",
        *table(header, rows, "xrrrrr"),
    ]
    inputs = [[escape(cell) for cell in row] for row in input_rows(judged.run)]
    if inputs:
        lines += heading(level, t("report.inputs_title", lang))
        lines += table([t(f"report.col_{name}", lang) for name in INPUT_COLUMNS], inputs)
    return lines


def language(judged: Judged, level: int, lang: str) -> list[str]:
    """Returns a language model's table: prompts, tokens after them, the cache."""
    found = language_summary(judged.run)
    if found is None:
        return []
    return [
        *heading(level, t("lm.title", lang)),
        *table(
            lm.headings(lang), [[escape(cell) for cell in row] for row in lm.rows(found)], "r" * 8
        ),
        "",
        *(f"- {label}: {value}" for label, value in lm.facts(found, lang)),
        "",
        t("lm.note", lang),
    ]


def notes(judged: Judged, level: int, lang: str) -> list[str]:
    """Returns every warning of the measurement and of the verdict."""
    found = all_notes(judged.run, judged.decision)
    if not found:
        return []
    lines = heading(level, t("report.notes_title", lang))
    for note in found:
        lines.append("- " + note_text(note, lang, escape).replace("\n", " "))
    return lines


def transcripts(judged: Judged, level: int, lang: str) -> list[str]:
    """Returns reference and output side by side, for speech to text and cascades."""
    rows = [[escape(cell) for cell in row] for row in transcript_rows(judged.run)]
    if not rows:
        return []
    header = [t(f"report.col_{name}", lang) for name in ("item", "reference", "output")]
    title = heading(level, t("report.transcripts_title", lang))
    words = words_text(judged.run, lang)
    note = [t("report.transcripts_note", lang), ""]
    return [*title, *([words, ""] if words else []), *note, *table(header, rows)]


def files(judged: Judged, level: int, lang: str) -> list[str]:
    """Returns the model's files with their SHA-256."""
    rows = [
        [escape(file.path), size(file.bytes), escape(file.sha256)]
        for file in judged.run.subject.files
    ]
    if not rows:
        return []
    header = [t("report.col_file", lang), t("report.col_size", lang), "SHA-256"]
    return [*heading(level, t("report.files_title", lang)), *table(header, rows, "xrx")]


def pictures(images: Sequence[tuple[str, str]], level: int, lang: str) -> list[str]:
    """Returns the plots embedded.

    Args:
        images: Alternative text and path relative to the report.
        level: Of the heading.
        lang: `es` or `en`.
    """
    if not images:
        return []
    lines = heading(level, t("report.plots_title", lang))
    for words, path in images:
        lines += [f"![{escape(words)}]({link_target(path)})", ""]
    return lines[:-1]
