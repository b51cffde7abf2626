"""A measured subject: the verdict first, then why, then everything behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vozmetro.i18n import t
from vozmetro.judge.comparison import Comparison
from vozmetro.judge.decision import Check, Decision
from vozmetro.measure.records import Run
from vozmetro.report import bars, details, plots, template
from vozmetro.report.checklist import checklist, other_subject, side
from vozmetro.report.formatting import (
    LATENCY,
    SUMMARY_PERCENT,
    all_notes,
    check_interval,
    ends,
    lengths_text,
    limit_text,
    metric_value,
    note_text,
    number,
    part_name,
    partial_text,
    ratio_text,
    recommendation,
    runs_needed_text,
    state,
    steps,
    subject_name,
    sure_text,
    unfit,
    unresolved,
    waiting_text,
)
from vozmetro.report.html import background
from vozmetro.report.html.blocks import (
    Block,
    Boxes,
    Bullets,
    Facts,
    Fold,
    Para,
    Section,
    Tile,
    Tone,
    Verdict,
)
from vozmetro.report.html.maker import Maker
from vozmetro.report.html.quality import subject_blocks
from vozmetro.report.html.text import Text, both, each, rows, same, say, tidy
from vozmetro.report.quality_judged import Beside
from vozmetro.report.rows import comparison_rows, item_rows, memory_rows, time_rows
from vozmetro.report.template import Judged

_SLOWEST = 5
_SLOW_COLUMNS = (0, 1, 3, 4, 6)
"""Of the table of clips: name, seconds, P50, P90 and state."""


@dataclass(frozen=True)
class Subject:
    """A run with all that the page has on it.

    Attributes:
        judged: The run and its verdict.
        comparisons: Of the page; those with this subject count.
        beside: Records on quality.
        key: Starts the ids of its sections.
    """

    judged: Judged
    comparisons: Sequence[Comparison]
    beside: Beside
    key: str

    @property
    def mine(self) -> list[Comparison]:
        """Comparisons with this subject."""
        return [found for found in self.comparisons if side(self.judged.run, found)]

    @property
    def name(self) -> Text:
        """What to call it."""
        return same(tidy(subject_name(self.judged.run)))


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
        ("latency", say("html.latency"), _latency(subject, make)),
        ("length", _length_title(subject), _length(subject, make)),
        ("time", say("html.time"), _over_time(subject, make)),
        *_pairs(subject, make),
        ("memory", say("report.memory_title"), _memory(subject, make)),
        ("times", say("report.times_title"), _times(subject)),
        ("turns", say("html.turns"), _turns(subject, make)),
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


def _latency(subject: Subject, make: Maker) -> list[Block]:
    run, summary, found = subject.judged.run, subject.judged.summary, subject.judged.decision
    cells = []
    for name in LATENCY:
        one = getattr(summary.overall, name)
        limit = limit_text(found.check(name))
        cells.append([name.upper(), number(one.value), ends(one.low, one.high, number), limit])
    overall = summary.overall
    for key, value in (("mean", overall.mean), ("min", overall.min), ("max", overall.max)):
        cells.append([key, number(value), "", ""])
    words = {"mean", "min", "max"}

    def named(lang: str) -> list[list[str]]:
        return [
            [t(f"html.{row[0]}", lang) if row[0] in words else row[0], *row[1:]] for row in cells
        ]

    table = make.table(
        say("html.percentiles", n=overall.n, percent=SUMMARY_PERCENT),
        [
            say("report.col_metric"),
            same("ms"),
            say("terminal.interval", percent=SUMMARY_PERCENT),
            say("terminal.limit"),
        ],
        rows(named),
        "xrrr",
    )
    caption = say("plots.alt_latency", name=subject.name.en)
    return make.figure(
        lambda canvas: plots.latency_distribution(run, summary, found, canvas), caption, table
    )


def _length_title(subject: Subject) -> Text:
    is_lm = subject.judged.run.subject.kind == "lm"
    return say("html.prompt" if is_lm else "html.length")


def _length(subject: Subject, make: Maker) -> list[Block]:
    run, summary, found = subject.judged.run, subject.judged.summary, subject.judged.decision
    head = [
        *(say(f"report.col_{name}") for name in ("item", "seconds")),
        *map(same, ("n", "P50 (ms)", "P90 (ms)")),
        say("report.col_max"),
        same(limit_text(found.check("p50"))),
    ]
    items = [[tidy(cell) for cell in row] for row in item_rows(run, summary, found)]
    body = rows(lambda lang: items)
    table = make.table(say("report.per_length_title"), head, body, "xrrrrr", hidden=True)
    slow = sorted(
        zip(summary.per_item.values(), body, strict=True), key=lambda one: -one[0].p50.value
    )
    shown = [[row[at] for at in _SLOW_COLUMNS] for _, row in slow[:_SLOWEST]]
    few = make.table(
        say("html.slowest_clips", n=len(shown)), [head[at] for at in _SLOW_COLUMNS], shown, "xrrr"
    )
    over = Para(
        both(lambda lang: t("terminal.mean_over", lang, what=lengths_text(summary, lang))), "quiet"
    )
    figure = make.figure(
        lambda canvas: plots.latency_by_length(run, summary, found, canvas),
        say("plots.alt_length", name=subject.name.en),
        [over, *few],
    )
    return [*figure, Fold(say("html.every_clip"), table)]


def _over_time(subject: Subject, make: Maker) -> list[Block]:
    run, summary = subject.judged.run, subject.judged.summary
    slowest = sorted(run.samples, key=lambda one: -one.ms)[:_SLOWEST]
    cells = [
        [tidy(one.item), number(one.ms), f"{one.at_s:.1f}", str(one.block), str(one.session)]
        for one in slowest
    ]
    table = make.table(
        say("html.slowest", n=len(slowest)),
        [say("report.col_item"), same("ms"), *(say(f"html.col_{k}") for k in _PLACES)],
        [[same(cell) for cell in row] for row in cells],
        "xrrrr",
    )
    told = Bullets(each(lambda lang: details.sampling_texts(subject.judged, lang)))
    return make.figure(
        lambda canvas: plots.samples_over_time(run, canvas, summary),
        say("plots.alt_time", name=subject.name.en),
        [told, *table],
    )


_PLACES = ("at", "block", "session")


def _pairs(subject: Subject, make: Maker) -> list[tuple[str, Text, list[Block]]]:
    """A section for each comparison; in full where this subject is its A."""
    found = []
    for index, one in enumerate(subject.mine, 1):
        other = tidy(other_subject(subject.judged.run, one))
        name = say("report.comparison_title", name=other)
        whole = side(subject.judged.run, one) == "a"
        blocks: list[Block] = [Para(say("report.comparison_elsewhere", name=other))]
        if whole:
            blocks = _compared(one, make)
        found.append((f"pairs{index}", name, blocks))
    return found


def _compared(one: Comparison, make: Maker) -> list[Block]:
    fields = {"ratio": ratio_text(one.ratio), "n": one.pairs, "percent": SUMMARY_PERCENT}
    unfair = each(lambda lang: [note_text(note, lang, tidy) for note in one.record.unfair])
    advice = both(
        lambda lang: " ".join([t("guide.recommendation", lang), *recommendation(one, lang, tidy)])
    )
    head = [
        say("guide.metric"),
        *(say("guide.model", letter=letter) for letter in "AB"),
        say("guide.difference"),
    ]
    body = rows(
        lambda lang: [
            [tidy(cell) for cell in (row.label, row.a, row.b, row.difference)]
            for row in comparison_rows(one, lang)
        ]
    )
    # The names stand above the table, in full: beside the numbers there is no room.
    named, *body = body
    names = {letter: cell.en for letter, cell in zip("ab", named[1:3], strict=True)}
    table = make.table(say("report.full_table"), head, body, "xrrr", hidden=True)
    figure = make.figure(
        lambda canvas: plots.comparison_plot(one, canvas),
        say("plots.alt_comparison", **names),
        [*table, Para(say(f"report.mode_{one.record.mode}"), "quiet")],
    )
    return [
        Para(say(f"guide.{one.verdict}", **fields), "strong"),
        Facts([[say("guide.model", letter=x.upper()), same(name)] for x, name in names.items()]),
        *([Para(advice)] if recommendation(one, "en") else []),
        *([Bullets(unfair, "warn", title=say("report.unfair"))] if unfair else []),
        *figure,
    ]


def _memory(subject: Subject, make: Maker) -> list[Block]:
    run, summary, found = subject.judged.run, subject.judged.summary, subject.judged.decision
    table = make.table(
        say("report.memory_title"),
        [say("report.col_phase"), *map(same, ("RSS", "USS", "PSS"))],
        rows(lambda lang: memory_rows(run, summary, lang)),
        "xrrr",
        hidden=True,
    )
    return make.figure(
        lambda canvas: bars.memory_by_phase(run, summary, found, canvas),
        say("plots.memory_title", name=subject.name.en),
        table,
    )


def _times(subject: Subject) -> list[Block]:
    run, summary = subject.judged.run, subject.judged.summary
    return [Facts(rows(lambda lang: time_rows(run, summary, lang)))]


def _turns(subject: Subject, make: Maker) -> list[Block]:
    """Where the time of a cascade's turns goes."""
    run, summary, found = subject.judged.run, subject.judged.summary, subject.judged.decision
    turns = bars.turns_of(run)
    if not turns:
        return []
    names = list(summary.parts_p50)
    values = [number(value) for value in summary.parts_p50.values()]
    parts = make.table(
        say("html.parts"),
        [say("html.col_part"), same("P50 (ms)")],
        rows(
            lambda lang: [
                [part_name(name, lang), value] for name, value in zip(names, values, strict=True)
            ]
        ),
        "xr",
    )
    drawn = [name for name in (bars.WAIT, *bars.PARTS) if name in names]
    cells = [
        [tidy(one.item), number(one.ms), *(number(one.parts.get(name)) for name in drawn)]
        for one in turns
    ]
    each_turn = make.table(
        say("html.turns_table"),
        [say("report.col_item"), same("ms"), *(say(f"plots.turn_{name}") for name in drawn)],
        [[same(cell) for cell in row] for row in cells],
        "xrrrrr",
        hidden=True,
    )
    return make.figure(
        lambda canvas: bars.turn_waterfall(run, summary, found, canvas),
        say("plots.turn_title", name=subject.name.en),
        [*parts, Para(say("html.turns_note"), "quiet"), Fold(say("html.turns_table"), each_turn)],
    )


def _quality(subject: Subject, make: Maker) -> list[Block]:
    return subject_blocks(subject.judged.run, subject.beside, make)


def _checklist(subject: Subject) -> Boxes:
    judged = subject.judged
    found = checklist(judged.run, judged.summary, judged.decision, subject.mine, subject.beside)
    texts = each(lambda lang: [template.box_text(box, lang, tidy) for box in found])
    return Boxes([(box.ticked, text) for box, text in zip(found, texts, strict=True)])
