"""A study of depths as text: the same rows for the terminal, Markdown and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.padding import Padding
from rich.text import Text

from vozmetro.i18n import t
from vozmetro.judge.depth_report import DepthReport, Figure
from vozmetro.judge.depths import CONFIDENCE
from vozmetro.measure.depth_records import DepthStudy
from vozmetro.measure.records import Note
from vozmetro.measure.storage import write_atomic
from vozmetro.report import terminal as screen
from vozmetro.report.escape import code, escape, table
from vozmetro.report.formatting import (
    Cleaner,
    Pair,
    check_interval,
    ends,
    finite,
    limit_text,
    metric_value,
    note_text,
    number,
    state,
    when,
)
from vozmetro.report.places import REPORT
from vozmetro.report.rows import dummy_text, environment_rows
from vozmetro.report.template import heading
from vozmetro.units import count, plain, size

COLUMNS = ("stage", "points", "full", "interval", "r2", "how")
"""Keys `depths.col_<key>` of the table's headings."""
_PERCENT = f"{CONFIDENCE * 100:g}"
_WIDE = 0.5
"""Half of an interval over its value beyond which it is told instead of a tick."""


def headings(study: DepthStudy, report: DepthReport, lang: str) -> list[str]:
    """Returns the headings of the table of stages."""
    depths = "/".join(map(str, report.depths)) or "–"
    fields = {"depths": depths, "full": study.full_layers, "percent": _PERCENT}
    return [t(f"depths.col_{key}", lang, **fields) for key in COLUMNS]


def rows(figures: Sequence[Figure], lang: str) -> list[list[str]]:
    """Returns a line for each stage, times in ms."""
    return [
        [
            stage_name(one, lang),
            " / ".join(number(value) for value in one.points.values()) or "–",
            number(one.value),
            ends(one.low, one.high, number),
            "–" if one.fit is None else f"{one.fit.r2:.4f}",
            t("depths.extrapolated" if one.extrapolated else "depths.measured", lang),
        ]
        for one in figures
    ]


def stage_name(one: Figure, lang: str) -> str:
    """Returns what a figure is the time of."""
    if one.kind == "first_audio":
        return t("depths.first_audio", lang, tokens=one.tokens)
    what = "" if one.kind == "call" else t(f"depths.kind_{one.kind}", lang)
    return f"{plain(one.name)}{what}"


def check_headings(lang: str) -> list[str]:
    """Returns the headings of `check_rows`."""
    return [t(f"depths.check_{key}", lang, percent=_PERCENT) for key in _CHECK_COLUMNS]


def check_rows(figures: Sequence[Figure], lang: str) -> list[list[str]]:
    """Returns extrapolated against measured for what was measured at full depth too."""
    return [
        [
            stage_name(one, lang),
            f"{number(one.fit.value)} {ends(one.fit.low, one.fit.high, number)}",
            number(one.measured.value),
            f"{one.error * 100:+.1f} %",
            _held(one, lang),
        ]
        for one in figures
        if one.fit is not None and one.measured is not None and one.error is not None
    ]


def _held(one: Figure, lang: str) -> str:
    """A tick, unless the interval is so wide that hardly anything could miss it."""
    if one.held and one.spread is not None and one.spread > _WIDE:
        return f"±{one.spread * 100:.0f} %"
    return t("depths.held" if one.held else "depths.missed", lang)


def facts(study: DepthStudy, report: DepthReport, lang: str) -> list[Pair]:
    """Returns memory, bandwidth and what was done."""
    fields = {"needed": size(report.ram), "available": size(report.available)}
    found = [
        (t("depths.file", lang), size(report.bytes)),
        (
            t("depths.memory", lang),
            t("depths.fits" if report.fits else "depths.does_not_fit", lang, **fields),
        ),
    ]
    if report.probe_gbs is not None and report.probe_range is not None:
        low, high = report.probe_range
        words = {"value": f"{report.probe_gbs:.1f}", "low": f"{low:.1f}", "high": f"{high:.1f}"}
        found.append((t("lm.probe", lang), t("lm.probe_value", lang, **words)))
    method = {"rounds": report.rounds, "tasks": len(study.tasks), "threads": study.settings.threads}
    found.append((t("depths.method", lang), t("depths.method_value", lang, **method)))
    return found


