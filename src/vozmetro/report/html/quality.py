"""Quality on the page: word errors against latency and noise, voices, and what people said."""

from __future__ import annotations

import shlex
from itertools import count

from vozmetro.i18n import t
from vozmetro.judge.budget import Budget
from vozmetro.measure.records import Run
from vozmetro.quality.summary import SystemQuality
from vozmetro.report import quality_plots
from vozmetro.report.formatting import (
    check_interval,
    limit_text,
    metric_value,
    note_text,
    state,
    when,
)
from vozmetro.report.html.background import command, machine_facts
from vozmetro.report.html.blocks import Block, Bullets, Facts, Fold, Para, Section
from vozmetro.report.html.maker import Maker
from vozmetro.report.html.text import Text, both, each, rows, same, say, tidy, transcript
from vozmetro.report.quality_judged import (
    Beside,
    JudgedStudy,
    JudgedSystem,
    run_quality,
    same_subject,
)
from vozmetro.report.quality_page import WORST_COLUMNS, people_texts, worst_rows
from vozmetro.report.quality_rows import (
    clean_points,
    corpus_texts,
    curve_text,
    facts,
    headings,
    pair_texts,
    word_rows,
)
from vozmetro.report.quality_voices import (
    bands_texts,
    disagreements,
    prosody_columns,
    prosody_rows,
    repeats_texts,
    score_columns,
    score_rows,
)


def subject_blocks(run: Run, beside: Beside, make: Maker) -> list[Block]:
    """Returns what is known of a measured subject's quality; studies stand whole elsewhere.

    Args:
        run: What was measured.
        beside: Records on quality.
        make: Of the page.
    """
    found: list[Block] = []
    own = run_quality(run)
    if own is not None:
        found += [Para(say("quality.own_words")), *_words(own, make)]
    for judged in beside.studies:
        for one in judged.systems:
            if same_subject(one.system.subject, run.subject) and one.quality is not None:
                found.append(_corpora(judged))
                found += _words(one.quality, make)
    people = each(lambda lang: people_texts(beside.listening, run.subject, lang, tidy))
    found += [Bullets(people)] if people else []
    return found or [Para(say("quality.none", command="`vozmetro quality`"), "quiet")]


def _corpora(judged: JudgedStudy) -> Bullets:
    return Bullets(each(lambda lang: corpus_texts(judged.study, lang)))


def study_section(judged: JudgedStudy, key: str, make: Maker) -> Section:
    """Returns a study's section: words against latency and noise first, then each subject.

    Args:
        judged: What was found.
        key: Starts the ids of its parts.
        make: Of the page.
    """
    study = judged.study
    lead: list[Block] = [
        Bullets(
            [
                both(lambda lang: when(study.created, lang)),
                *each(lambda lang: corpus_texts(study, lang)),
            ]
        )
    ]
    if study.status != "complete":
        words = both(
            lambda lang: t("report.partial", lang, status=t(f"report.status_{study.status}", lang))
        )
        lead.append(Para(both(lambda lang: f"⚠️ {words.of(lang)}"), "warn"))
    lead += _figures(judged, make)
    numbers = count(1)
    parts = [_system(one, judged, f"{key}-{next(numbers)}", make) for one in judged.systems]
    if judged.pairs:
        pairs = each(lambda lang: pair_texts(judged.pairs, lang))
        parts.append(Section(f"{key}-pairs", say("quality.side_by_side"), [Bullets(pairs)]))
    if study.human or any(one.clips for one in study.systems):
        parts += _voices(judged, key, make)
    behind: list[Block] = []
    if study.notes:
        notes = each(lambda lang: [note_text(note, lang, tidy) for note in study.notes])
        behind.append(Bullets(notes, "warn", title=say("report.notes_title")))
    behind.append(machine_facts(study.environment))
    if study.settings.command:
        behind.append(command(shlex.join(study.settings.command)))
    parts.append(Section(f"{key}-environment", say("report.environment_title"), behind))
    return Section(key, say("quality.title"), lead, parts, fold="open")


def _figures(judged: JudgedStudy, make: Maker) -> list[Block]:
    heard = judged.heard
    if not heard:
        return []
    limit = Budget.from_mapping(judged.study.settings.budget).p50_ms
    points = clean_points(heard)
    table = make.table(
        say("plots.words_latency_title"),
        [say("report.col_model"), *_columns("wer", "cer", "p50")],
        rows(lambda lang: _clean_rows(heard, lang)),
        "xrrr",
        hidden=True,
    )
    found: list[Block] = []
    if points:
        found += make.figure(
            lambda canvas: quality_plots.words_against_latency(points, limit, canvas),
            say("plots.words_latency_title"),
            table,
        )
    curves = each(lambda lang: _curve_texts(heard, lang))
    found += make.figure(
        lambda canvas: quality_plots.words_against_noise(heard, canvas),
        say("plots.words_noise_title"),
        [Bullets(curves)],
        needed=True,
    )
    return found


