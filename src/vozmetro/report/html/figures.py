"""Figures of a measured subject, each with its numbers beside it."""

from __future__ import annotations

from vozmetro.i18n import t
from vozmetro.judge.comparison import Comparison
from vozmetro.report import bars, details, plots
from vozmetro.report.checklist import other_subject, side
from vozmetro.report.formatting import (
    LATENCY,
    SUMMARY_PERCENT,
    ends,
    lengths_text,
    limit_text,
    note_text,
    number,
    part_name,
    ratio_text,
    recommendation,
)
from vozmetro.report.html.blocks import Block, Bullets, Facts, Fold, Para
from vozmetro.report.html.maker import Maker
from vozmetro.report.html.subject import Subject
from vozmetro.report.html.text import Text, both, each, rows, same, say, tidy
from vozmetro.report.rows import comparison_rows, item_rows, memory_rows, time_rows

_SLOWEST = 5
_SLOW_COLUMNS = (0, 1, 3, 4, 6)
"""Of the table of clips: name, seconds, P50, P90 and state."""


def latency(subject: Subject, make: Maker) -> list[Block]:
    """Returns the distribution of the latency, with the limits and the percentiles."""
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
        say("html.percentiles", n=overall.n),
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


def length_title(subject: Subject) -> Text:
    """Returns what the latency is held against: the audio's length, or the prompt's."""
    is_lm = subject.judged.run.subject.kind == "lm"
    return say("html.prompt" if is_lm else "html.length")


def length(subject: Subject, make: Maker) -> list[Block]:
    """Returns latency against length, and the slowest clips."""
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


def over_time(subject: Subject, make: Maker) -> list[Block]:
    """Returns every inference in the order taken, and where the slowest ones lie."""
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


def pairs(subject: Subject, make: Maker) -> list[tuple[str, Text, list[Block]]]:
    """Returns a section for each comparison; in full where this subject is its A."""
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


def memory(subject: Subject, make: Maker) -> list[Block]:
    """Returns the RAM of the process by phase."""
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


def times(subject: Subject) -> list[Block]:
    """Returns load, first inference, warm-up, steady state and idling."""
    run, summary = subject.judged.run, subject.judged.summary
    return [Facts(rows(lambda lang: time_rows(run, summary, lang)))]


def turns(subject: Subject, make: Maker) -> list[Block]:
    """Returns where the time of a cascade's turns goes; nothing for what has no parts."""
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
