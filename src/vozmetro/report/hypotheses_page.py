"""The page of claims in Markdown: a table, a paragraph for each that fails, and the evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vozmetro.i18n import t
from vozmetro.judge.claims import TOLERANCE, Claim, Claims
from vozmetro.judge.findings import Finding
from vozmetro.judge.hypotheses import IMPOSSIBLE_FROM
from vozmetro.report.escape import code, escape, table
from vozmetro.report.formatting import when
from vozmetro.report.hypotheses import (
    claimed_text,
    counts_text,
    decisive_list,
    evidence_text,
    found_text,
    machines,
    reason_text,
    reference,
    status_text,
    verdict_text,
)


@dataclass(frozen=True)
class Header:
    """What stands at the top of the page.

    Attributes:
        created: ISO 8601.
        machine: This machine, named where no figure names one.
        command: The command line.
    """

    created: str
    machine: str = ""
    command: str = ""


def render_page(claims: Claims, findings: Sequence[Finding], header: Header, lang: str) -> str:
    """Returns the page.

    Args:
        claims: What was claimed.
        findings: What became of each claim.
        header: Date, machine and command.
        lang: `es` or `en`.
    """
    lines = [
        f"# {escape(claims.title.text(lang))}",
        "",
        *_head(claims, findings, header, lang),
        "",
        counts_text(findings, lang),
        "",
        f"## {t('hypotheses.page_table', lang)}",
        "",
        *_table(findings, lang),
        "",
        _legend(lang),
        *_why(findings, lang),
        *_open(findings, lang),
        *_evidence(findings, lang),
    ]
    return "\n".join(lines) + "\n"


def _legend(lang: str) -> str:
    fields = {"percent": f"{TOLERANCE * 100:g}", "times": f"{IMPOSSIBLE_FROM:g}"}
    return t("hypotheses.page_legend", lang, **fields)


def _head(claims: Claims, findings: Sequence[Finding], header: Header, lang: str) -> list[str]:
    source = escape(claims.source.text(lang))
    machine = escape(machines(findings, header.machine))
    lines = [
        t("hypotheses.page_source", lang, source=source),
        t("hypotheses.page_date", lang, date=when(header.created, lang)),
        t("hypotheses.page_machine", lang, machine=machine),
    ]
    if header.command:
        lines.append(t("hypotheses.page_command", lang, command=code(header.command)))
    # Two spaces end a line without ending the paragraph.
    return [f"{line}  " for line in lines[:-1]] + lines[-1:]


def _table(findings: Sequence[Finding], lang: str) -> list[str]:
    columns = ("claim", "claimed", "found", "status", "evidence")
    listed = decisive_list(findings)
    rows = []
    for one in findings:
        ref = reference(one, listed)
        rows.append(
            [
                escape(one.claim.says.text(lang)),
                escape(claimed_text(one.claim, lang)),
                escape(found_text(one.decisive, lang)),
                status_text(one, lang),
                f"[{ref}](#e{ref})" if ref else "",
            ]
        )
    return table([t(f"hypotheses.col_{name}", lang) for name in columns], rows, "xxrxx")


def _why(findings: Sequence[Finding], lang: str) -> list[str]:
    """A paragraph in plain words for each claim that was decided."""
    failed = [one for one in findings if one.status in ("refuted", "impossible", "undecided")]
    kept = [one for one in findings if one.status == "confirmed"]
    lines: list[str] = []
    for one in (*failed, *kept):
        lines += ["", f"### {status_text(one, lang)}: {escape(one.claim.says.text(lang))}", ""]
        sentences = [reason_text(one, lang, escape)]
        if one.claim.why is not None and one.status != "confirmed":
            sentences.append(escape(one.claim.why.text(lang)))
        sentences += _reading(one.claim, lang)
        lines.append(" ".join(sentences))
    return ["", f"## {t('hypotheses.page_why', lang)}", *lines] if lines else []


def _reading(claim: Claim, lang: str) -> list[str]:
    if claim.reading is None:
        return []
    return [t("hypotheses.page_reading", lang, text=escape(claim.reading.text(lang)))]


def _open(findings: Sequence[Finding], lang: str) -> list[str]:
    lines = []
    for one in findings:
        if one.status != "not_tested":
            continue
        sentences = [f"**{escape(one.claim.says.text(lang))}**.", reason_text(one, lang, escape)]
        sentences += _reading(one.claim, lang)
        if one.claim.answer:
            command = code(one.claim.answer)
            sentences.append(t("hypotheses.page_answer", lang, command=command))
        lines.append("- " + " ".join(sentences))
    return ["", f"## {t('hypotheses.page_open', lang)}", "", *lines] if lines else []


def _evidence(findings: Sequence[Finding], lang: str) -> list[str]:
    """Every figure that was looked at, under its claim; decisive ones have a number."""
    listed = decisive_list(findings)
    anchored: set[int] = set()
    lines: list[str] = []
    for finding in findings:
        if not finding.weighed:
            continue
        lines += ["", f"**{escape(finding.claim.says.text(lang))}**", ""]
        for weighed in finding.weighed:
            one, mark = weighed.evidence, ""
            if one == finding.decisive:
                ref = listed.index(one) + 1
                mark = f"[{ref}] " if ref in anchored else f'<a id="e{ref}"></a>[{ref}] '
                anchored.add(ref)
            shown = escape(found_text(one, lang))
            source = evidence_text(one, lang, escape)
            lines.append(f"- {mark}{shown}: {verdict_text(weighed, lang)}. {source}")
    return ["", f"## {t('hypotheses.page_evidence', lang)}", *lines] if lines else []
