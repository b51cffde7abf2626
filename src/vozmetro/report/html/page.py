"""`report.html`: everything of a report in one file, written whole."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from vozmetro.errors import MissingExtraError
from vozmetro.i18n import t
from vozmetro.judge.claims import Claims
from vozmetro.judge.comparison import Comparison
from vozmetro.judge.findings import Finding
from vozmetro.measure.depth_records import DepthStudy
from vozmetro.measure.records import Run
from vozmetro.measure.roofline_records import Roofline
from vozmetro.measure.storage import write_atomic
from vozmetro.report.escape import link_target
from vozmetro.report.formatting import check_interval, metric_value, subject_name
from vozmetro.report.html import background, floors, quality
from vozmetro.report.html import run as subjects
from vozmetro.report.html.blocks import Block, Links, Para, Section
from vozmetro.report.html.maker import Maker
from vozmetro.report.html.subject import Subject
from vozmetro.report.html.text import Text, both, same, say, tidy
from vozmetro.report.quality_judged import Beside
from vozmetro.report.rows import head_rows
from vozmetro.report.template import Judged

_OPEN = 2
"""More subjects than these are folded, but for the first: the overview leads to them."""
_INSTALL_PLOTS = "`pip install 'vozmetro[html]'`"


@dataclass(frozen=True)
class Content:
    """What goes into one page.

    Attributes:
        judged: Runs with their verdicts, in the order to show.
        comparisons: Shown in the section of their subject A.
        unmeasured: Runs that ended before their first inference.
        studies: Of depths.
        beside: Records on quality.
        rooflines: Floors.
        claims: What was claimed, with what became of each claim; None where nobody asked.
        records: Addresses of the saved measurements, relative to the page.
    """

    judged: Sequence[Judged] = ()
    comparisons: Sequence[Comparison] = ()
    unmeasured: Sequence[Run] = ()
    studies: Sequence[DepthStudy] = ()
    beside: Beside = field(default_factory=Beside)
    rooflines: Sequence[Roofline] = ()
    claims: tuple[Claims, Sequence[Finding]] | None = None
    records: Sequence[str] = ()


def write_html(path: Path, content: Content, lang: str) -> Path:
    """Writes the page; the file is old or whole, never a part.

    Args:
        path: Where to.
        content: What goes into it.
        lang: Language that it opens in.

    Returns:
        The path.

    Raises:
        MissingExtraError: jinja2 is not installed.
        OutputError: `unwritable` or `disk_full`.
    """
    write_atomic(path, render(content, lang).encode())
    return path


def render(content: Content, lang: str) -> str:
    """Returns the page.

    Args:
        content: What goes into it.
        lang: `es` or `en`: the language that it opens in.

    Raises:
        MissingExtraError: jinja2 is not installed.
    """
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError as error:
        raise MissingExtraError("html", "jinja2") from error
    from markupsafe import Markup

    make = Maker()
    title, facts, sections = _sections(content, make)
    style = _asset("page.css") + make.drawings.css()
    script = _asset("page.js")
    # Names of another template engine's syntax are plain text here: nothing is a template twice.
    environment = Environment(
        loader=PackageLoader("vozmetro.report.html"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    known: dict[str, Any] = {
        "lang": lang,
        "title": title,
        "titles": {code: title.of(code) for code in ("es", "en")},
        "facts": facts,
        "sections": sections,
        "style": Markup(style),  # noqa: S704 our own files and numbers
        "script": Markup(script),  # noqa: S704
        "policy": _policy(style, script),
        "say": say,
        "version": version("vozmetro"),
        "safe_svg": Markup,
    }
    return environment.get_template("page.html").render(known)


def _policy(style: str, script: str) -> str:
    """What the page may do: its own style and script, pixels within it, and nothing else."""
    rules = {
        "default-src": "'none'",
        "img-src": "data:",
        "style-src": _digest(style),
        "script-src": _digest(script),
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def _digest(text: str) -> str:
    found = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{found}'"


def _asset(name: str) -> str:
    place = resources.files("vozmetro.report.html").joinpath("templates", name)
    return place.read_text(encoding="utf-8")


def _sections(content: Content, make: Maker) -> tuple[Text, list[tuple[Text, Text]], list[Section]]:
    """The page's title, the facts under it, and its sections."""
    told = [
        Subject(one, content.comparisons, content.beside, f"s{number}")
        for number, one in enumerate(content.judged, 1)
    ]
    alone = len(told) == 1 and not content.unmeasured
    found: list[Section] = []
    after: list[Section] = []
    if alone:
        found += subjects.evidence(told[0], make)
        after = subjects.rest(told[0], make)
    else:
        if told:
            found.append(_overview(told, make))
        for one in told:
            parts = [*subjects.evidence(one, make), *subjects.rest(one, make)]
            fold: Literal["open", "closed"] = (
                "open" if len(told) <= _OPEN or one is told[0] else "closed"
            )
            found.append(Section(one.key, one.name, parts=parts, fold=fold))
        found += [
            subjects.unmeasured(run, f"n{number}")
            for number, run in enumerate(content.unmeasured, 1)
        ]
    found += [
        floors.depths_section(study, f"d{number}", make)
        for number, study in enumerate(content.studies, 1)
    ]
    found += [
        quality.study_section(study, f"q{number}", make)
        for number, study in enumerate(content.beside.studies, 1)
    ]
    found += [
        floors.roofline_section(record, f"r{number}", make)
        for number, record in enumerate(content.rooflines, 1)
    ]
    if content.claims is not None:
        found += floors.hypotheses_section(*content.claims, "claims", make)
    runs = [one.run for one in content.judged]
    if runs:
        machines = background.machines(runs)
        found.append(Section("environment", say("report.environment_title"), machines))
    found += after
    found += _data(content.records, make)
    title = subjects.title(told[0]) if alone else _title(content)
    facts: list[tuple[Text, Text]] = []
    if runs:
        shown = [head_rows(runs[0], code, tidy) for code in ("es", "en")]
        facts = [(Text(es[0], en[0]), Text(es[1], en[1])) for es, en in zip(*shown, strict=True)]
    return title, facts, found


