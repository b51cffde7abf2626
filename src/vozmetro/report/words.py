"""Word errors beside the latency of the same utterances."""

from __future__ import annotations

from vozmetro.i18n import t
from vozmetro.measure.records import Run
from vozmetro.quality.wer import WordErrors, run_word_errors
from vozmetro.speech.normalize import SPELLED


def words_of(run: Run) -> WordErrors | None:
    """Returns a run's word errors; None where it has none, or random weights."""
    if run.subject.weights == "dummy":
        return None
    return run_word_errors(run)


def percentage(found: WordErrors | None) -> str:
    """Returns the rate as `5.9 %`, `–` for none."""
    return "–" if found is None else f"{100 * found.rate:.1f} %"


def words_text(run: Run, lang: str) -> str:
    """Returns the word error rate and what it rests on, in one sentence; empty for none."""
    found = words_of(run)
    if found is None:
        return ""
    text = t(
        "report.wer",
        lang,
        rate=percentage(found),
        errors=found.errors,
        words=found.words,
        utterances=found.utterances,
    )
    remarks = {
        "report.wer_digits": any(
            _digits(one.output) > _digits(one.text)
            for one in run.items
            if one.language not in SPELLED
        ),
        "report.wer_synthetic": all(item.source == "synthetic" for item in run.items),
    }
    return " ".join([text, *(t(code, lang) for code, holds in remarks.items() if holds)])


def _digits(text: str) -> bool:
    return any(character.isdigit() for character in text)
