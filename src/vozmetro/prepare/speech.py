"""Real speech as inputs of a graph, for calibration and for comparing outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vozmetro.audio import Waveform, read
from vozmetro.engines.base import TensorSpec
from vozmetro.measure import graph_inputs
from vozmetro.measure.subject import vocabulary_bounds
from vozmetro.models import checks
from vozmetro.speech.corpus import DEFAULT_CORPUS, load_corpus

_HEARD = frozenset({"waveform", "log-mel"})
_FRAME_PAIR = 320
"""Samples of two log-mel frames: encoders that halve the frames want an even number."""


@dataclass(frozen=True)
class Spoken:
    """What a graph is given.

    Attributes:
        feeds: Its inputs, once for each utterance.
        heard: Whether an input depends on the speech, instead of only on its length.
        said: The input in words.
    """

    feeds: Sequence[Mapping[str, NDArray[Any]]]
    heard: bool
    said: str


def spoken(model: Path, corpus: str | None, limit: int) -> Spoken:
    """Returns utterances of a corpus as the inputs of a graph.

    Args:
        model: The `.onnx`.
        corpus: Folder, manifest or packaged corpus; None for the packaged default.
        limit: Most utterances, taken from the languages in turn.

    Raises:
        VozmetroError: As for `check_onnx` and `load_corpus`.
    """
    inputs = checks.check_onnx(model).inspection.inputs
    specs = [TensorSpec(port.name, port.dtype, port.shape) for port in inputs]
    vocabulary = vocabulary_bounds(model)
    utterances = load_corpus(corpus or DEFAULT_CORPUS, limit=limit)
    feeds, heard = [], False
    for index, utterance in enumerate(utterances):
        material = graph_inputs.Material(_even(read(utterance.path)), utterance.text, index)
        arrays, resolved = graph_inputs.build(specs, material, {}, vocabulary)
        feeds.append(arrays)
        heard = heard or any(one.rule in _HEARD for one in resolved)
    return Spoken(feeds, heard, f"{len(feeds)} x {corpus or DEFAULT_CORPUS}")


def _even(audio: Waveform) -> Waveform:
    short = -len(audio.samples) % _FRAME_PAIR
    return Waveform(np.pad(audio.samples, (0, short)), audio.rate)
