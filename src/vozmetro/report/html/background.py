"""What stands behind a verdict: the model, the method, transcripts, files, the machine."""

from __future__ import annotations

from collections.abc import Sequence

from vozmetro.i18n import t
from vozmetro.judge.language import language_summary
from vozmetro.measure.records import Environment, Run
from vozmetro.report import details
from vozmetro.report import language as lm
from vozmetro.report.html.blocks import Block, Bullets, Facts, Fold, Para
from vozmetro.report.html.maker import MOST_TRANSCRIPTS, Maker
from vozmetro.report.html.text import (
    Text,
    both,
    each,
    quoted,
    rows,
    same,
    say,
    tidy,
    transcript,
)
from vozmetro.report.rows import (
    INPUT_COLUMNS,
    environment_rows,
    input_rows,
    model_rows,
    transcript_rows,
)
from vozmetro.report.template import Judged
from vozmetro.report.words import words_text
from vozmetro.units import size


def blocks(judged: Judged, make: Maker) -> list[Block]:
    """Returns the model, the method, and the long tables folded.

    Args:
        judged: What was measured.
        make: Of the page.
    """
    run = judged.run
    return [
        Facts(rows(lambda lang: model_rows(run, lang, tidy))),
        Bullets(
            each(lambda lang: details.method_texts(judged, lang, quoted)),
            title=say("report.method_title"),
        ),
        *_language(judged, make),
        *_transcripts(run, make),
        *_inputs(run, make),
        *_files(run, make),
    ]


def machine_facts(environment: Environment) -> Facts:
    """Returns the machine and its state."""
    return Facts(
        rows(
            lambda lang: [
                [label, transcript(value)] for label, value in environment_rows(environment, lang)
            ]
        )
    )


def machines(runs: Sequence[Run]) -> list[Block]:
    """Returns the machine, once if all runs had the same, else with the names of its subjects."""
    found: list[Block] = []
    distinct = details.machines(runs)
    for environment, names in distinct:
        if len(distinct) > 1:
            found.append(Para(same(tidy(", ".join(names))), "strong"))
        found.append(machine_facts(environment))
    return found


def _language(judged: Judged, make: Maker) -> list[Block]:
    found = language_summary(judged.run)
    if found is None:
        return []
    head = each(lm.headings)
    body = [[same(cell) for cell in row] for row in lm.rows(found)]
    return [
        *make.table(say("lm.title"), head, body, "r" * len(head)),
        Facts(rows(lambda lang: lm.facts(found, lang))),
        Para(say("lm.note"), "quiet"),
    ]


def _transcripts(run: Run, make: Maker) -> list[Block]:
    found = [
        [same(tidy(item)), same(transcript(said)), same(transcript(heard))]
        for item, said, heard in transcript_rows(run)
    ]
    head = [say(f"report.col_{name}") for name in ("item", "reference", "output")]
    name = say("report.transcripts_title")
    table = make.table(name, head, found, "xtt", most=MOST_TRANSCRIPTS, hidden=True)
    if not table:
        return []
    words = both(lambda lang: words_text(run, lang))
    lead: list[Block] = [Para(words)] if words else []
    return [Fold(name, [*lead, Para(say("report.transcripts_note"), "quiet"), *table])]


def _inputs(run: Run, make: Maker) -> list[Block]:
    head = [say(f"report.col_{name}") for name in INPUT_COLUMNS]
    found = [[same(tidy(cell)) for cell in row] for row in input_rows(run)]
    name = say("report.inputs_title")
    table = make.table(name, head, found, most=MOST_TRANSCRIPTS, hidden=True)
    return [Fold(name, table)] if table else []


def _files(run: Run, make: Maker) -> list[Block]:
    head = [say("report.col_file"), say("report.col_size"), same("SHA-256")]
    found: list[list[Text]] = [
        [same(tidy(file.path)), same(size(file.bytes)), same(tidy(file.sha256))]
        for file in run.subject.files
    ]
    name = say("report.files_title")
    table = make.table(name, head, found, "xrw", most=MOST_TRANSCRIPTS, hidden=True)
    return [Fold(name, table)] if table else []


def command(words: str) -> Para:
    """Returns the command line that measured."""
    return Para(both(lambda lang: t("report.method_command", lang, command=quoted(words))))
