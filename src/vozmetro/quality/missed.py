"""References that are probably wrong: those that several engines all miss."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

from vozmetro.measure.quality_records import CLEAN, QualityStudy
from vozmetro.quality.wer import Transcribed, score
from vozmetro.speech.normalize import normalize

LEAST_ENGINES = 2
"""Engines that must agree that a reference is not what is said."""
MOST_WRONG = 0.5
"""Share of wrong words above which an engine missed an utterance."""


def missed_by_all(
    references: Mapping[str, str],
    hypotheses_by_engine: Mapping[str, Mapping[str, str]],
    languages: Mapping[str, str],
) -> list[str]:
    """Returns the utterances that all engines missed, where LEAST_ENGINES or more heard them.

    Such a reference is probably wrong, or the recording cannot be understood: it is for somebody
    to listen to. Accents do not count.

    Args:
        references: What was said, by id. Those without a word are passed over.
        hypotheses_by_engine: What each engine heard, by id; an engine may lack some.
        languages: ISO 639-1 by id; one that is not there is unknown.

    Returns:
        Ids, in the order of `references`.
    """
    heard: Counter[str] = Counter()
    missed: Counter[str] = Counter()
    said = {key for key, text in references.items() if normalize(text, languages.get(key, ""))}
    for outputs in hypotheses_by_engine.values():
        keys = [key for key in outputs if key in said]
        if not keys:
            continue
        scored = score(
            [Transcribed(references[key], outputs[key], languages.get(key, "")) for key in keys],
            accents=False,
        )
        heard.update(keys)
        wrong = scored.errors > MOST_WRONG * scored.words
        missed.update(key for key, is_wrong in zip(keys, wrong, strict=True) if is_wrong)
    return [key for key in references if heard[key] >= LEAST_ENGINES and missed[key] == heard[key]]


def heard_in(study: QualityStudy, paths: Collection[str]) -> dict[str, dict[str, str]]:
    """Returns what each subject of a study heard of clean recordings: by subject, then by path.

    Args:
        study: The study.
        paths: The recordings to keep.
    """
    return {
        f"{number}": {
            item.path: heard.output
            for heard in system.heard
            if (item := study.items[heard.item]).condition == CLEAN and item.path in paths
        }
        for number, system in enumerate(study.systems)
    }
