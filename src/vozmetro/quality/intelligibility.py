"""Round-trip intelligibility: a synthesiser speaks, a named recogniser writes what it hears.

The recogniser errs on its own: its error rate on human speech of the language stands beside, and
only what lies above that floor is the synthesiser's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vozmetro import resampling
from vozmetro.quality.wer import Scored, Transcribed, score


@dataclass(frozen=True)
class RoundTrip:
    """Word errors of a recogniser on synthetic speech of one language.

    Attributes:
        language: ISO 639-1.
        judge: The recogniser that listened.
        wer: On the synthetic speech, with its interval.
        floor: The same recogniser's on human speech of the language; None where not measured.
        floor_corpus: Which human speech; empty without a floor.
    """

    language: str
    judge: str
    wer: resampling.Estimate
    floor: resampling.Estimate | None = None
    floor_corpus: str = ""

    @property
    def above_floor(self) -> bool | None:
        """Whether the synthetic speech is clearly harder to hear: the intervals do not overlap.

        None without a floor. The sentences differ, so that the two are never subtracted.
        """
        return None if self.floor is None else self.wer.low > self.floor.high


def round_trip(
    judge: str,
    heard: Sequence[Transcribed],
    human: Sequence[Transcribed] = (),
    human_corpus: str = "",
) -> list[RoundTrip]:
    """Returns the round trip of each language, in alphabetical order.

    Args:
        judge: Name of the recogniser.
        heard: The texts that were synthesised and what the judge wrote.
        human: What the same judge wrote of human recordings, for the floor.
        human_corpus: Name of those.

    Raises:
        InputError: `no_reference_words` where the texts of a language have no word.
        ValueError: No name for the judge.
    """
    if not judge:
        raise ValueError("a round trip names its judge")
    found = []
    for language in sorted({one.language for one in heard}):
        spoken = [one for one in human if one.language == language]
        floor = _estimate(score(spoken)) if spoken else None
        wer = _estimate(score([one for one in heard if one.language == language]))
        found.append(RoundTrip(language, judge, wer, floor, human_corpus if spoken else ""))
    return found


def _estimate(scored: Scored) -> resampling.Estimate:
    return resampling.rate(
        np.asarray(scored.errors), np.asarray(scored.words), list(scored.speakers)
    )
