"""What voices sound like: predicted quality, what a judge understands, prosodic activity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np
from rich.console import ConsoleRenderable
from rich.padding import Padding
from rich.text import Text

from vozmetro.i18n import t
from vozmetro.judge.statistics import percentile
from vozmetro.measure.quality_records import Clip, QualityStudy
from vozmetro.quality import prosody_bands
from vozmetro.quality.predicted import METRICS
from vozmetro.quality.predicted_ranking import Clip as Rated
from vozmetro.quality.predicted_ranking import rank
from vozmetro.quality.prosody import Prosody, variation
from vozmetro.quality.summary import mean_scores
from vozmetro.quality.wer import Transcribed, score
from vozmetro.report.formatting import number
from vozmetro.report.quality_rows import metric_name, rate_text
from vozmetro.report.terminal import table, titled
from vozmetro.resampling import rate
from vozmetro.units import plain

_SHOWN = ("f0_sd_st", "f0_range_st", "rate_syllables_s", "pause_share")
Voice = tuple[str, Sequence[Clip]]


def voices_of(study: QualityStudy, lang: str) -> list[Voice]:
    """Returns each voice with its clips; the recordings of people first."""
    found: list[Voice] = [(t("quality.human", lang), study.human)] if study.human else []
    return found + [(one.subject.name, one.clips) for one in study.systems if one.clips]


def score_columns(study: QualityStudy, lang: str) -> list[str]:
    """Returns the headings of `score_rows`."""
    names = [metric_name(key) for key in _metrics(study)]
    return [
        t("quality.col_voice", lang),
        t("quality.col_n", lang),
        *names,
        t("quality.col_understood", lang),
        t("quality.col_first_audio", lang),
    ]


def score_rows(study: QualityStudy, lang: str) -> list[list[str]]:
    """Returns voice, clips, mean predicted qualities, round-trip WER and P50 to the first audio."""
    rows = []
    for name, clips in voices_of(study, lang):
        means = mean_scores([clip.predicted for clip in clips])
        first = [clip.first_audio_ms for clip in clips if clip.first_audio_ms > 0]
        rows.append(
            [
                plain(name),
                str(len(clips)),
                *(f"{means[key]:.2f}" if key in means else "–" for key in _metrics(study)),
                understood(study, clips),
                f"{number(percentile(np.array(first), 0.5).value)} ms" if first else "–",
            ]
        )
    return rows


def understood(study: QualityStudy, clips: Sequence[Clip]) -> str:
    """Returns the WER of what the judge understood, accents apart; `–` where none listened."""
    heard = [clip for clip in clips if clip.heard is not None]
    said = [
        Transcribed(study.items[clip.item].text, clip.heard or "", study.items[clip.item].language)
        for clip in heard
    ]
    if not said:
        return "–"
    scored = score(said, accents=False)
    # A text said several times is one text.
    return rate_text(rate(scored.errors, scored.words, [str(clip.item) for clip in heard]))


def prosody_columns(lang: str) -> list[str]:
    """Returns the headings of `prosody_rows`."""
    return [t("quality.col_voice", lang), *(t(f"quality.prosody_{key}", lang) for key in _SHOWN)]


def prosody_rows(study: QualityStudy, lang: str) -> list[list[str]]:
    """Returns voice and the median of each feature of prosodic activity."""
    rows = []
    for name, clips in voices_of(study, lang):
        cells = []
        for key in _SHOWN:
            values = [clip.prosody[key] for clip in clips if clip.prosody.get(key) is not None]
            known = [value for value in values if np.isfinite(value)]
            cells.append(f"{float(np.median(known)):.2f}" if known else "–")
        rows.append([plain(name), *cells])
    return rows


def bands_texts(study: QualityStudy, lang: str) -> list[str]:
    """Returns the human band of each language that is spoken, in one sentence each."""
    found = []
    for code in sorted({item.language for item in study.items}):
        band = prosody_bands.band(code)
        if band is None:
            continue
        ends = [
            f"{t(f'quality.prosody_{key}', lang)} {band.features[key][0]:.2f}–"
            f"{band.features[key][1]:.2f}"
            for key in _SHOWN
            if key in band.features
        ]
        found.append(
            t("quality.band", lang, language=code, speaker=plain(band.speaker),
              corpus=plain(band.corpus), n=band.utterances, ends=", ".join(ends))
        )  # fmt: skip
    return found


def repeats_texts(study: QualityStudy, lang: str) -> list[str]:
    """Returns how much each voice varies where it says the same text again."""
    found = []
    for system in study.systems:
        by_item: dict[int, list[Prosody]] = {}
        for clip in system.clips:
            if clip.prosody:
                values: dict[str, Any] = dict.fromkeys(field.name for field in fields(Prosody))
                by_item.setdefault(clip.item, []).append(Prosody(**(values | clip.prosody)))
        spreads = [variation(clips) for clips in by_item.values() if len(clips) > 1]
        known = [one["f0_sd_st"] for one in spreads if "f0_sd_st" in one]
        if known:
            text = f"{float(np.median(known)):.2f}"
            name = plain(system.subject.name)
            found.append(t("quality.repeats", lang, name=name, sd=text, n=len(known)))
    return found


def disagreements(study: QualityStudy, lang: str) -> list[str]:
    """Returns where two predictors clearly order two voices in opposite ways, by language."""
    human = t("quality.human", lang)
    rated = [
        Rated(name, str(clip.item), study.items[clip.item].language, clip.predicted)
        for name, clips in ((human, study.human), *voices_of(study, lang)[bool(study.human) :])
        for clip in clips
        if clip.predicted
    ]
    found = []
    for code in sorted({one.language for one in rated}):
        mine = [one for one in rated if one.language == code]
        shared = set.intersection(
            *({one.sentence for one in mine if one.system == name}
              for name in {one.system for one in mine})
        )  # fmt: skip
        # One voice alone has no order, and few sentences none to be sure of.
        if len({one.system for one in mine}) < 2 or len(shared) < 2:
            continue
        for each in rank(mine, code).disagreements:
            found.append(
                t("quality.disagree", lang, language=code,
                  first=metric_name(each.first.metric), second=metric_name(each.second.metric),
                  a=plain(each.first.better), b=plain(each.first.worse))
            )  # fmt: skip
    return found


def _metrics(study: QualityStudy) -> list[str]:
    known = [
        clip.predicted for clip in (*study.human, *(c for s in study.systems for c in s.clips))
    ]
    keys = {key for one in known for key in one}
    return [one.key for one in METRICS if one.key in keys]


def print_voices(study: QualityStudy, lang: str) -> list[ConsoleRenderable]:
    """Returns the tables of voices for a terminal."""
    columns = score_columns(study, lang)
    found = [
        titled(
            t("quality.voices", lang),
            # One voice a column: five predictions would not stand beside each other.
            pairs_of(columns, score_rows(study, lang)),
            _inset(Text(t("quality.predicted_note", lang), style="dim")),
        )
    ]
    if study.judge is not None:
        words = t("quality.judged_by", lang, name=plain(study.judge.name))
        found.append(_inset(Text(words)))
    heads = prosody_columns(lang)
    kinds = [(heads[0], "left"), *((head, "right") for head in heads[1:])]
    lines = [*bands_texts(study, lang), *repeats_texts(study, lang)]
    notes = [_inset(Text(line)) for line in lines]
    notes.append(_inset(Text(t("quality.prosody_note", lang), style="dim")))
    title = t("quality.prosody", lang)
    found.append(titled(title, table(kinds, prosody_rows(study, lang)), *notes))
    found += [_inset(Text(f"⚠️  {text}")) for text in disagreements(study, lang)]
    return found


def pairs_of(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> ConsoleRenderable:
    """Returns a table turned on its side: a column for each row."""
    heads = [("", "left"), *((row[0], "right") for row in rows)]
    return table(
        heads,
        [[column, *(row[at] for row in rows)] for at, column in enumerate(columns) if at],
    )


def _inset(words: ConsoleRenderable) -> ConsoleRenderable:
    return Padding(words, (0, 0, 0, 3), expand=False)
