"""What became of claims, as words: cells, sentences and evidence, for terminal and page alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Any

from rich import box
from rich.console import Console, ConsoleRenderable, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from vozmetro.i18n import t
from vozmetro.judge.claims import Claim, Claims
from vozmetro.judge.evidence import Evidence
from vozmetro.judge.findings import STATUSES, Finding, Weighed
from vozmetro.report.formatting import Cleaner, ends, note_text, number, rate, when
from vozmetro.units import count, plain, size

SYMBOLS = {
    "confirmed": "✅",
    "refuted": "❌",
    "impossible": "🚫",
    "undecided": "❔",
    "not_tested": "⏳",
}
_STYLES = {"confirmed": "green", "refuted": "red", "impossible": "red", "undecided": "yellow"}
_NONE = "–"
_FIGURES: dict[str, Callable[[float], str]] = {
    "ram": size,
    "parameters": count,
    "throughput": lambda per_second: f"{rate(per_second)} inf/s",
    "load": lambda seconds: f"{seconds:.2f} s",
    "warmup": lambda seconds: f"{seconds:.2f} s",
    "wer": lambda percent: f"{percent:.1f} %",
    "wer_increase": lambda points: f"{points:+.1f}",
    "gain": lambda percent: f"{percent:.1f} %",
    "mos": lambda score: f"{score:.2f}",
}


def status_text(finding: Finding, lang: str) -> str:
    """Returns `❌ refutada`."""
    return f"{SYMBOLS[finding.status]} {t(f'hypotheses.status_{finding.status}', lang)}"


def claimed_text(claim: Claim, lang: str) -> str:
    """Returns what is claimed, with its unit: `190–240 ms`, `≈ 80 ms`, `< 4 GB`."""
    if claim.compare == "has":
        return _modality(claim.modality, lang)
    digits = ".2f" if claim.metric == "mos" else "g"
    unit = "" if claim.unit == "MOS" else f" {claim.unit}"
    if claim.unit == "points":
        unit = f" {t('hypotheses.point' if claim.value == 1 else 'hypotheses.points', lang)}"
    if claim.compare == "between":
        return f"{claim.low:{digits}}–{claim.high:{digits}}{unit}"
    sign = {"about": "≈", "below": "<", "at_most": "≤", "at_least": "≥"}[claim.compare]
    return f"{sign} {claim.value:{digits}}{unit}"


def _modality(known: Iterable[str], lang: str) -> str:
    """Returns `texto, imagen, vídeo → texto`: what goes in and what comes out."""
    known = set(known)
    sides = []
    for side in ("input", "output"):
        kinds = [k for k in ("audio", "text", "image", "video") if f"{k}_{side}" in known]
        sides.append(", ".join(t(f"hypotheses.modality_{kind}", lang) for kind in kinds))
    return " → ".join(sides).strip()


def figure(metric: str, value: float | None, lang: str) -> str:
    """Returns one figure of a metric with its unit; `–` for none."""
    if value is None or math.isnan(value):
        return _NONE
    shown: Callable[[float], str] = _FIGURES.get(metric, lambda ms: f"{number(ms)} ms")
    return shown(value) + (f" {t('hypotheses.points', lang)}" if metric == "wer_increase" else "")


def found_text(one: Evidence | None, lang: str) -> str:
    """Returns a figure with its interval, or the least that it can be; `–` for none."""
    if one is None:
        return _NONE
    if one.metric == "modality":
        return _modality(one.modality, lang)
    value = figure(one.metric, one.value, lang)
    if one.relation == "at_least":
        return t("hypotheses.at_least", lang, value=figure(one.metric, one.low, lang))
    if one.low == one.high == one.value:
        return value
    return f"{value} {ends(one.low, one.high, lambda end: _bare(one.metric, end))}"


def _bare(metric: str, value: float | None) -> str:
    shown = figure(metric, value, "en")
    return shown if metric in ("ram", "parameters") else shown.split(" ")[0]


def reason_text(finding: Finding, lang: str, clean: Cleaner = plain) -> str:
    """Returns why a claim has its status, in a sentence."""
    claim, one = finding.claim, finding.decisive
    code = finding.reason.code
    if code.startswith("hypotheses.left_"):
        return t("hypotheses.only_left_out", lang, why=t(code, lang))
    most = claim.bounds[1]
    common = {
        "claimed": claimed_text(claim, lang),
        "found": found_text(one, lang),
        "value": figure(one.metric, one.value, lang) if one else _NONE,
        "name": one.about.name if one else "",
        "machine": one.machine if one else "",
        "precision": one.about.precision if one else "",
        "times": f"{one.value / most:.1f}" if one and most else "",
    }
    known = common | finding.reason.fields
    return note_text(finding.reason.model_copy(update={"fields": known}), lang, clean)


def evidence_text(one: Evidence, lang: str, clean: Cleaner = plain) -> str:
    """Returns where a figure comes from: kind, subject, conditions, file, machine and date."""
    words = [t(f"hypotheses.source_{one.source}", lang)]
    if one.source != "arithmetic":
        words.append(
            clean(" ".join(part for part in (one.about.name, one.about.precision) if part))
        )
    if one.pair:
        words.append(clean(one.pair.partition(" ")[2].replace(">", " → ")))
    if one.part:
        words.append(t("hypotheses.tag_part", lang, part=one.part))
    if one.prompt_tokens:
        fields = {"prompt": one.prompt_tokens, "answer": one.answer_tokens or 1}
        words.append(t("hypotheses.tag_tokens", lang, **fields))
    if one.source == "run" and one.n:
        words.append(t("hypotheses.tag_samples", lang, n=one.n))
    for tag, holds in (
        ("dummy", one.about.dummy),
        ("extrapolated", one.extrapolated),
        ("synthetic", one.synthetic),
    ):
        if holds:
            words.append(t(f"hypotheses.tag_{tag}", lang))
    if one.machine:
        words.append(clean(one.machine))
    if one.date:
        words.append(when(one.date, lang))
    if one.file:
        words.append(clean(one.file))
    return " · ".join(words)


def verdict_text(weighed: Weighed, lang: str) -> str:
    """Returns what a piece of evidence says: `refuta`, `no cuenta: otra máquina`."""
    why = t(f"hypotheses.left_{weighed.why}", lang) if weighed.why else ""
    return t(f"hypotheses.verdict_{weighed.verdict}", lang, why=why)


def counts_text(findings: Sequence[Finding], lang: str) -> str:
    """Returns `✅ 3 confirmadas · ❌ 4 refutadas`; states without any are left out."""
    tally = {status: sum(one.status == status for one in findings) for status in STATUSES}
    return " · ".join(
        f"{SYMBOLS[status]} {t(f'hypotheses.count_{status}', lang, n=n)}"
        for status, n in tally.items()
        if n
    )


def decisive_list(findings: Sequence[Finding]) -> list[Evidence]:
    """Returns the decisive figures in their order, each once; they are numbered from 1."""
    found: list[Evidence] = []
    for one in findings:
        if one.decisive is not None and one.decisive not in found:
            found.append(one.decisive)
    return found


def reference(finding: Finding, listed: Sequence[Evidence]) -> int | None:
    """Returns the number of a finding's decisive figure; None where there is none."""
    return None if finding.decisive is None else listed.index(finding.decisive) + 1


