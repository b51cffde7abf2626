"""Corpora on a terminal: the catalogue, what a corpus is, and what its check found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rich.console import Console
from rich.text import Text

from vozmetro import units
from vozmetro.i18n import t
from vozmetro.report.models import inset, pairs, table_of
from vozmetro.speech.check import CorpusCheck
from vozmetro.speech.corpus import CorpusInfo

State = Literal["here", "absent", "broken"]
_STYLES = {"here": "green", "absent": "dim", "broken": "red"}
_MOST_IDS = 8


@dataclass(frozen=True)
class Listed:
    """A corpus of the catalogue: what is known of it, and whether it is on this machine."""

    name: str
    language: str
    voice: str
    utterances: int
    seconds: float
    licence: str
    about: str
    state: State


@dataclass(frozen=True)
class Shown:
    """A corpus that was looked at.

    Attributes:
        infos: Where its speech came from.
        languages: Utterances by language.
        speakers: How many there are; 0 where nobody is named.
        check: What is wrong with it.
        missed: Ids of probably wrong references, None where no study was given.
    """

    infos: Sequence[CorpusInfo]
    languages: dict[str, int]
    speakers: int
    check: CorpusCheck
    missed: Sequence[str] | None


def print_list(console: Console, listed: Sequence[Listed], lang: str) -> None:
    """Prints the catalogue."""
    table = table_of(
        (t("corpus.col_name", lang), "fixed"),
        (t("corpus.col_language", lang), "left"),
        (t("corpus.col_voice", lang), "left"),
        (t("corpus.col_utterances", lang), "right"),
        (t("corpus.col_minutes", lang), "right"),
        (t("corpus.col_licence", lang), "left"),
        (t("corpus.col_state", lang), "fixed"),
    )
    for one in listed:
        table.add_row(
            Text(one.name, style="bold"),
            Text(one.language),
            Text(voice_text(one.voice, lang)),
            Text(str(one.utterances)),
            Text(f"{one.seconds / 60:.1f}"),
            Text(one.licence),
            Text(t(f"corpus.state_{one.state}", lang), style=_STYLES[one.state]),
        )
    console.print(Text(t("corpus.title", lang), style="bold"))
    console.print(inset(table))
    console.print(Text(t("corpus.list_more", lang)))


def print_shown(console: Console, shown: Shown, lang: str) -> None:
    """Prints what a corpus is, and what its check found."""
    for info in shown.infos:
        console.print(Text(units.plain(info.name), style="bold"))
        rows = [
            (t("corpus.col_voice", lang), voice_text(info.voice, lang)),
            (t("corpus.col_licence", lang), info.licence),
            (t("corpus.source", lang), units.plain(info.source)),
            ("SHA-256", info.sha256),
            (t("corpus.col_utterances", lang), str(info.utterances)),
            (t("corpus.length", lang), units.duration(info.seconds)),
        ]
        console.print(inset(pairs([row for row in rows if row[1]])))
    check = shown.check
    languages = ", ".join(f"{code or '–'}: {count}" for code, count in shown.languages.items())
    rates = ", ".join(f"{rate} Hz: {count}" for rate, count in check.rates.items())
    facts = [
        (t("corpus.col_language", lang), languages),
        (t("corpus.speakers", lang), str(shown.speakers) if shown.speakers else "–"),
        (t("corpus.rates", lang), rates),
        (t("corpus.repeated", lang), str(check.repeated_texts)),
    ]
    console.print(inset(pairs(facts)))
    console.print(Text(t("corpus.check", lang), style="bold"))
    found = [(t(f"corpus.found_{one.kind}", lang), one.ids) for one in check.findings]
    if shown.missed:
        found.append((t("corpus.found_missed", lang), tuple(shown.missed)))
    if found:
        table = table_of(
            (t("corpus.col_found", lang), "left"),
            (t("corpus.col_count", lang), "right"),
            (t("corpus.col_which", lang), "left"),
        )
        for what, ids in found:
            named = ", ".join(map(units.plain, ids[:_MOST_IDS]))
            more = " …" if len(ids) > _MOST_IDS else ""
            table.add_row(Text(what), Text(str(len(ids))), Text(named + more))
        console.print(inset(table))
    else:
        console.print(inset(Text(t("corpus.found_nothing", lang), style="green")))
    if shown.missed is not None and not shown.missed:
        console.print(inset(Text(t("corpus.missed_none", lang))))


def voice_text(voice: str, lang: str) -> str:
    """Returns who speaks, in words."""
    return t(f"corpus.voice_{voice or 'unknown'}", lang)
