"""The report folder: `report.md` with its plots, and the summary that `--json` prints."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vozmetro.errors import MissingExtraError
from vozmetro.i18n import t
from vozmetro.judge.comparison import Comparison
from vozmetro.judge.decision import Decision
from vozmetro.judge.depth_report import depth_report
from vozmetro.judge.language import language_summary
from vozmetro.judge.statistics import RunSummary, summarize_run
from vozmetro.measure.depth_records import DepthStudy
from vozmetro.measure.records import ComparisonRecord, Note, Run
from vozmetro.measure.storage import write_atomic
from vozmetro.report import plots
from vozmetro.report.checklist import checklist
from vozmetro.report.formatting import finite, note_text, pair_names, subject_name
from vozmetro.report.markdown import Attachments, render
from vozmetro.report.places import PLOTS, REPORT
from vozmetro.report.quality_judged import (
    Beside,
    compared,
    verdict,
)
from vozmetro.report.template import Judged

_INSTALL_PLOTS = "pip install 'vozmetro[plots]'"
_RECORDS = ("run.json", "comparison.json", "depths.json", "quality.json", "listening.json")

Drawn = tuple[str, str]
"""Alternative text and path relative to the report."""


def write_report(
    folder: Path,
    runs: Sequence[Run],
    comparisons: Sequence[ComparisonRecord],
    lang: str,
    *,
    studies: Sequence[DepthStudy] = (),
    beside: Beside | None = None,
) -> Path:
    """Writes `report.md` and its plots; each file is old or whole, never a part.

    Args:
        folder: Made if missing. Saved measurements in it are linked.
        runs: One section each, in this order.
        comparisons: Shown with their subjects; a subject that no run covers gets its section too.
        lang: `es` or `en`.
        studies: Of depths, one section each after the runs.
        beside: Records on quality; what they say of a run's subject goes into its section and into
            its verdict.

    Returns:
        The path of `report.md`.

    Raises:
        OutputError: `unwritable` or `disk_full`.
        InputError: `budget_invalid` in a saved run.
    """
    beside = beside or Beside()
    judged, found, unmeasured = gather(runs, comparisons, beside)
    images: list[list[Drawn]] = []
    comparison_images: list[list[Drawn]] = []
    missing = ""
    try:
        for number, one in enumerate(judged, 1):
            images.append(_draw_run(folder, one, number, lang))
        for number, comparison in enumerate(found, 1):
            comparison_images.append(_draw_comparison(folder, comparison, number, lang))
    except MissingExtraError:
        missing = _INSTALL_PLOTS
    attachments = Attachments(images, comparison_images, saved_records(folder), missing)
    text = render(judged, found, lang, attachments, unmeasured, beside=beside)
    for study in studies:
        # Imported here: it builds on this module.
        from vozmetro.report.depths import render_study

        text += "\n".join(["", "---", *render_study(study, depth_report(study), lang, 2), ""])
    for known in beside.studies:
        # Imported here: it builds on plots.
        from vozmetro.report.quality_page import study_lines

        text += "\n".join(["", "---", "", *study_lines(folder, known, 2, lang), ""])
    path = folder / REPORT
    write_atomic(path, text.encode())
    return path


def gather(
    runs: Sequence[Run], comparisons: Sequence[ComparisonRecord], beside: Beside
) -> tuple[list[Judged], list[Comparison], list[Run]]:
    """Returns what a report is about, judged.

    Args:
        runs: In the order to show.
        comparisons: A subject that no run covers is added to the runs.
        beside: Records on quality; what they say of a subject goes into its verdict.

    Returns:
        Runs with their verdicts, comparisons with theirs, and runs without any inference.

    Raises:
        InputError: `budget_invalid` in a saved run.
    """
    runs = _with_compared(runs, comparisons)
    judged = [Judged(run, summarize_run(run), verdict(run, beside)) for run in runs if run.samples]
    found = [
        compared(record, beside) for record in comparisons if record.a.samples and record.b.samples
    ]
    return judged, found, [run for run in runs if not run.samples]


def _with_compared(runs: Sequence[Run], comparisons: Sequence[ComparisonRecord]) -> list[Run]:
    """Adds the runs of comparisons whose subject has no run of its own."""
    every = list(runs)
    for record in comparisons:
        for run in (record.a, record.b):
            known = {(one.subject.name, one.subject.kind) for one in every}
            if (run.subject.name, run.subject.kind) not in known:
                every.append(run)
    return every


def _slug(text: str) -> str:
    """Returns a model's name as a short file name of plain letters."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40] or "model"