def _title(content: Content) -> Text:
    """Of a page on several things, or on one that is no run."""
    if not content.judged and not content.unmeasured:
        if len(content.studies) == 1:
            return say("depths.title", name=tidy(content.studies[0].subject.name))
        if content.beside.studies:
            return say("quality.title")
        if len(content.rooflines) == 1:
            one = content.rooflines[0]
            return say("html.roofline", name=tidy(one.subject), precision=tidy(one.precision))
    return say("report.title_many")


def _overview(told: Sequence[Subject], make: Maker) -> Section:
    """One line for each subject, for whoever reads no further."""
    body, tones = [], []
    for one in told:
        decision = one.judged.decision
        p50, ram = decision.check("p50"), decision.check("ram")
        latency = f"{metric_value('p50', p50.value)}\n{check_interval(p50)}"
        body.append(
            [
                same(tidy(subject_name(one.judged.run))),
                same(latency),
                same(metric_value("ram", ram.value)),
                subjects.verdict_text(decision),
            ]
        )
        tones.append(subjects.tone_of(decision))
    head = [say(f"report.{key}") for key in ("col_model", "metric_p50", "metric_ram")]
    blocks = make.table(
        say("html.overview"),
        [*head, say("report.col_verdict")],
        body,
        "xrrx",
        tones=tones,
        links=[f"#{one.key}" for one in told],
        hidden=True,
    )
    return Section("overview", say("html.overview"), blocks)


def _data(records: Sequence[str], make: Maker) -> list[Section]:
    blocks: list[Block] = []
    if records:
        links = [(link_target(path), tidy(path)) for path in records]
        lead = both(lambda lang: t("report.raw_line", lang, links="").strip(" ."))
        blocks.append(Links(lead, links))
    if make.plots_missing:
        blocks.append(Para(say("report.no_plots", command=_INSTALL_PLOTS), "warn"))
    return [Section("data", say("report.raw_title"), blocks)] if blocks else []
