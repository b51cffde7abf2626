"""`report.md`: the guide's report template, its checklist, and what stands behind them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vozmetro.i18n import t
from vozmetro.judge.comparison import Comparison
from vozmetro.measure.records import Run
from vozmetro.report import details, quality_page, template
from vozmetro.report.checklist import side
from vozmetro.report.escape import escape, link_target, table
from vozmetro.report.formatting import metric_value, note_text, partial_text, subject_name
from vozmetro.report.quality_judged import Beside
from vozmetro.report.template import Judged, heading

Images = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Attachments:
    """What lies beside the report.

    Attributes:
        images: For each run in order: alternative text and relative path of each plot.
        comparison_images: The same for each comparison.
        records: Relative paths of the saved measurements.
        plots_missing: Command that would install what draws the plots; empty if they were drawn.
    """

    images: Sequence[Images] = ()
    comparison_images: Sequence[Images] = ()
    records: Sequence[str] = ()
    plots_missing: str = ""


def render(
    judged: Sequence[Judged],
    comparisons: Sequence[Comparison],
    lang: str,
    attachments: Attachments | None = None,
    unmeasured: Sequence[Run] = (),
    *,
    beside: Beside | None = None,
) -> str:
    """Returns the report in Markdown.

    Args:
        judged: Runs with their verdicts, in the order to show; one section each.
        comparisons: Shown in the section of their subject A.
        lang: `es` or `en`.
        attachments: Plots and records to embed and link.
        unmeasured: Runs that ended before their first inference.
        beside: Records on quality.
    """
    beside = beside or Beside()
    attachments = attachments or Attachments()
    alone = len(judged) == 1 and not unmeasured
    drawn = _aligned(attachments.images, len(judged))
    sides = _aligned(attachments.comparison_images, len(comparisons))
    compared = list(zip(comparisons, sides, strict=True))
    lines: list[str] = []
    if alone:
        lines += _section(judged[0], drawn[0], compared, 1, lang, beside=beside)
    else:
        lines += [f"# {t('report.title_many', lang)}", ""]
        if judged:
            lines += [*template.head(judged[0].run, lang), "", *_overview(judged, lang)]
        for one, images in zip(judged, drawn, strict=True):
            lines += ["", "---", *_section(one, images, compared, 2, lang, beside=beside)]
        for run in unmeasured:
            lines += ["", "---", *_unmeasured(run, lang)]
    runs = [one.run for one in judged]
    if runs:
        lines += details.environments(runs, 2, lang)
    lines += _data(attachments, lang)
    return "\n".join(_tidy(lines)) + "\n"


def _aligned(images: Sequence[Images], count: int) -> list[Images]:
    """One entry for each of `count` subjects, empty where nothing was drawn."""
    return [images[index] if index < len(images) else () for index in range(count)]


def _section(
    judged: Judged,
    images: Images,
    compared: Sequence[tuple[Comparison, Images]],
    level: int,
    lang: str,
    *,
    beside: Beside,
) -> list[str]:
    """The guide's template in its order, its checklist, then the rest."""
    run, below = judged.run, level + 1
    mine = [found for found, _ in compared if side(run, found)]
    # A comparison is drawn once, in the section that holds its table.
    shown = [*images]
    for found, drawn in compared:
        shown += drawn if side(run, found) == "a" else ()
    return [
        *heading(level, t("report.title", lang, name=escape(subject_name(run)))),
        *template.head(run, lang),
        *_partial(run, lang),
        *template.model(run, below, lang),
        *template.latency(judged, below, lang),
        *template.comparison(judged, mine, below, lang),
        *quality_page.section(run, beside, below, lang),
        *template.decision(judged, below, lang),
        *template.boxes(judged, mine, beside, below, lang),
        *details.notes(judged, below, lang),
        *details.pictures(shown, below, lang),
        *details.method(judged, below, lang),
        *details.language(judged, below, lang),
        *details.per_length(judged, below, lang),
        *details.times(judged, below, lang),
        *details.transcripts(judged, below, lang),
        *details.files(judged, below, lang),
    ]


def _overview(judged: Sequence[Judged], lang: str) -> list[str]:
    """One line for each subject, for whoever reads no further."""
    header = [
        t("report.col_model", lang),
        t("report.metric_p50", lang),
        t("report.metric_ram", lang),
        t("report.col_verdict", lang),
    ]
    rows = []
    for one in judged:
        p50, ram = one.decision.check("p50"), one.decision.check("ram")
        rows.append(
            [
                escape(subject_name(one.run)),
                metric_value("p50", p50.value, ""),
                metric_value("ram", ram.value, ""),
                template.decision_label(one.decision, lang),
            ]
        )
    return table(header, rows, "xrr")


def _partial(run: Run, lang: str) -> list[str]:
    if run.status == "complete":
        return []
    words = partial_text(run, lang, escape).replace("\n", " ")
    return ["", f"> ⚠️ {words}"]


def _unmeasured(run: Run, lang: str) -> list[str]:
    reason = t("report.not_run", lang, status=t(f"report.status_{run.status}", lang))
    if run.failure is not None:
        reason += " " + note_text(run.failure, lang, escape, section="errors")
    notes = [f"- {note_text(note, lang, escape)}" for note in run.notes]
    title = t("report.title", lang, name=escape(subject_name(run)))
    return [*heading(2, title), f"❌ {reason}", *(["", *notes] if notes else [])]


def _data(attachments: Attachments, lang: str) -> list[str]:
    lines: list[str] = []
    if attachments.records:
        links = (f"[{escape(path)}]({link_target(path)})" for path in attachments.records)
        lines.append(t("report.raw_line", lang, links=", ".join(links)))
    if attachments.plots_missing:
        command = f"`{attachments.plots_missing}`"
        lines += ["", t("report.no_plots", lang, command=command)]
    return [*heading(2, t("report.raw_title", lang)), *lines] if lines else []


def _tidy(lines: Sequence[str]) -> list[str]:
    """Drops blank lines at the start and after another one."""
    kept: list[str] = []
    for line in lines:
        if line or (kept and kept[-1]):
            kept.append(line)
    while kept and not kept[-1]:
        kept.pop()
    return kept