def verdict(report: DepthReport, lang: str) -> list[str]:
    """Returns the states of the limits in sentences."""
    what = stage_name(report.subject, lang)
    how = t("depths.extrapolated" if report.extrapolated else "depths.measured", lang)
    lines = []
    for check in report.checks:
        ram = check.metric == "ram"
        name = t("report.metric_ram", lang) if ram else what
        fields = {
            "name": name,
            "value": metric_value(check.metric, check.value),
            "interval": check_interval(check),
            "limit": limit_text(check),
            "state": state(check.status, lang),
            "how": t("depths.estimated", lang) if ram else how,
        }
        lines.append(" ".join(t("depths.because", lang, **fields).split()))
    return lines


def head_parts(study: DepthStudy, lang: str) -> list[str]:
    """Returns what the model is, in short pieces."""
    subject = study.subject
    words = [
        plain(f"{subject.format} {subject.precision}"),
        t("report.parameters", lang, n=count(subject.parameters)) if subject.parameters else "",
        t("depths.layers", lang, n=study.full_layers),
        dummy_text(subject, lang),
        t("report.on_cuda", lang) if subject.device == "cuda" else "",
    ]
    return [word for word in words if word]


def notes(report: DepthReport, lang: str, clean: Cleaner = plain) -> list[str]:
    """Returns the notes in sentences."""
    return [note_text(note, lang, clean) for note in report.notes]


def print_study(console: Console, study: DepthStudy, report: DepthReport, lang: str) -> None:
    """Prints a study and its verdict.

    Args:
        console: Where to.
        study: What was measured.
        report: What it comes to.
        lang: `es` or `en`.
    """
    name = Text(f"🧪 {plain(study.subject.name)}", style="bold")
    words = Text(" · ".join(head_parts(study, lang)))
    parts: list[Any] = [Text(""), name, Padding(words, (0, 0, 0, 3), expand=False)]
    if study.status != "complete":
        status = t(f"report.status_{study.status}", lang)
        parts.append(Text(f"   ⚠️  {t('report.partial', lang, status=status)}"))
    figures = [*report.figures, *report.first_audio]
    kinds = ("left", "right", "right", "right", "fixed")
    titles = headings(study, report, lang)
    # The medians of each depth are in the report: 80 columns do not hold them.
    body = screen.table(
        zip([titles[0], *titles[2:]], kinds, strict=True),
        [[row[0], *row[2:]] for row in rows(figures, lang)],
    )
    parts.append(screen.titled(t("depths.title_terminal", lang), body))
    checked = check_rows(figures, lang)
    if checked:
        columns = check_headings(lang)
        sides = ("left", "right", "right", "right", "fixed")
        body = screen.table(zip(columns, sides, strict=True), checked)
        parts.append(screen.titled(t("depths.check_title", lang), body))
    parts.append(screen.titled(t("depths.facts", lang), screen.pairs(facts(study, report, lang))))
    parts += screen.bullets(t("terminal.notes", lang), notes(report, lang))
    title = f"{t('guide.verdict_title', lang)} {t(f'guide.verdict_{report.status}', lang)}"
    parts += [Text(""), Text(title, style=f"bold {screen.STYLES[report.status]}")]
    parts += [Padding(Text(line), (0, 0, 0, 3), expand=False) for line in verdict(report, lang)]
    console.print(Group(*parts))


_CHECK_COLUMNS = ("stage", "extrapolated", "measured", "error", "held")