def _draw_run(folder: Path, judged: Judged, number: int, lang: str) -> list[Drawn]:
    run, summary, decision = judged.run, judged.summary, judged.decision
    draw: dict[str, Callable[[], bytes | None]] = {
        "latency": lambda: plots.latency_distribution(run, summary, decision, lang),
        "length": lambda: plots.latency_by_length(run, summary, decision, lang),
        "time": lambda: plots.samples_over_time(run, lang, summary),
    }
    drawn = []
    for what, make in draw.items():
        image = make()
        if image is None:
            continue
        path = f"{PLOTS}/{number:02d}-{_slug(subject_name(run))}-{what}.png"
        write_atomic(folder / path, image)
        drawn.append((t(f"plots.alt_{what}", lang, name=subject_name(run)), path))
    return drawn


def _draw_comparison(folder: Path, comparison: Comparison, number: int, lang: str) -> list[Drawn]:
    names = pair_names(comparison.record)
    path = f"{PLOTS}/comparison-{number:02d}-{'-vs-'.join(_slug(name) for name in names)}.png"
    image = plots.comparison_plot(comparison, lang)
    if image is None:
        return []
    write_atomic(folder / path, image)
    return [(t("plots.alt_comparison", lang, a=names[0], b=names[1]), path)]


def saved_records(folder: Path) -> list[str]:
    """Returns the saved measurements in a folder or one below, relative to it."""
    if not folder.is_dir():
        return []
    found = [folder / name for name in _RECORDS]
    found += sorted(path for name in _RECORDS for path in folder.glob(f"*/{name}"))
    return [path.relative_to(folder).as_posix() for path in found if path.is_file()]


def summary_json(run: Run, summary: RunSummary, decision: Decision) -> dict[str, Any]:
    """Returns what `--json` prints: English keys, base units in the keys' names, no raw samples.

    Args:
        run: What was measured.
        summary: Its statistics.
        decision: Its verdict.
    """
    table = {
        "schema_version": run.schema_version,
        "type": "summary",
        "id": run.id,
        "created": run.created,
        "run_status": run.status,
        "subject": run.subject.model_dump(mode="json"),
        "clock": run.subject.clock,
        "threads": run.settings.threads,
        "summary": _summary(summary),
        "language": _language(run),
        "decision": _decision(decision),
        "checklist": [
            {"key": box.key, "ticked": box.ticked, "reason": _note(box.reason)}
            for box in checklist(run, summary, decision)
        ],
        "notes": [_note(note) for note in run.notes],
        "failure": None if run.failure is None else run.failure.model_dump(mode="json"),
    }
    return {name: finite(value) for name, value in table.items()}


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """Returns what `compare --json` prints.

    Args:
        comparison: What was measured, judged.
    """
    record = comparison.record
    return {
        "schema_version": record.schema_version,
        "type": "comparison_summary",
        "id": record.id,
        "created": record.created,
        "mode": record.mode,
        "unfair": [_note(note) for note in record.unfair],
        "a": summary_json(record.a, comparison.a, comparison.decision_a),
        "b": summary_json(record.b, comparison.b, comparison.decision_b),
        "ratio": finite(asdict(comparison.ratio)),
        "pairs": comparison.pairs,
        "verdict": comparison.verdict,
        "recommendation": [_note(note) for note in comparison.recommendation],
    }


def _summary(summary: RunSummary) -> dict[str, Any]:
    names = {"overall", "per_item"}
    rest = {name: value for name, value in asdict(summary).items() if name not in names}
    renamed = {"peak_rss": "peak_rss_bytes", "p50_mean": "p50_mean_ms", "p99_mean": "p99_mean_ms"}
    return {
        "overall": asdict(summary.overall),
        "per_item": {name: asdict(item) for name, item in summary.per_item.items()},
        **{renamed.get(name, name): value for name, value in rest.items()},
    }


def _language(run: Run) -> dict[str, Any] | None:
    found = language_summary(run)
    return None if found is None else asdict(found)


def _decision(decision: Decision) -> dict[str, Any]:
    return {
        "status": decision.status,
        "scenario": decision.scenario,
        "scenario_candidates": list(decision.scenario_candidates),
        "confidence": decision.confidence,
        "runs_needed": decision.runs_needed,
        "checks": [asdict(check) for check in decision.checks],
        "per_item": {name: asdict(check) for name, check in decision.per_item.items()},
        "headline": _note(decision.headline),
        "next_steps": [_note(step) for step in decision.next_steps],
        "timeline": _note(decision.timeline),
        "notes": [_note(note) for note in decision.notes],
    }


def _note(note: Note) -> dict[str, Any]:
    # The sentence in English too: a reader of the JSON has no catalogue at hand.
    return {"code": note.code, "fields": dict(note.fields), "text": note_text(note, "en")}
