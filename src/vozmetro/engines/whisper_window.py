"""How much of Whisper's 30 s window the encoder is given, and when that went wrong.

The encoder's work grows with the window. Most utterances are a few seconds long; the rest of a
full window is silence. Whisper was trained on full windows only, though, so that a cut one
sometimes makes the decoder repeat itself, which has to be noticed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vozmetro.audio import Samples
from vozmetro.errors import InputError

FRAMES = 3000
"""Frames of a full window: 30 s."""
FRAMES_A_SECOND = 100
SHORTEST = 100
"""Frames that a window has at least: 1 s."""
PAUSE = 30
"""Frames over which the level is taken to find a pause: 0.3 s."""
RETRY_SILENCE = 400
"""Frames of silence more for a second try: 4 s, before the full window. Loops become rare with a
few seconds of silence; `benchmarks/whisper.py` counts them by context."""
TOKENS_A_SECOND, TOKENS_SPARE = 8.0, 8
"""Fast speech is about 6 tokens a second; very short clips may have a few more."""
LOOP_LENGTHS, LOOP_TOKENS, SENTENCE_TOKENS = 40, 12, 5
"""A loop is a part of at most the first many tokens that comes three times or more on end and fills
the second many; parts from the third many on need to come only twice."""
DYNAMICS = 2.0
"""Log-mel features lie within this below the loudest: 8 in log10, over 4."""


def silence_frames(context: str) -> int | None:
    """Returns the frames of silence that the option `context` asks for; None for `full`.

    Raises:
        InputError: `whisper_context`.
    """
    if context == "full":
        return None
    try:
        seconds = float(context)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= FRAMES / FRAMES_A_SECOND:
        raise InputError("whisper_context", value=context)
    return round(seconds * FRAMES_A_SECOND)


def lengths(frames: int, silence: int | None) -> list[int]:
    """Returns how many frames to give the encoder for so many of speech: even numbers.

    The first is what was asked for, the others are for when that went wrong: a few seconds more,
    which nearly always helps and costs little, and at last the full window.
    """
    if silence is None:
        return [FRAMES]
    found = []
    for more in (silence, silence + RETRY_SILENCE):
        wanted = max(frames + more, SHORTEST)
        found.append(min(wanted + wanted % 2, FRAMES))
    return list(dict.fromkeys([*found, FRAMES]))


def spans(frames: Samples) -> list[tuple[int, int]]:
    """Returns where each window begins and ends: at the quietest place of its second half.

    Cut at 30 s sharp, a window often ends within a word, and Whisper without timestamps likes to
    stop at a pause and leave out what follows. Of the eight recordings over 30 s in `es-ivr` and
    `en-ivr`, 784 words, FP32 gets 120 wrong so, 231 with sharp cuts, faster-whisper 242.

    Args:
        frames: Log-mel features [bands, frames].
    """
    level = np.convolve(frames.mean(axis=0), np.full(PAUSE, 1 / PAUSE), mode="same")
    found, start, count = [], 0, frames.shape[1]
    while count - start > FRAMES:
        end = start + FRAMES // 2 + int(np.argmin(level[start + FRAMES // 2 : start + FRAMES]))
        found.append((start, end))
        start = end
    return [*found, (start, count)]


def padded(frames: Samples, length: int, silence: float = 0.0) -> Samples:
    """Returns frames [bands, length].

    Args:
        frames: What was heard.
        length: Frames to fill it up to.
        silence: What with. openai/whisper, and so faster-whisper, fill a window up with features of
            0, which are no silence but a faint noise. Behind cut windows real silence is better:
            2 to 3 instead of 4 to 5 windows of 26 in a loop with 1 or 2 s of it.
    """
    out = np.full((frames.shape[0], length), silence, np.float32)
    out[:, : frames.shape[1]] = frames
    return out


def plausible_tokens(frames: int) -> int:
    """Returns how many tokens can be said in so many frames."""
    return int(frames / FRAMES_A_SECOND * TOKENS_A_SECOND) + TOKENS_SPARE


def repeats(tokens: Sequence[int]) -> bool:
    """Whether the transcript ends in a loop.

    "No, no, no" is speech; a whole sentence said twice is nearly always the decoder's doing.
    """
    for length in range(1, min(LOOP_LENGTHS, len(tokens) // 2) + 1):
        times = 2 if length >= SENTENCE_TOKENS else max(3, -(-LOOP_TOKENS // length))
        tail = tokens[-length * times :]
        if len(tail) == length * times and all(
            tail[index] == tail[index - length] for index in range(length, len(tail))
        ):
            return True
    return False
