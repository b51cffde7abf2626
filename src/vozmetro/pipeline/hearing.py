"""An utterance on its way to words, with whatever engine."""

from __future__ import annotations

from typing import cast

import numpy as np

from vozmetro.audio import SPEECH_RATE, Samples, Waveform
from vozmetro.engines.base import StreamingTranscriber, Transcriber, TranscriptStream


def open_stream(engine: Transcriber, language: str) -> TranscriptStream:
    """Returns a new utterance: the engine's own, or one that keeps the audio until it is asked."""
    if hasattr(engine, "open_stream"):
        return cast(StreamingTranscriber, engine).open_stream(language)
    return _Kept(engine, language)


class _Kept:
    """Implements `TranscriptStream` with an engine that hears whole utterances only."""

    def __init__(self, engine: Transcriber, language: str) -> None:
        self._engine = engine
        self._language = language
        self._parts: list[Samples] = []
        self._new = False
        self._text = ""

    def feed(self, samples: Samples) -> None:
        self._parts.append(samples)
        self._new = True

    def partial(self) -> str:
        return ""

    def finish(self) -> str:
        if self._new:
            audio = Waveform(np.concatenate(self._parts), SPEECH_RATE)
            self._text = self._engine.transcribe(audio, self._language)
            self._new = False
        return self._text
