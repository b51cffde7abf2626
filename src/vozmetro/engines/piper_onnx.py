"""Piper voices that start to speak at once: audio from the first frames, not the whole sentence.

The same voices as the engine `piper`, and the same way from text to phonemes (piper-tts,
GPL-3.0-or-later, hence an optional extra). Audio is the voice's own: piper-tts scales every
sentence to full volume, which cannot be done before the sentence is there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vozmetro.audio import Samples
from vozmetro.engines.base import Engine, LoadRequest
from vozmetro.engines.onnx_graph import CPU, open_session
from vozmetro.engines.piper_parts import FLOW, FRONTEND, VOCODER, parts_of
from vozmetro.engines.piper_pieces import Decoder, Frames, Schedule
from vozmetro.engines.piper_split import INPUTS, SPEAKER
from vozmetro.engines.piper_text import VoiceText
from vozmetro.errors import InputError

_NO_SPINNING = {"session.intra_op.allow_spinning": "0"}
"""Three graphs with threads of their own, beside those of speech-to-text: threads that spin while
they wait take the cores from those that work. With cores to spare, `1` may be faster."""
LONG = 4 / 3
"""A sentence of so many times `head` is worth encoding twice."""
LATEST = 1 / 2
"""Part of `head` whose frames are used at most, if that is enough for two pieces of audio. The text
encoder sees the rest, too, so that the melody is nearly that of the whole sentence."""


class PiperOnnx:
    """Implements `Synthesizer`: audio as soon as a few frames of it are made.

    The text encoder's work grows with the text. For a long first sentence it therefore runs twice:
    on its beginning, for the frames of the first clause or words, and then on the whole sentence,
    for those that follow. The decoder sees one row of frames, so that the waveform does not jump at
    the seam; the words before it are said as the text encoder says them without the far end.

    Attributes:
        scales: float32 [3]: noise, length and duration noise. Without noise (0, 1, 0) the same
            text gives the same samples.
        head: Phoneme numbers of a long first sentence that its audio starts from; 0 for all.
    """

    def __init__(self, request: LoadRequest) -> None:
        options = {**_NO_SPINNING, **request.options}
        self._text = VoiceText(request.path.with_name(request.path.name + ".json"))
        self.sample_rate = self._text.sample_rate
        self.scales = np.array(self._text.scales, np.float32)
        self.head = _whole(options, "head", 2000)
        first = _whole(options, "first", 1000)
        parts = parts_of(request.path, self._text.known)
        self._frontend, flow, vocoder = (
            open_session(parts.folder / name, request.threads, options)
            for name in (FRONTEND, FLOW, VOCODER)
        )
        self._speaker: dict[str, NDArray[np.int64]] = {}
        if any(port.name == SPEAKER for port in self._frontend.get_inputs()):
            number = _whole(options, "speaker", max(0, self._text.speakers - 1))
            self._speaker = {SPEAKER: np.array([number], np.int64)}
        schedule = Schedule(first=max(1, first))
        self._decoder = Decoder(flow, vocoder, parts.geometry, schedule, self._speaker)

    def stream(self, text: str) -> Iterator[Samples]:
        """See `Synthesizer.stream`."""
        for at, numbers in enumerate(self._text.pieces(text)):
            if at == 0 and self.head and len(numbers) > self.head * LONG:
                yield from self._speak_soon(numbers)
            else:
                yield from self._speak(numbers)

    def _speak(self, numbers: Sequence[int]) -> Iterator[Samples]:
        latent, _ = self._encode(numbers)
        yield from map(_clipped, self._decoder.stream([latent]))

    def _speak_soon(self, numbers: Sequence[int]) -> Iterator[Samples]:
        latent, durations = self._encode(numbers[: self.head])
        ends = np.cumsum(durations)
        soonest = int(np.searchsorted(ends, self._decoder.early_needs)) + 1
        latest = max(soonest + 1, int(self.head * LATEST))
        if latest >= self.head:
            yield from self._speak(numbers)
            return
        cut = self._text.pause(numbers, soonest, latest)

        def latents() -> Iterator[Frames]:
            yield latent[:, :, : _frames(durations, cut)]
            whole, lasting = self._encode(numbers)
            yield whole[:, :, _frames(lasting, cut) :]

        yield from map(_clipped, self._decoder.stream(latents()))

    def _encode(self, numbers: Sequence[int]) -> tuple[Frames, NDArray[np.float32]]:
        """Returns latent frames, and how many of them each phoneme number has."""
        feeds: dict[str, Any] = {
            INPUTS[0]: np.array([numbers], np.int64),
            INPUTS[1]: np.array([len(numbers)], np.int64),
            INPUTS[2]: self.scales,
            **self._speaker,
        }
        latent, durations = self._frontend.run(None, feeds)
        return latent, durations.reshape(-1)


def _frames(durations: NDArray[np.float32], count: int) -> int:
    return int(durations[:count].sum())


def _clipped(audio: Samples) -> Samples:
    return np.clip(audio, -1.0, 1.0)


def _whole(options: dict[str, str], name: str, most: int) -> int:
    """Returns an option that is a whole number.

    Raises:
        InputError: `voice_option`.
    """
    value = options.get(name, _DEFAULTS[name])
    if not (value.isascii() and value.isdigit() and len(value) < 6 and int(value) <= most):
        raise InputError("voice_option", name=name, value=value, wanted=f"0-{most}")
    return int(value)


_DEFAULTS = {"head": "120", "first": "12", "speaker": "0"}

ENGINE = Engine(
    name="piper-onnx",
    task="tts",
    extra="piper",
    package="piper-tts",
    modules=("piper", "onnxruntime", "onnx"),
    load=PiperOnnx,
    defaults={"provider": CPU, **_DEFAULTS},
)
