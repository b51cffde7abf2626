"""Word errors of the same utterances in runs that a gate holds together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vozmetro.judge.gate import Words
from vozmetro.measure.records import Run
from vozmetro.quality.wer import Transcribed, heard_items, score


def gate_words(candidates: Sequence[Run], baselines: Sequence[Run]) -> Words | None:
    """Returns the errors of both sides, in the mean over a side's runs; accents do not count.

    Args:
        candidates: Runs of one subject.
        baselines: Runs of what it is held against.

    Returns:
        None where they did not hear the same recorded speech, or weights are random.
    """
    every = (*candidates, *baselines)
    if any(run.subject.weights == "dummy" for run in every):
        return None
    heard = [
        {item.id: item for item in heard_items(run) if item.source == "corpus"} for run in every
    ]
    common = set.intersection(*(set(one) for one in heard))
    ids = [name for name in heard[0] if name in common]
    if not ids or any(one[name].text != heard[0][name].text for one in heard for name in ids):
        return None
    scores = [
        score(
            [
                Transcribed(item.text, item.output, item.language, item.speaker)
                for item in (one[name] for name in ids)
            ],
            accents=False,
        )
        for one in heard
    ]
    sides = scores[: len(candidates)], scores[len(candidates) :]
    errors = [np.mean([one.errors for one in side], axis=0) for side in sides]
    return Words(
        baseline=tuple(float(one) for one in errors[1]),
        candidate=tuple(float(one) for one in errors[0]),
        words=tuple(int(one) for one in scores[0].words),
        speakers=scores[0].speakers,
    )
