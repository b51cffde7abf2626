"""A measured subject: the verdict first, then why, then everything behind it."""

from __future__ import annotations

from vozmetro.i18n import t
from vozmetro.judge.checks import Check
from vozmetro.judge.decision import Decision
from vozmetro.measure.records import Run
from vozmetro.report import template
from vozmetro.report.checklist import checklist
from vozmetro.report.formatting import (
    all_notes,
    check_interval,
    limit_text,
    metric_value,
    note_text,
    partial_text,
    runs_needed_text,
    state,
    steps,
    subject_name,
    sure_text,
    unfit,
    unresolved,
    waiting_text,
)
from vozmetro.report.html import background, figures
from vozmetro.report.html.blocks import (
    Block,
    Boxes,
    Bullets,
    Para,
    Section,
    Tile,
    Tone,
    Verdict,
)
from vozmetro.report.html.maker import Maker
from vozmetro.report.html.quality import subject_blocks
from vozmetro.report.html.subject import Subject
from vozmetro.report.html.text import Text, both, each, rows, same, say, tidy


def title(subject: Subject) -> Text:
    """Returns the heading of a subject's results."""
    return say("report.title", name=subject.name.en)


def evidence(subject: Subject, make: Maker) -> list[Section]:
    """Returns the verdict and what it rests on, in the order in which one asks.

    Args:
        subject: What was measured.
        make: Of the page.
    """
    sections = [
        ("verdict", say("report.decision_title"), verdict(subject)),
        ("why", say("html.why"), _why(subject, make)),
        ("latency", say("html.latency"), figures.latency(subject, make)),
        ("length", figures.length_title(subject), figures.length(subject, make)),
        ("time", say("html.time"), figures.over_time(subject, make)),
        *figures.pairs(subject, make),
        ("memory", say("report.memory_title"), figures.memory(subject, make)),
        ("times", say("report.times_title"), figures.times(subject)),
        ("turns", say("html.turns"), figures.turns(subject, make)),
        ("quality", say("quality.section"), _quality(subject, make)),
    ]
    return [Section(f"{subject.key}-{key}", name, found) for key, name, found in sections if found]


def rest(subject: Subject, make: Maker) -> list[Section]:
    """Returns the model, the method, and the checklist."""
    return [
        Section(
            f"{subject.key}-method",
            say("html.method"),
            background.blocks(subject.judged, make),
        ),
        Section(f"{subject.key}-checklist", say("report.checklist_title"), [_checklist(subject)]),
    ]


def unmeasured(run: Run, key: str) -> Section:
    """Returns the section of a run that ended before its first inference."""

    def reason(lang: str) -> str:
        status = t(f"report.status_{run.status}", lang)
        words = t("report.not_run", lang, status=status)
        if run.failure is not None:
            words += " " + note_text(run.failure, lang, tidy, section="errors")
        return words

    notes = each(lambda lang: [note_text(note, lang, tidy) for note in run.notes])
    blocks: list[Block] = [Para(both(lambda lang: f"❌ {reason(lang)}"), "fail")]
    blocks += [Bullets(notes, "warn")] if notes else []
    return Section(key, say("report.title", name=tidy(subject_name(run))), blocks)


def tone_of(decision: Decision) -> Tone:
    """Returns the colour of a verdict."""
    return "warn" if decision.status == "pass" and unfit(decision) else decision.status


def verdict_text(decision: Decision) -> Text:
    """Returns the verdict in two words, and its scenario."""

    def words(lang: str) -> str:
        label = template.decision_label(decision, lang)
        if decision.scenario is None:
            return label
        return f"{label} · {t('report.scenario', lang, letter=decision.scenario)}"

    return both(words)


def verdict(subject: Subject) -> list[Block]:
    """Returns the answer, how sure it is, and what to do next."""
    run, found = subject.judged.run, subject.judged.decision
    lines = [both(lambda lang: sure_text(found, subject.judged.summary, lang))]
    if found.status == "undecided":
        letters = ", ".join(found.scenario_candidates)
        lines.append(both(lambda lang: waiting_text(found, lang)))
        lines.append(say("report.candidates", letters=letters))
    blocks: list[Block] = []
    if run.status != "complete":
        blocks.append(Para(both(lambda lang: f"⚠️ {partial_text(run, lang, tidy)}"), "warn"))
    blocks.append(
        Verdict(
            label=verdict_text(found),
            tone=tone_of(found),
            # Its sign stands before the label above it.
            headline=both(lambda lang: note_text(found.headline, lang, tidy).lstrip("✅❌⚠️⏳ ")),
            lines=lines,
            tiles=[_tile(check) for check in found.checks if check.gates],
        )
    )
    marked = each(lambda lang: [text for _, text in steps(found, lang, tidy)[1]])
    if marked:
        marks = [mark for mark, _ in steps(found, "en", tidy)[1]]
        head = both(lambda lang: steps(found, lang, tidy)[0])
        blocks.append(Bullets(marked, marks=marks, title=head))
    blocks.append(Para(both(lambda lang: note_text(found.timeline, lang, tidy)), "quiet"))
    return blocks


def _tile(check: Check) -> Tile:
    interval = check_interval(check)
    return Tile(
        label=say(f"report.metric_{check.metric}"),
        value=metric_value(check.metric, check.value),
        detail=same(" · ".join(part for part in (interval, limit_text(check)) if part)),
        state=both(lambda lang: state(check.status, lang)),
        tone=check.status,
    )


def _why(subject: Subject, make: Maker) -> list[Block]:
    """Every limit with its interval and state, what is missing, and the warnings."""
    run, found = subject.judged.run, subject.judged.decision
    table = make.table(
        say("html.limits"),
        [say(f"report.col_{name}") for name in ("metric", "value", "target")]
        + [say("terminal.state")],
        rows(lambda lang: [_check_cells(check, lang) for check in found.checks]),
        "xrrx",
        tones=[check.status for check in found.checks],
        hidden=True,
    )
    asides = each(
        lambda lang: [*_missing(found, lang), *unresolved(subject.judged.summary, found, lang)]
    )
    notes = each(lambda lang: [note_text(note, lang, tidy) for note in all_notes(run, found)])
    return [
        *table,
        Para(both(lambda lang: template.interval_note(found, lang)), "quiet"),
        *([Bullets(asides)] if asides else []),
        *([Bullets(notes, "warn", title=say("report.notes_title"))] if notes else []),
    ]


def _missing(found: Decision, lang: str) -> list[str]:
    """What each undecided limit waits for."""
    return [
        f"{t(f'report.metric_{check.metric}', lang)}: {runs_needed_text(check.runs_needed, lang)}"
        for check in found.checks
        if check.status == "undecided" and check.runs_needed
    ]


def _check_cells(check: Check, lang: str) -> list[str]:
    role = t("report.role_gates" if check.gates else "report.role_reported", lang)
    value = metric_value(check.metric, check.value)
    interval = check_interval(check)
    return [
        f"{t(f'report.metric_{check.metric}', lang)}\n{role}",
        f"{value}\n{interval}" if interval else value,
        limit_text(check),
        state(check.status, lang),
    ]


def _quality(subject: Subject, make: Maker) -> list[Block]:
    return subject_blocks(subject.judged.run, subject.beside, make)


def _checklist(subject: Subject) -> Boxes:
    judged = subject.judged
    found = checklist(judged.run, judged.summary, judged.decision, subject.mine, subject.beside)
    texts = each(lambda lang: [template.box_text(box, lang, tidy) for box in found])
    return Boxes([(box.ticked, text) for box, text in zip(found, texts, strict=True)])
