"""Words that nobody said: on silence, on noise alone, and in transcripts that repeat themselves."""

from __future__ import annotations

from collections.abc import Sequence

from scipy.special import chdtri

from vozmetro.resampling import Estimate
from vozmetro.speech.normalize import normalize

LEAST_REPEATS = 4
"""Times that the same words must follow each other to count as a loop."""
LONGEST_UNIT = 12
"""Longest run of words that is looked for, repeated."""


def false_words_per_minute(
    texts: Sequence[str], seconds: Sequence[float], *, alpha: float = 0.05
) -> Estimate:
    """Returns the words heard where nobody speaks, for each minute of sound.

    The interval is the exact one of a Poisson rate (F. Garwood, Biometrika 28, 1936). Words of one
    false transcript come together, so that it is a narrow one.

    Args:
        texts: What was heard in each sound.
        seconds: Their lengths.
        alpha: Error probability of the interval.

    Raises:
        ValueError: No sound, or lists of unequal length.
    """
    words = sum(len(normalize(text).split()) for text in texts)
    minutes = sum(seconds) / 60
    if minutes <= 0 or len(texts) != len(seconds):
        raise ValueError("no sound")
    # chdtri takes the probability above.
    low = 0.5 * float(chdtri(2 * words, 1 - alpha / 2)) if words else 0.0
    high = 0.5 * float(chdtri(2 * words + 2, alpha / 2))
    return Estimate(words / minutes, low / minutes, high / minutes, len(texts))


def repeats(text: str) -> int:
    """Returns how often the most repeated run of words follows itself, at most LONGEST_UNIT long.

    `ha ha ha` gives 3, a sentence without a repeat 1, no words 0.
    """
    words = normalize(text).split()
    most = min(1, len(words))
    for unit in range(1, min(LONGEST_UNIT, len(words) // 2) + 1):
        same = 0
        for index in range(unit, len(words)):
            same = same + 1 if words[index] == words[index - unit] else 0
            most = max(most, 1 + same // unit)
    return most


def has_loop(output: str, reference: str = "") -> bool:
    """Returns whether a transcript is caught in a loop, as decoders of speech models can be.

    That is: some words follow themselves LEAST_REPEATS times or more, and at least twice as often
    as anything in the reference does, so that `no, no, no, no` said is no loop.

    Args:
        output: What was heard.
        reference: What was said.
    """
    found = repeats(output)
    return found >= LEAST_REPEATS and found >= 2 * repeats(reference)
