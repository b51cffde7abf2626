"""Quality as text: the same rows and sentences for the terminal and for Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from vozmetro.i18n import catalogue, t
from vozmetro.judge.statistics import percentile
from vozmetro.measure.quality_records import CLEAN, QualityStudy
from vozmetro.quality.merging import EVERY_LANGUAGE
from vozmetro.quality.noise_curve import Crossing, NoiseCurve
from vozmetro.quality.predicted import METRICS
from vozmetro.quality.summary import Pair, Row, SystemQuality
from vozmetro.report.formatting import Pair as Labelled
from vozmetro.report.formatting import ends, number
from vozmetro.resampling import Estimate
from vozmetro.units import plain


def share(value: float | None, digits: int = 1) -> str:
    """Returns a fraction in percent without the sign: `18.9`; `–` for none."""
    return "–" if value is None or not math.isfinite(value) else f"{100 * value:.{digits}f}"


def rate_text(estimate: Estimate) -> str:
    """Returns a rate with its interval in percent: `18.9 % [15.2, 23.1]`."""
    return f"{share(estimate.value)} % {ends(estimate.low, estimate.high, share)}"


def language_name(code: str, lang: str) -> str:
    """Returns a language's code, or the word for all of them."""
    return t("quality.all", lang) if code == EVERY_LANGUAGE else plain(code) or "–"


def headings(lang: str) -> list[tuple[str, str]]:
    """Returns the columns of `word_rows`, with how they stand."""
    keys = ("language", "condition", "n", "wer", "wer_exact", "cer", "rtfx", "p50")
    kinds = ("fixed", "fixed", *("right",) * 6)
    return [(t(f"quality.col_{key}", lang), kind) for key, kind in zip(keys, kinds, strict=True)]


def word_rows(system: SystemQuality, lang: str) -> list[list[str]]:
    """Returns language, condition, utterances, WER, exact WER, CER, RTFx and P50 of each row."""
    return [
        [
            language_name(row.language, lang),
            plain(row.condition),
            str(row.wer.n),
            rate_text(row.wer),
            f"{share(row.wer_exact.value)} %",
            f"{share(row.folded.cer)} %",
            f"{row.rtfx:.1f}",
            number(median_ms(row)),
        ]
        for row in system.rows
    ]


def median_ms(row: Row) -> float:
    """Returns the median latency of a row's utterances, in ms."""
    return percentile(np.array(row.ms), 0.5).value


def facts(system: SystemQuality, lang: str) -> list[Labelled]:
    """Returns what else there is to know about how a subject hears, with labels."""
    found = []
    clean = system.row()
    if clean is not None:
        counts = clean.folded
        kinds = {
            "substitutions": int(counts.substitutions.sum()),
            "deletions": int(counts.deletions.sum()),
            "insertions": int(counts.insertions.sum()),
        }
        text = t("quality.errors_value", lang, words=int(counts.words.sum()), **kinds)
        found.append((t("quality.errors", lang), text))
        found.append((t("quality.speakers", lang), speakers_text(clean, lang)))
    for kind, estimate in system.false_words.items():
        text = t(
            "quality.false_words_value",
            lang,
            value=f"{estimate.value:.1f}" if estimate.value else "0",
            interval=ends(estimate.low, estimate.high, lambda one: f"{one or 0.0:.1f}"),
        )
        found.append((t(f"quality.false_words_{kind}", lang), text))
    loops = sum(row.loops for row in system.rows if row.language == system.rows[0].language)
    found.append((t("quality.loops", lang), str(loops)))
    for row in system.rows:
        if row.predicted and row.language == system.rows[0].language:
            known = sum(bool(take.item.predicted) for take in row.takes)
            label = t("quality.predicted", lang, condition=plain(row.condition), n=known)
            found.append((label, values_text(row.predicted)))
    for kind, curve in system.curves.items():
        found.append((t("quality.curve", lang, kind=plain(kind)), curve_text(curve, lang)))
    return found


def speakers_text(row: Row, lang: str) -> str:
    """Returns how many people speak, and what the interval rests on."""
    key = "by_speaker" if row.wer.speakers else "by_utterance"
    return t(f"quality.{key}", lang, n=row.speakers or "?")


def curve_text(curve: NoiseCurve, lang: str) -> str:
    """Returns the SNR at which the WER doubles, and the mean WER over the range."""
    told = curve.doubling
    if told.snr is None or told.low is None or told.high is None:
        words = t("quality.double_zero", lang)
    else:
        words = t(
            "quality.double",
            lang,
            snr=_crossing(told.snr),
            low=_crossing(told.low),
            high=_crossing(told.high),
        )
    area = curve.area
    if area is None:
        return words
    mean = t(
        "quality.area",
        lang,
        rate=share(area.rate),
        interval=ends(area.low, area.high, share),
        low=f"{area.from_db:g}",
        high=f"{area.to_db:g}",
    )
    return f"{words}; {mean}"


def _crossing(at: Crossing) -> str:
    mark = {"<=": "≤", ">=": "≥", "": ""}[at.bound]
    return f"{mark}{at.db:.1f}"


def pair_texts(pairs: Sequence[Pair], lang: str) -> list[str]:
    """Returns one sentence for each pair of subjects on the clean speech."""
    found = []
    for pair in pairs:
        told = pair.difference
        key = "quality.pair_better" if pair.better else "quality.pair_open"
        found.append(
            t(
                key,
                lang,
                a=plain(pair.a),
                b=plain(pair.b),
                better=plain(pair.better),
                language=language_name(pair.language, lang),
                condition=plain(pair.condition),
                value=f"{100 * told.value:+.1f}",
                low=_points(told.low),
                high=_points(told.high),
                p=f"= {pair.p:.3f}" if pair.p >= 0.001 else "< 0.001",
                n=pair.utterances,
            )
        )
    return found


def _points(value: float) -> str:
    return f"{100 * value:+.1f}" if math.isfinite(value) else "–"


def corpus_texts(study: QualityStudy, lang: str) -> list[str]:
    """Returns where the speech came from, and how words were made comparable."""
    found = []
    for one in study.corpora:
        facts = {
            "name": plain(one.name),
            "n": one.utterances,
            "minutes": f"{one.seconds / 60:.1f}",
            "licence": plain(one.licence) or "–",
        }
        voice = catalogue(lang).get(f"quality.voice_{one.voice}", plain(one.voice) or "–")
        found.append(t("quality.corpus_value", lang, voice=voice, **facts))
    found += [
        t("quality.normalizer", lang, language=plain(code), name=plain(name))
        for code, name in study.normalizers.items()
    ]
    return found


def metric_name(key: str) -> str:
    """Returns what a predicted quality is called; never `MOS` alone."""
    return next((one.name for one in METRICS if one.key == key), plain(key))


def values_text(values: Mapping[str, float]) -> str:
    """Returns predicted qualities in one line."""
    return " · ".join(f"{metric_name(key)} {value:.2f}" for key, value in values.items())


def clean_points(systems: Sequence[SystemQuality]) -> list[tuple[str, Row]]:
    """Returns each subject with its row of clean speech, for WER against latency."""
    return [(one.name, row) for one in systems if (row := one.row(CLEAN))]
