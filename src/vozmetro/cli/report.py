"""What `report` does: one report of saved records, in Markdown, and as one HTML file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import click

from vozmetro.errors import InputError, MissingExtraError
from vozmetro.i18n import t
from vozmetro.judge.claims import Claims
from vozmetro.judge.findings import Finding
from vozmetro.measure.depth_records import AnyRecord, DepthStudy
from vozmetro.measure.listening_records import LISTENING_FILE, ListeningRecord
from vozmetro.measure.listening_records import load as load_listening
from vozmetro.measure.quality_records import QualityStudy
from vozmetro.measure.records import ComparisonRecord, Environment, Run
from vozmetro.measure.roofline_records import ROOFLINE_FILE, Roofline
from vozmetro.measure.storage import COMPARISON_FILE, RUN_FILE, load_any, record_path
from vozmetro.report.bundle import gather, saved_records, write_report
from vozmetro.report.html.page import Content, write_html
from vozmetro.report.places import HTML
from vozmetro.report.quality_judged import Beside, judged_study
from vozmetro.report.quality_page import write_quality

Saved = AnyRecord | Roofline | QualityStudy | ListeningRecord
BESIDE = ""
"""Value of `--html` without a file: `report.html` beside the Markdown report."""
_ENDINGS = (".html", ".htm")


def report(paths: Sequence[Path], out: Path | None, html: str | None, lang: str) -> int:
    """Writes one report of saved records; returns the exit code.

    Args:
        paths: Records, by their files or folders.
        out: Folder of the Markdown report.
        html: File of the HTML report, BESIDE, or None for none.
        lang: `es` or `en`.

    Raises:
        InputError: `run_empty` for a run without a measured inference, `report_html_name`,
            `report_roofline_alone`, `report_listening_alone`, and what `load` raises.
        MissingExtraError: jinja2 is not installed.
    """
    if html and not html.lower().endswith(_ENDINGS):
        raise InputError("report_html_name", path=html)
    files = [_file(path) for path in paths]
    records = [_record(path, file) for path, file in zip(paths, files, strict=True)]
    for path, record in zip(paths, records, strict=True):
        if isinstance(record, Run | DepthStudy) and not record.samples:
            raise InputError("run_empty", path=path)
        if isinstance(record, Roofline) and html is None:
            raise InputError("report_roofline_alone", path=path)
    if all(isinstance(record, ListeningRecord) for record in records):
        raise InputError("report_listening_alone", path=paths[0])
    first = paths[0] if paths[0].is_dir() else paths[0].parent
    folder = out or first
    place_of_page = Path(html) if html else folder / HTML
    page = None if html is None else _page(place_of_page, records, files, lang)
    # The page is written first: a missing extra is told before anything is.
    written = [_markdown(records, folder, lang), page]
    for place in written:
        if place is not None:
            click.echo(t("cli.report_written", lang, path=place))
    return 0


def write_beside(
    folder: Path, runs: Sequence[Run], comparisons: Sequence[ComparisonRecord], lang: str
) -> Path | None:
    """Writes `report.html` of a folder that holds its records; None where jinja2 is missing.

    Args:
        folder: Where the records lie.
        runs: In the order to show.
        comparisons: Shown with their subjects.
        lang: `es` or `en`.

    Raises:
        OutputError: `unwritable` or `disk_full`.
    """
    judged, compared, unmeasured = gather(runs, comparisons, Beside())
    saved = saved_records(folder)
    measured = [folder / name for name in saved if Path(name).name in (RUN_FILE, COMPARISON_FILE)]
    content = Content(
        judged, compared, unmeasured, claims=_claims([*runs, *comparisons], measured), records=saved
    )
    try:
        return write_html(folder / HTML, content, lang)
    except MissingExtraError:
        return None


def _file(path: Path) -> Path:
    """The file that a record is read from."""
    if (path / LISTENING_FILE).is_file():
        return path / LISTENING_FILE
    found = record_path(path)
    alone = path / ROOFLINE_FILE
    return alone if not found.is_file() and alone.is_file() else found


def _record(path: Path, file: Path) -> Saved:
    """A saved record of any kind, by its file or its folder."""
    if file.name == LISTENING_FILE:
        return load_listening(path)
    return load_any(file)


def _beside(records: Sequence[Saved]) -> Beside:
    studies = [record for record in records if isinstance(record, QualityStudy)]
    return Beside.of(studies, [one for one in records if isinstance(one, ListeningRecord)])


def _markdown(records: Sequence[Saved], folder: Path, lang: str) -> Path | None:
    """Writes `report.md`; None where only floors were given, which it does not show."""
    records = [record for record in records if not isinstance(record, Roofline)]
    studies = [record for record in records if isinstance(record, QualityStudy)]
    listening = [record for record in records if isinstance(record, ListeningRecord)]
    if not records:
        return None
    if len(studies) == 1 and len(studies) + len(listening) == len(records):
        return write_quality(folder, judged_study(studies[0], listening), lang)
    return write_report(
        folder,
        [record for record in records if isinstance(record, Run)],
        [record for record in records if isinstance(record, ComparisonRecord)],
        lang,
        studies=[record for record in records if isinstance(record, DepthStudy)],
        beside=_beside(records),
    )


def _page(path: Path, records: Sequence[Saved], files: Sequence[Path], lang: str) -> Path:
    """Writes the HTML report."""
    beside = _beside(records)
    runs = [record for record in records if isinstance(record, Run)]
    pairs = [record for record in records if isinstance(record, ComparisonRecord)]
    judged, compared, unmeasured = gather(runs, pairs, beside)
    silent = QualityStudy | ListeningRecord
    told = zip(files, records, strict=True)
    speaking = [file for file, one in told if not isinstance(one, silent)]
    content = Content(
        judged,
        compared,
        unmeasured,
        studies=[record for record in records if isinstance(record, DepthStudy)],
        beside=beside,
        rooflines=[record for record in records if isinstance(record, Roofline)],
        claims=_claims(records, speaking),
        records=[_address(file, path.parent) for file in files],
    )
    return write_html(path, content, lang)


def _address(file: Path, folder: Path) -> str:
    """A file's place as seen from the page; its name alone where there is no way to it."""
    try:
        return Path(os.path.relpath(file.resolve(), folder.resolve())).as_posix()
    except ValueError:  # another drive
        return file.name


def _claims(
    records: Sequence[Saved], files: Sequence[Path]
) -> tuple[Claims, Sequence[Finding]] | None:
    """What the guide claims, held against the files of those records that speak of it."""
    from vozmetro.hypotheses.files import read_claims, read_evidence
    from vozmetro.judge.evidence import machine_of
    from vozmetro.judge.hypotheses import check

    if not files:
        return None
    claims = read_claims("guia")
    machine = next((machine_of(one) for one in map(_environment, records) if one), "")
    return claims, check(claims.claims, read_evidence(files), machine)


def _environment(record: Saved) -> Environment | None:
    if isinstance(record, ComparisonRecord):
        return record.a.environment
    return record.environment if isinstance(record, Run | DepthStudy) else None
