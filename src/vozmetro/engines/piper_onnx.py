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

_STOP_SPINNING = {"session.force_spinning_stop": "1"}
"""Three graphs with threads of their own: those of the last one would spin on the others' cores."""
AHEAD = 28
"""Phoneme numbers that the text encoder sees behind those whose frames are used."""


class PiperOnnx:
    """Implements `Synthesizer`: audio as soon as a few frames of it are made.

    The text encoder's work grows with the text. For a long first sentence it therefore runs twice:
    on the first words and some behind them, whose frames start the audio, and then on the whole
    sentence, whose frames follow from the next word on. The decoder sees one row of frames, so
    that nothing is heard of the seam.

    Attributes:
        scales: float32 [3]: noise, length and duration noise. Without noise (0, 1, 0) the same
            text gives the same samples.
        head: Phoneme numbers of a first sentence that its audio starts from; 0 for all of them.
    """

    def __init__(self, request: LoadRequest) -> None:
        options = {**_STOP_SPINNING, **request.options}
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
        self._decoder = Decoder(flow, vocoder, parts.geometry, Schedule(first=max(1, first)))
        self._speaker: NDArray[np.int64] | None = None
        if any(port.name == SPEAKER for port in self._frontend.get_inputs()):
            number = _whole(options, "speaker", max(0, self._text.speakers - 1))
            self._speaker = np.array([number], np.int64)

    def stream(self, text: str) -> Iterator[Samples]:
        """See `Synthesizer.stream`."""
        for at, numbers in enumerate(self._text.pieces(text)):
            if at == 0 and self.head and len(numbers) > self.head + 2 * AHEAD:
                yield from self._speak_soon(numbers)
            else:
                latent, _, speaker = self._encode(numbers)
                yield from map(_clipped, self._decoder.stream([latent], speaker))

    def _speak_soon(self, numbers: Sequence[int]) -> Iterator[Samples]:
        cut = self._word_start(numbers)
        latent, durations, speaker = self._encode(numbers[: cut + AHEAD])

        def latents() -> Iterator[Frames]:
            yield latent[:, :, : _frames(durations, cut)]
            whole, lasting, _ = self._encode(numbers)
            yield whole[:, :, _frames(lasting, cut) :]

        yield from map(_clipped, self._decoder.stream(latents(), speaker))

    def _word_start(self, numbers: Sequence[int]) -> int:
        """Returns where the first word from `head` on begins, or `head` if none does soon."""
        for at in range(self.head, self.head + AHEAD):
            if numbers[at] == self._text.gap:
                return at
        return self.head

    def _encode(self, numbers: Sequence[int]) -> tuple[Frames, NDArray[np.float32], Frames | None]:
        """Returns latent frames, how many each phoneme number lasts, and the speaker's vector."""
        feeds: dict[str, Any] = {
            INPUTS[0]: np.array([numbers], np.int64),
            INPUTS[1]: np.array([len(numbers)], np.int64),
            INPUTS[2]: self.scales,
        }
        if self._speaker is not None:
            feeds[SPEAKER] = self._speaker
        latent, durations, *speaker = self._frontend.run(None, feeds)
        return latent, durations.reshape(-1), speaker[0] if speaker else None


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


_DEFAULTS = {"head": "36", "first": "12", "speaker": "0"}

ENGINE = Engine(
    name="piper-onnx",
    task="tts",
    extra="piper",
    package="piper-tts",
    modules=("piper", "onnxruntime", "onnx"),
    load=PiperOnnx,
    defaults={"provider": CPU, **_DEFAULTS},
)
