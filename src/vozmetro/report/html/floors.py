"""What could be at best, and what was claimed: floors, studies of depths, hypotheses."""

from __future__ import annotations

from collections.abc import Sequence

from vozmetro.i18n import t
from vozmetro.judge.claims import Claims
from vozmetro.judge.depth_report import depth_report
from vozmetro.judge.findings import Finding
from vozmetro.measure.depth_records import DepthStudy
from vozmetro.measure.roofline_records import Roofline
from vozmetro.report import bars, depths, roofline
from vozmetro.report.formatting import note_text, when
from vozmetro.report.html.background import command, machine_facts
from vozmetro.report.html.blocks import Block, Bullets, Facts, Para, Section, Tone, Verdict
from vozmetro.report.html.maker import Maker
from vozmetro.report.html.text import Text, both, each, rows, say, tidy
from vozmetro.report.hypotheses import (
    claimed_text,
    counts_text,
    found_text,
    reason_text,
    status_text,
)

_KNOWN = ("architecture", "arithmetic")
"""Sources that speak without any measurement."""
_TONES: dict[str, Tone] = {
    "confirmed": "pass",
    "refuted": "fail",
    "impossible": "fail",
    "undecided": "undecided",
}


def roofline_section(record: Roofline, key: str, make: Maker) -> Section:
    """Returns a subject's floors against what was measured.

    Args:
        record: What was computed and measured.
        key: Its id.
        make: Of the page.
    """
    record = _cut(record)
    name = say("html.roofline", name=record.subject, precision=record.precision)
    head = [say(f"roofline.col_{key}") for key in ("item", *roofline.COLUMNS, "bound")]

    def cells(lang: str) -> list[list[str]]:
        return [
            [
                tidy(roofline.item_name(one, lang)),
                *roofline.cells(one).values(),
                t(f"roofline.bound_{one.bound}", lang),
            ]
            for one in record.items
        ]

    claim = both(lambda lang: roofline.claim_text(record, lang))
    blocks: list[Block] = [Para(claim, "strong")] if claim else []
    beside: list[Block] = [Para(both(lambda lang: roofline.ceilings_text(record, lang)))]
    if claim:
        rests = both(lambda lang: roofline.conditions_text(record, lang))
        beside.append(Para(rests, "quiet"))
    blocks += make.figure(
        lambda canvas: bars.roofline_bars(record, canvas),
        say("plots.roofline_title", name=record.subject),
        beside,
    )
    blocks += make.table(name, head, rows(cells), "xrrrrrx", hidden=True)
    notes = each(lambda lang: [note_text(note, lang, tidy) for note in record.notes])
    blocks += [Bullets(notes, "warn", title=say("report.notes_title"))] if notes else []
    return Section(key, name, blocks)


def _cut(record: Roofline) -> Roofline:
    """The record with names that fit a sentence."""
    claim = record.claim
    if claim is not None:
        short = {name: tidy(getattr(claim, name)) for name in ("subject", "precision", "item")}
        claim = claim.model_copy(update=short)
    machine = record.machine.model_copy(update={"cpu": tidy(record.machine.cpu)})
    names = {"subject": tidy(record.subject), "precision": tidy(record.precision)}
    return record.model_copy(update={**names, "claim": claim, "machine": machine})


def depths_section(study: DepthStudy, key: str, make: Maker) -> Section:
    """Returns a study of depths.

    Args:
        study: What was measured.
        key: Starts the ids of its parts.
        make: Of the page.
    """
    found = depth_report(study)
    lead: list[Block] = [
        Verdict(
            label=say(f"guide.verdict_{found.status}"),
            tone=found.status,
            headline=both(lambda lang: tidy(" · ".join(depths.head_parts(study, lang)))),
            lines=each(lambda lang: depths.verdict(found, lang)),
            tiles=[],
        )
    ]
    figures = [*found.figures, *found.first_audio]
    stages = make.table(
        say("depths.stages"),
        each(lambda lang: depths.headings(study, found, lang)),
        rows(lambda lang: [[tidy(cell) for cell in row] for row in depths.rows(figures, lang)]),
        "xrrrrx",
    )
    checked = make.table(
        say("depths.check_title"),
        each(depths.check_headings),
        rows(lambda lang: depths.check_rows(figures, lang)),
        "xrrrx",
    )
    notes = each(lambda lang: depths.notes(found, lang, tidy))
    behind: list[Block] = [
        *stages,
        *checked,
        Facts(rows(lambda lang: depths.facts(study, found, lang))),
        *([Bullets(notes, "warn", title=say("report.notes_title"))] if notes else []),
        machine_facts(study.environment),
    ]
    if study.settings.command:
        behind.append(command(" ".join(study.settings.command)))
    date = Para(both(lambda lang: when(study.created, lang)), "quiet")
    name = say("depths.title", name=tidy(study.subject.name))
    return Section(key, name, [date, *lead, *behind], fold="open")


def spoken_of(findings: Sequence[Finding]) -> list[Finding]:
    """Returns the findings that a measurement decided, or left open."""
    return [
        one
        for one in findings
        if one.status != "not_tested" and one.decisive and one.decisive.source not in _KNOWN
    ]


def hypotheses_section(
    claims: Claims, findings: Sequence[Finding], key: str, make: Maker
) -> list[Section]:
    """Returns the claims that the page's measurements speak to; nothing for none.

    Args:
        claims: What was claimed.
        findings: What became of each claim.
        key: Its id.
        make: Of the page.
    """
    told = spoken_of(findings)
    if not told:
        return []
    head = [say(f"hypotheses.col_{name}") for name in ("claim", "claimed", "found", "status")]

    def cells(lang: str) -> list[list[str]]:
        return [
            [
                one.claim.says.text(lang),
                claimed_text(one.claim, lang),
                found_text(one.decisive, lang),
                status_text(one, lang),
            ]
            for one in told
        ]

    why: list[Text] = each(
        lambda lang: [
            f"{one.claim.says.text(lang)}: {reason_text(one, lang, tidy)}" for one in told
        ]
    )
    lead = both(lambda lang: counts_text(told, lang))
    source = both(lambda lang: f"{claims.title.text(lang)} · {claims.source.text(lang)}")
    table = make.table(
        say("html.claims"),
        head,
        rows(cells),
        "xxxx",
        tones=[_TONES[one.status] for one in told],
        hidden=True,
    )
    blocks: list[Block] = [Para(lead, "strong"), Para(source, "quiet"), *table, Bullets(why)]
    return [Section(key, say("html.claims"), blocks)]
