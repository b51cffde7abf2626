"""What every engine offers: small protocols, and capabilities as data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vozmetro.audio import Samples, Waveform


@dataclass(frozen=True)
class TensorSpec:
    """A graph's input or output as declared.

    Attributes:
        name: Name in the graph.
        dtype: numpy dtype name, or `string`.
        shape: Fixed sizes as int, dynamic ones as their symbolic name (`?` if it has none).
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]


class Graph(Protocol):
    """A plain neural network: arrays in, arrays out."""

    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Runs it once on `feeds` (name -> array), returns every output in order."""


class Transcriber(Protocol):
    """Speech to text."""

    def transcribe(self, audio: Waveform, language: str) -> str:
        """Returns the words spoken in `audio` (16 kHz); `language` is ISO 639-1 or empty."""


HOP_S = 0.5
"""Seconds of new speech between two looks at what has been said so far: more often costs more and
is decoded again anyway, more rarely leaves more to decode in the end."""


class TranscriptStream(Protocol):
    """An utterance that is transcribed while it is spoken. One thread at a time."""

    def feed(self, samples: Samples) -> None:
        """Appends audio, float32 mono [T] at 16 kHz. Cheap: no model runs."""

    def partial(self) -> str:
        """Returns the words so far, and keeps them: what follows is decoded faster for it."""

    def finish(self) -> str:
        """Returns the words of all that was fed. More may be fed after it, if speech resumes."""


class StreamingTranscriber(Transcriber, Protocol):
    """Speech to text that works while the user speaks.

    Attributes:
        streams: Whether it is to be measured so.
    """

    streams: bool

    def open_stream(self, language: str) -> TranscriptStream:
        """Returns a new utterance; `language` is ISO 639-1 or empty."""


class Synthesizer(Protocol):
    """Text to speech."""

    sample_rate: int

    def stream(self, text: str) -> Iterator[Samples]:
        """Yields audio (float32 mono in [-1, 1] at `sample_rate` Hz) as soon as it is made."""


class LanguageModel(Protocol):
    """Tokens to the next token, with a cache of keys and values.

    Attributes:
        vocabulary: Number of tokens that it knows.
        cache_bytes: Bytes of the keys and values of the tokens seen since the last `prefill`.
    """

    vocabulary: int

    @property
    def cache_bytes(self) -> int:
        """See the class."""

    def prefill(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Starts anew on `ids` [T]; returns the logits [vocabulary] after the last one."""

    def decode(self, token: int) -> NDArray[np.float32]:
        """Appends one token; returns the logits [vocabulary] after it."""


Loaded = Graph | Transcriber | Synthesizer | LanguageModel


@dataclass(frozen=True)
class LoadRequest:
    """What an engine is asked to load.

    Attributes:
        path: Model file or folder, already verified.
        threads: Threads for one inference.
        options: Engine options by name, as text.
    """

    path: Path
    threads: int
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Engine:
    """An engine's capabilities; the object behind an entry point of `vozmetro.engines`.

    Attributes:
        name: Registry name.
        task: `graph`, `stt`, `tts` or `lm`: which protocol `load` returns.
        extra: The extra of vozmetro that installs it; empty if the core does.
        package: Distribution whose version is recorded.
        modules: Modules that must import before `load` (timed apart from loading).
        load: Builds the engine object.
        defaults: Options in force unless overridden; recorded.
        fixed: Those of them that say how the engine works and cannot be changed.
    """

    name: str
    task: str
    extra: str
    package: str
    modules: tuple[str, ...]
    load: Callable[[LoadRequest], Loaded]
    defaults: Mapping[str, str] = field(default_factory=dict)
    fixed: frozenset[str] = frozenset()
