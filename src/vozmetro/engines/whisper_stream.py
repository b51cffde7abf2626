"""Whisper on an utterance that is still being spoken."""

from __future__ import annotations

from collections.abc import Callable

from vozmetro.audio import Samples
from vozmetro.engines import whisper_window
from vozmetro.engines.whisper_decoding import Decoded, Decoder
from vozmetro.engines.whisper_memory import POSITIONS, Encoder, Features, Memory

_LEAST = 10
"""Positions, 0.2 s, below which nothing is decoded ahead of time: there is no word yet."""


class WhisperStream:
    """Implements `TranscriptStream`.

    What has been said is decoded now and then while more comes (`partial`), so that in the end only
    the last part of the audio is encoded and what was decoded before is checked in one run.

    Args:
        encoder: The model's encoder.
        decoder: The model's decoder.
        language: ISO 639-1; empty to detect it, once.
        lookahead: As for `Memory`, in positions.
        tail: As for `Memory`, in positions.
        silence: As for `Memory`, in positions.
        words: Text of tokens.
        whole: Transcribes audio without haste, where the fast way has gone wrong.

    Attributes:
        language: The one that was given, or has been detected.
        fallbacks: How often `whole` was needed.
    """

    def __init__(
        self,
        encoder: Encoder,
        decoder: Decoder,
        language: str,
        *,
        lookahead: int,
        tail: int,
        silence: int,
        words: Callable[[tuple[int, ...]], str],
        whole: Callable[[Samples, str], str],
    ) -> None:
        self.language = language
        self.fallbacks = 0
        self._decoder = decoder
        self._words = words
        self._whole = whole
        self._audio: list[Samples] = []
        self._features = Features(encoder.bands)
        self._memory = Memory(encoder, lookahead, tail, silence)
        self._guess: tuple[int, ...] = ()
        self._fed = 0
        self._heard = 0
        self._text = ""

    def feed(self, samples: Samples) -> None:
        """See `TranscriptStream.feed`."""
        self._audio.append(samples)
        self._features.feed(samples)
        self._fed += len(samples)

    def partial(self) -> str:
        """See `TranscriptStream.partial`."""
        frames = self._features.frames(final=False)
        if _LEAST <= frames.shape[1] // 2 <= POSITIONS:
            self._guess = self._decoded(frames).tokens
        return self._words(self._guess)

    def finish(self) -> str:
        """See `TranscriptStream.finish`."""
        if self._heard == self._fed:
            return self._text
        frames = self._features.frames(final=True)
        self._heard = self._fed
        self._text = ""
        if frames.shape[1]:
            self._text = self._finished(frames)
        return self._text

    def _finished(self, frames: Samples) -> str:
        if frames.shape[1] > whisper_window.FRAMES:
            return self._at_leisure()
        found = self._decoded(frames)
        if not found.sure:
            return self._at_leisure()
        self._guess = found.tokens
        return self._words(found.tokens)

    def _decoded(self, frames: Samples) -> Decoded:
        step = self._decoder.on(self._memory.hear(frames))
        most = whisper_window.plausible_tokens(frames.shape[1])
        found, self.language = self._decoder.decode(step, self.language, most, self._guess)
        return found.once()

    def _at_leisure(self) -> str:
        import numpy as np

        self.fallbacks += 1
        return self._whole(np.concatenate(self._audio), self.language)