def render_study(study: DepthStudy, report: DepthReport, lang: str, level: int = 1) -> list[str]:
    """Returns a study's section of the report, in Markdown lines.

    Args:
        study: What was measured.
        report: What it comes to.
        lang: `es` or `en`.
        level: Of its heading.
    """
    figures = [*report.figures, *report.first_audio]
    below = level + 1
    lines = [
        *heading(level, t("depths.title", lang, name=escape(study.subject.name))),
        f"**{t('report.head_date', lang)}**: {escape(when(study.created, lang))}  ",
        escape(" · ".join(head_parts(study, lang))),
    ]
    if study.status != "complete":
        status = t(f"report.status_{study.status}", lang)
        lines += ["", f"> ⚠️ {t('report.partial', lang, status=status)}"]
    lines += heading(below, t("report.decision_title", lang))
    lines += [t(f"guide.verdict_{report.status}", lang), ""]
    lines += [f"- {escape(line)}" for line in verdict(report, lang)]
    lines += heading(below, t("depths.stages", lang))
    lines += table(headings(study, report, lang), _escaped(rows(figures, lang)), "xrrrrx")
    checked = check_rows(figures, lang)
    if checked:
        columns = check_headings(lang)
        lines += heading(below, t("depths.check_title", lang))
        lines += table(columns, _escaped(checked), "xrrrx")
    lines += heading(below, t("depths.facts", lang))
    lines += [f"- {label}: {escape(value)}" for label, value in facts(study, report, lang)]
    if study.settings.command:
        command = code(" ".join(study.settings.command))
        lines.append(f"- {t('report.method_command', lang, command=command)}")
    lines += ["", t("depths.how", lang, percent=_PERCENT)]
    lines += heading(below, t("report.notes_title", lang))
    lines += [f"- {line}" for line in notes(report, lang, escape)]
    lines += heading(below, t("depths.parts", lang))
    lines += table(*_parts(study, lang), "xrrrx")
    return lines


def _escaped(cells: Sequence[Sequence[str]]) -> list[list[str]]:
    return [[escape(cell) for cell in row] for row in cells]


def _parts(study: DepthStudy, lang: str) -> tuple[list[str], list[list[str]]]:
    names = ("part", "layers", "parameters", "size", "sha256")
    cells = [
        [
            escape(one.id),
            f"{one.layers}/{one.full_layers}" if one.layers else "–",
            count(one.parameters),
            size(sum(file.bytes for file in one.files)),
            escape(", ".join(file.sha256[:16] for file in one.files)),
        ]
        for one in study.parts
    ]
    return [t(f"depths.part_{name}", lang) for name in names], cells


def write_study(folder: Path, study: DepthStudy, report: DepthReport, lang: str) -> Path:
    """Writes `report.md` for one study and returns its path.

    Raises:
        OutputError: `unwritable` or `disk_full`.
    """
    lines = render_study(study, report, lang)
    lines += heading(2, t("report.environment_title", lang))
    lines += [
        f"- {label}: {escape(value)}" for label, value in environment_rows(study.environment, lang)
    ]
    path = folder / REPORT
    write_atomic(path, ("\n".join(lines).strip("\n") + "\n").encode())
    return path


def study_json(study: DepthStudy, report: DepthReport) -> dict[str, Any]:
    """Returns what `--json` prints of a study."""

    def figure(one: Figure) -> dict[str, Any]:
        found = asdict(one)
        more = ("value", "low", "high", "extrapolated", "error", "held", "spread")
        return {**found, **{name: getattr(one, name) for name in more}}

    def said(note: Note) -> dict[str, Any]:
        return {"code": note.code, "fields": dict(note.fields), "text": note_text(note, "en")}

    found = {
        "schema_version": study.schema_version,
        "type": "depths_summary",
        "id": study.id,
        "created": study.created,
        "run_status": study.status,
        "subject": study.subject.model_dump(mode="json"),
        "full_layers": study.full_layers,
        "depths": list(report.depths),
        "rounds": report.rounds,
        "figures": [figure(one) for one in report.figures],
        "first_audio": [figure(one) for one in report.first_audio],
        "extrapolated": report.extrapolated,
        "bytes": report.bytes,
        "ram_bytes": report.ram,
        "ram_available_bytes": report.available,
        "fits": report.fits,
        "probe_gbs": report.probe_gbs,
        "status": report.status,
        "checks": [asdict(check) for check in report.checks],
        "notes": [said(note) for note in report.notes],
        "failure": None if study.failure is None else study.failure.model_dump(mode="json"),
    }
    return {name: finite(value) for name, value in found.items()}