_WER, _CER, _P50 = 3, 5, 7
"""Columns of `word_rows`."""


def _columns(*keys: str) -> list[Text]:
    return [say(f"quality.col_{key}") for key in keys]


def _clean_rows(heard: list[SystemQuality], lang: str) -> list[list[str]]:
    """The first row of each subject: clean speech, all languages together."""
    found = []
    for one in heard:
        first = word_rows(one, lang)[0]
        found.append([tidy(one.name), first[_WER], first[_CER], first[_P50]])
    return found


def _curve_texts(heard: list[SystemQuality], lang: str) -> list[str]:
    return [
        f"{tidy(one.name)} · {tidy(kind)}: {curve_text(curve, lang)}"
        for one in heard
        for kind, curve in one.curves.items()
    ]


def _system(one: JudgedSystem, judged: JudgedStudy, key: str, make: Maker) -> Section:
    subject = one.system.subject
    what = tidy(f"{subject.format} {subject.precision} · {', '.join(subject.engines)}")
    blocks: list[Block] = [Para(same(what), "quiet")]
    failure = one.system.failure
    if failure is not None:
        words = both(lambda lang: "⚠️ " + note_text(failure, lang, tidy, section="errors"))
        blocks.append(Para(words, "warn"))
    if one.quality is not None:
        blocks += [*_words(one.quality, make), *_wrong(one.quality, make)]
    blocks += make.table(
        say("html.limits"),
        [say(f"report.col_{name}") for name in ("metric", "value", "target")]
        + [say("terminal.state")],
        rows(
            lambda lang: [
                [
                    t(f"report.metric_{check.metric}", lang),
                    f"{metric_value(check.metric, check.value)} {check_interval(check)}",
                    limit_text(check),
                    state(check.status, lang),
                ]
                for check in one.checks
            ]
        ),
        "xrrx",
        tones=[check.status for check in one.checks],
    )
    people = each(lambda lang: people_texts(judged.listening, subject, lang, tidy))
    blocks += [Bullets(people)] if people else []
    return Section(key, same(tidy(subject.name)), blocks)


def _words(quality: SystemQuality, make: Maker) -> list[Block]:
    head = each(lambda lang: [title for title, _ in headings(lang)])
    body = rows(lambda lang: [[tidy(cell) for cell in row] for row in word_rows(quality, lang)])
    told = rows(lambda lang: [[tidy(label), value] for label, value in facts(quality, lang)])
    return [
        *make.table(say("html.words"), head, body, "xxrrrrrr"),
        Para(say("quality.wer_note"), "quiet"),
        Facts(told),
    ]


def _wrong(quality: SystemQuality, make: Maker) -> list[Block]:
    body = [
        [same(tidy(item)), same(errors), same(transcript(said)), same(transcript(heard))]
        for item, errors, said, heard in worst_rows(quality)
    ]
    name = say("quality.worst")
    table = make.table(name, [say(key) for key in WORST_COLUMNS], body, "xrtt", hidden=True)
    return [Fold(name, table)] if table else []


def _voices(judged: JudgedStudy, key: str, make: Maker) -> list[Section]:
    study = judged.study
    columns = each(lambda lang: score_columns(study, lang))
    body = rows(lambda lang: [[tidy(cell) for cell in row] for row in score_rows(study, lang)])
    name = say("quality.voices")
    scores: list[Block] = [
        *make.table(name, columns, body, "x" + "r" * (len(columns) - 1), hidden=True),
        Para(say("quality.predicted_note"), "quiet"),
    ]
    if study.judge is not None:
        scores.append(Para(say("quality.judged_by", name=tidy(study.judge.name)), "quiet"))
    moving = rows(lambda lang: [[tidy(cell) for cell in row] for row in prosody_rows(study, lang)])
    bands = each(
        lambda lang: [
            *bands_texts(study, lang),
            *repeats_texts(study, lang),
            *(f"⚠️ {text}" for text in disagreements(study, lang)),
        ]
    )
    title = say("quality.prosody")
    prosody: list[Block] = [
        *make.table(title, each(prosody_columns), moving, "xrrrr", hidden=True),
        *([Bullets(bands)] if bands else []),
        Para(say("quality.prosody_note"), "quiet"),
    ]
    return [Section(f"{key}-voices", name, scores), Section(f"{key}-prosody", title, prosody)]