def machines(findings: Sequence[Finding], fallback: str = "") -> str:
    """Returns the machines that the decisive figures were taken on."""
    found = [one.decisive.machine for one in findings if one.decisive and one.decisive.machine]
    return "; ".join(dict.fromkeys(found)) or fallback


def print_findings(
    console: Console, claims: Claims, findings: Sequence[Finding], lang: str
) -> None:
    """Prints the table of claims, the reasons and the evidence; 80 columns are enough."""
    listed = decisive_list(findings)
    table = _table(lang, "status", "claim", "claimed", "found", "evidence")
    for one in findings:
        ref = reference(one, listed)
        table.add_row(
            Text(status_text(one, lang), style=_STYLES.get(one.status, "dim")),
            Text(plain(one.claim.says.text(lang))),
            Text(claimed_text(one.claim, lang)),
            Text(found_text(one.decisive, lang)),
            Text(f"[{ref}]" if ref else ""),
        )
    parts: list[ConsoleRenderable] = [
        Text(""),
        Text(plain(claims.title.text(lang)), style="bold"),
        Text(""),
        table,
        Text(""),
        Text(counts_text(findings, lang), style="bold"),
    ]
    parts += _titled(t("hypotheses.page_why", lang), _reasons(findings, lang))
    sources = [(f"[{n}]", evidence_text(one, lang)) for n, one in enumerate(listed, 1)]
    parts += _titled(t("hypotheses.page_evidence", lang), sources)
    console.print(Group(*parts))


def _reasons(findings: Sequence[Finding], lang: str) -> list[tuple[str, str]]:
    return [
        (SYMBOLS[one.status], f"{one.claim.id}: {reason_text(one, lang)}")
        for one in findings
        if one.status != "not_tested"
    ]


def print_claims(console: Console, claims: Claims, lang: str) -> None:
    """Prints the claims of a file."""
    table = _table(lang, "id", "claim", "claimed", "section")
    for one in claims.claims:
        table.add_row(
            Text(one.id),
            Text(plain(one.says.text(lang))),
            Text(claimed_text(one, lang)),
            Text(plain(one.section.text(lang))),
        )
    title = Text(plain(claims.title.text(lang)), style="bold")
    source = Text(plain(claims.source.text(lang)), style="dim")
    console.print(Group(Text(""), title, source, Text(""), table))


def _table(lang: str, *columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for name in columns:
        table.add_column(
            Text(t(f"hypotheses.col_{name}", lang)),
            no_wrap=name in ("status", "evidence"),
            overflow="fold",
            # Names of models should not break.
            min_width=22 if name == "claim" else None,
            max_width={"found": 18, "section": 18}.get(name),
        )
    return table


def _titled(title: str, rows: Sequence[tuple[str, str]]) -> list[ConsoleRenderable]:
    if not rows:
        return []
    grid = Table.grid(padding=(0, 1, 0, 0), pad_edge=False)
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for mark, text in rows:
        grid.add_row(Text(mark), Text(text))
    return [Text(""), Text(title, style="bold"), Padding(grid, (0, 0, 0, 2), expand=False)]


def findings_json(
    claims: Claims, findings: Sequence[Finding], machine: str, lang: str
) -> dict[str, Any]:
    """Returns the findings for `--json`; numbers as in the records, sentences in `lang`."""
    return {
        "title": claims.title.text(lang),
        "source": claims.source.text(lang),
        "machine": machine,
        "findings": [
            {
                "id": one.claim.id,
                "claim": one.claim.model_dump(mode="json", exclude_none=True),
                "status": one.status,
                "better": one.better,
                "reason": reason_text(one, lang),
                "evidence": [
                    {**_evidence_json(w.evidence), "verdict": w.verdict, "why": w.why}
                    for w in one.weighed
                ],
            }
            for one in findings
        ],
    }


def _evidence_json(one: Evidence) -> dict[str, Any]:
    found = asdict(one) | {"modality": sorted(one.modality)}
    for hidden in ("said", "first_ms", "token_ms", "sequential"):
        found.pop(hidden)
    found["about"]["names"] = list(one.about.names)
    return found
