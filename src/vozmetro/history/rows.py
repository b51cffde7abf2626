"""Records as rows of the history."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from vozmetro.errors import VozmetroError
from vozmetro.history.scan import MOST_BYTES
from vozmetro.judge.differences import digest, machine
from vozmetro.judge.evidence import machine_of
from vozmetro.judge.rows import Row
from vozmetro.judge.statistics import settled, waits_only
from vozmetro.measure.quality_records import QualityStudy
from vozmetro.measure.records import ComparisonRecord, Run
from vozmetro.measure.storage import load_any
from vozmetro.report.formatting import subject_name
from vozmetro.report.quality_judged import judged_study, run_quality, verdict
from vozmetro.units import plain

_MOST_TEXT = 400  # characters of a name that are kept


def read(path: str, size: int) -> list[Row]:
    """Returns what a file holds, one row for each subject; one that says why, if unreadable.

    Args:
        path: The file.
        size: Of it, in bytes.
    """
    if size > MOST_BYTES:
        return [_unreadable(path, f"> {MOST_BYTES >> 20} MiB")]
    try:
        return _rows(path) or [_unreadable(path, "no subjects")]
    except VozmetroError as error:
        return [_unreadable(path, error.fields.get("detail") or error.code)]
    except Exception as error:  # a foreign file, however it breaks, must not hide all the others
        return [_unreadable(path, type(error).__name__)]


def _rows(path: str) -> list[Row]:
    record = load_any(Path(path))
    if isinstance(record, Run):
        return [run_row(record, path)]
    if isinstance(record, ComparisonRecord):
        both = (("a", record.a), ("b", record.b))
        return [run_row(run, path, "comparison", part) for part, run in both]
    if isinstance(record, QualityStudy):
        return _study_rows(record, path)
    return [_unreadable(path, f"type: {record.type}")]


def _unreadable(path: str, detail: str) -> Row:
    return Row(file=path, record="unreadable", detail=_text(detail))


def run_row(run: Run, path: str, record: str = "run", part: str = "") -> Row:
    """Returns a run as a row.

    Args:
        run: What was measured.
        path: Its file.
        record: `run` or `comparison`.
        part: `a` or `b` of a comparison.
    """
    samples, summary = settled(run)
    seconds = {item.id: item.seconds for item in run.items}
    listens = run.subject.kind != "tts" and not waits_only(run)
    rates = [s.ms / 1000 / seconds[s.item] for s in samples if seconds.get(s.item, 0) > 0]
    quality = run_quality(run) if run.samples else None
    clean = quality.row() if quality else None
    known = bool(samples)
    return Row(
        file=path,
        id=_text(run.id),
        record=record,
        part=part,
        created=_text(run.created),
        at=_moment(run.created),
        subject=_text(run.subject.name),
        name=_text(subject_name(run)),
        model=digest(run)[:32],
        precision=_text(run.subject.precision),
        kind=run.subject.kind,
        machine=_text(machine(run)),
        threads=run.settings.threads,
        clock=run.subject.clock,
        state=run.status,
        verdict=_verdict(lambda: verdict(run).status) if known else "",
        n=summary.n,
        p50_ms=summary.p50.value if known else None,
        p50_low=summary.p50.low,
        p50_high=summary.p50.high,
        p90_ms=summary.p90.value if known else None,
        p90_low=summary.p90.low,
        p90_high=summary.p90.high,
        p99_ms=summary.p99.value if known else None,
        p99_low=summary.p99.low,
        p99_high=summary.p99.high,
        rtf=median(rates) if rates and listens else None,
        load_ms=_median([session.load_ms for session in run.sessions]),
        first_ms=_median([session.first_ms for session in run.sessions]),
        peak_ram=max((float(session.peak_rss) for session in run.sessions), default=None),
        wer=clean.wer.value if clean else None,
        wer_low=clean.wer.low if clean else None,
        wer_high=clean.wer.high if clean else None,
        vozmetro=_text(run.vozmetro),
    )


def _study_rows(study: QualityStudy, path: str) -> list[Row]:
    rows = []
    for number, one in enumerate(judged_study(study).systems):
        clean = one.quality.row() if one.quality else None
        subject = one.system.subject
        rows.append(
            Row(
                file=path,
                id=_text(study.id),
                record="quality",
                part=str(number),
                created=_text(study.created),
                at=_moment(study.created),
                subject=_text(subject.name),
                name=_text(subject.name.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]),
                model="+".join(sorted(file.sha256 for file in subject.files))[:32],
                precision=_text(subject.precision),
                kind=subject.kind,
                machine=_text(machine_of(study.environment, subject.device)),
                threads=study.settings.threads,
                # Latencies of a study are taken in a batch beside others: of no clock of ours.
                clock="quality",
                state="failed" if one.system.failure else study.status,
                verdict=one.status if one.checks else "",
                n=len(clean.takes) if clean else len(one.system.clips),
                load_ms=one.system.load_ms or None,
                peak_ram=float(one.system.peak_rss) or None,
                wer=clean.wer.value if clean else None,
                wer_low=clean.wer.low if clean else None,
                wer_high=clean.wer.high if clean else None,
                vozmetro=_text(study.vozmetro),
            )
        )
    return rows


def _verdict(judge: Callable[[], str]) -> str:
    try:
        return judge()
    except VozmetroError:
        # A budget that this version does not know: what was measured is still worth a row.
        return ""


def _median(values: list[float]) -> float | None:
    return float(median(values)) if values else None


def _moment(created: str) -> float | None:
    try:
        found = datetime.fromisoformat(created)
        seconds = (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
    return seconds if math.isfinite(seconds) else None


def _text(text: str) -> str:
    """A name as the history keeps it: nothing that a terminal would act on, and not endless."""
    return plain(text)[:_MOST_TEXT]
