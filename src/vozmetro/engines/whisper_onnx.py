"""Whisper as two ONNX graphs: greedy transcription with keys and values kept between tokens.

Decodes as faster-whisper does at beam 1, temperature 0, without timestamps and without the text
before as a prompt (Radford et al. 2022; openai/whisper, `decoding.py` and `transcribe.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vozmetro.audio import SPEECH_RATE, Samples, Waveform, log_mel
from vozmetro.engines import whisper_window
from vozmetro.engines.base import Engine, LoadRequest
from vozmetro.engines.onnx_graph import CPU, open_session
from vozmetro.errors import ModelError
from vozmetro.speech.whisper_tokens import WhisperTokens

ENCODER, DECODER = "encoder.onnx", "decoder.onnx"
POSITIONS_MARK = "vozmetro.positions"
_TARGET_POSITIONS = 448
"""Of every published Whisper; a graph from elsewhere does not say."""
_STOP_SPINNING = {"session.force_spinning_stop": "1"}
"""Encoder and decoder have threads of their own. Those of the one that has just finished would go
on spinning on the cores that the other needs. One set of threads for the process (option
`pool=global`) would do as well, but then every other session of the process must be told to use it
too, or fails."""
_PAD = 160
"""Zeros that openai/whisper's features are computed with behind the audio, one frame."""
_QUIETEST = -1.5
"""Log-mel feature of digital silence."""
NO_SPEECH, LOW_CONFIDENCE = 0.6, -1.0
"""Nobody speaks where that token is likelier than the first and words are, on average, less likely
than the second (natural log); the thresholds of openai/whisper."""


@dataclass(frozen=True)
class Decoded:
    """A window's transcript.

    Attributes:
        tokens: Text tokens, the end left out.
        confidence: Mean natural log of their probabilities, the end included.
        complete: The model ended it, and not the limit or the guard against loops.
    """

    tokens: tuple[int, ...]
    confidence: float
    complete: bool


class WhisperOnnx:
    """Implements `Transcriber`.

    Attributes:
        fallbacks: How often a window was decoded again with more context, because with a cut one
            the transcript ran in a loop, was implausibly long, or was unlikely.
        windows: Windows decoded.
        tokens: The model's special tokens.
        limit: Most tokens of a window's transcript.
    """

    def __init__(self, request: LoadRequest) -> None:
        self._silence = whisper_window.silence_frames(request.options.get("context", "full"))
        options = {**_STOP_SPINNING, **request.options}
        self._encoder = _open(request.path / ENCODER, request.threads, options)
        self._decoder = _open(request.path / DECODER, request.threads, options)
        self._device = request.options.get("provider", CPU)
        features = self._encoder.get_inputs()[0]
        self._bands = int(features.shape[1])
        self._crossed = [
            port.name for port in self._encoder.get_outputs() if port.name.startswith("cross.")
        ]
        self._past = [
            port for port in self._decoder.get_inputs() if port.name.startswith("past_key_values.")
        ]
        vocabulary = int(self._decoder.get_outputs()[0].shape[-1])
        marks = self._decoder.get_modelmeta().custom_metadata_map
        # Half the positions are for the transcript, the other half for a prompt before it.
        self.limit = int(marks.get(POSITIONS_MARK, _TARGET_POSITIONS)) // 2
        self.tokens = WhisperTokens.read(request.path, vocabulary)
        self._suppressed = np.array(self.tokens.suppressed, np.int64)
        self._suppressed_first = np.array(self.tokens.suppressed_first, np.int64)
        self._words = _tokenizer(request.path / "tokenizer.json")
        self.fallbacks = 0
        self.windows = 0

    def transcribe(self, audio: Waveform, language: str) -> str:
        """See `Transcriber.transcribe`. An empty language is detected from the first window.

        Raises:
            InputError: `whisper_language`.
        """
        texts = (self._text(tokens).strip() for tokens in self._transcribed(audio, language))
        return " ".join(text for text in texts if text)

    def transcribe_tokens(self, audio: Waveform, language: str) -> list[int]:
        """Returns the text tokens of all windows, one after the other."""
        return [token for tokens in self._transcribed(audio, language) for token in tokens]

    def features(self, audio: Waveform) -> Samples:
        """Returns the log-mel frames of the audio, [bands, frames], 100 a second.

        One maximum for all windows, and one frame of silence behind, as openai/whisper has it.
        """
        padded = Waveform(np.pad(audio.samples, (0, _PAD)), SPEECH_RATE)
        return log_mel(padded, self._bands)[:, :-1]

    def encoder_output(self, frames: Samples) -> NDArray[np.float32]:
        """Returns the encoder's states [1, positions, width] for frames [bands, even number]."""
        feeds = {"input_features": frames[None]}
        found: NDArray[np.float32] = self._encoder.run(["encoder_hidden_states"], feeds)[0]
        return found

    # Windows -------------------------------------------------------------------------------------

    def _transcribed(self, audio: Waveform, language: str) -> list[tuple[int, ...]]:
        if not len(audio.samples):
            return []
        frames = self.features(audio)
        floor = float(frames.max(initial=_QUIETEST)) - whisper_window.DYNAMICS
        found = []
        for start in range(0, frames.shape[1], whisper_window.FRAMES):
            window = frames[:, start : start + whisper_window.FRAMES]
            tokens, language = self._window(window, floor, language)
            found.append(tokens)
        return found

    def _window(self, frames: Samples, floor: float, language: str) -> tuple[tuple[int, ...], str]:
        """Returns the tokens of at most 30 s, and the language, detected if it was not given."""
        self.windows += 1
        for length in whisper_window.lengths(frames.shape[1], self._silence):
            cut = length < whisper_window.FRAMES
            most = whisper_window.plausible_tokens(frames.shape[1]) if cut else None
            step = self._heard(whisper_window.padded(frames, length, floor if cut else 0.0))
            found, spoken = self._decode(step, language, most)
            if not cut or (found.complete and found.confidence >= LOW_CONFIDENCE):
                break
            self.fallbacks += 1
        if found.confidence <= LOW_CONFIDENCE and self._silent(step):
            return (), spoken
        return found.tokens, spoken

    def _heard(self, frames: Samples) -> _Step:
        """Runs the encoder; its keys and values stay on the device."""
        binding = self._encoder.io_binding()
        binding.bind_cpu_input("input_features", np.ascontiguousarray(frames[None]))
        for name in self._crossed:
            binding.bind_output(name, self._device)
        self._encoder.run_with_iobinding(binding)
        cross = dict(zip(self._crossed, binding.get_outputs(), strict=True))
        return _Step(self._decoder, cross, self._past, self._device)

    # Tokens --------------------------------------------------------------------------------------

    def _decode(self, step: _Step, language: str, most: int | None) -> tuple[Decoded, str]:
        """Returns the transcript and its language; stops early at `most` tokens or in a loop."""
        step.restart()
        if self.tokens.languages and not language:
            language = self._detected(step.run([self.tokens.start]))
            logits = step.run(self.tokens.prompt(language)[1:])
        else:
            logits = step.run(self.tokens.prompt(language))
        logits[self._suppressed_first] = -np.inf
        tokens: list[int] = []
        total = 0.0
        while True:
            logits[self._suppressed] = -np.inf
            token = int(logits.argmax())
            total += _log_probability(logits, token)
            if token == self.tokens.end:
                complete = True
                break
            tokens.append(token)
            looping = most is not None and (len(tokens) > most or whisper_window.repeats(tokens))
            if looping or len(tokens) >= self.limit:
                complete = False
                break
            logits = step.run([token])
        return Decoded(tuple(tokens), total / (len(tokens) + 1), complete), language

    def _detected(self, logits: NDArray[np.float32]) -> str:
        codes = list(self.tokens.languages)
        return codes[int(logits[list(self.tokens.languages.values())].argmax())]

    def _silent(self, step: _Step) -> bool:
        """Whether the model holds that nobody speaks."""
        if self.tokens.no_speech is None:
            return False
        step.restart()
        logits = step.run([self.tokens.start])
        return _log_probability(logits, self.tokens.no_speech) > math.log(NO_SPEECH)

    def _text(self, tokens: Sequence[int]) -> str:
        """Returns the words; numbers where there is no tokenizer (random weights)."""
        words = [token for token in tokens if token < self.tokens.end]
        if self._words is None:
            return " ".join(map(str, words))
        text: str = self._words.decode(words)
        return text


class _Step:
    """The decoder on one window: tokens in, logits out, keys and values kept on the device.

    Args:
        session: Of the decoder.
        cross: The window's keys and values, from the encoder.
        past: The ports of the cache.
        device: Where it is.
    """

    def __init__(
        self, session: Any, cross: Mapping[str, Any], past: Sequence[Any], device: str
    ) -> None:
        import onnxruntime as ort

        self._session = session
        self._device = device
        self._ports = [port.name for port in past]
        self._made = [name.replace("past_key_values", "present") for name in self._ports]
        empty = np.zeros((1, int(past[0].shape[1]), 0, int(past[0].shape[3])), np.float32)
        self._empty = ort.OrtValue.ortvalue_from_numpy(empty, device, 0)
        self._cross = cross
        self.restart()

    def restart(self) -> None:
        """Forgets all tokens."""
        self._binding = self._session.io_binding()
        for name, value in self._cross.items():
            self._binding.bind_ortvalue_input(name, value)
        for name in self._ports:
            self._binding.bind_ortvalue_input(name, self._empty)

    def run(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Appends tokens; returns the logits [vocabulary] after the last, free to be changed."""
        binding = self._binding
        binding.bind_cpu_input("input_ids", np.array([tokens], np.int64))
        binding.bind_output("logits", CPU)
        for name in self._made:
            binding.bind_output(name, self._device)
        self._session.run_with_iobinding(binding)
        logits, *present = binding.get_outputs()
        for name, value in zip(self._ports, present, strict=True):
            binding.bind_ortvalue_input(name, value)
        found: NDArray[np.float32] = logits.numpy()
        return found.reshape(-1)


def _log_probability(logits: NDArray[np.float32], token: int) -> float:
    top = float(logits.max())
    return float(logits[token]) - top - math.log(float(np.exp(logits - top).sum()))


def _open(path: Path, threads: int, options: Mapping[str, str]) -> Any:
    if not path.is_file():
        raise ModelError("file_missing", path=path)
    return open_session(path, threads, options)


def _tokenizer(path: Path) -> Any:
    """Returns the words of tokens; None where the model has none."""
    if not path.is_file():
        return None
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(path))


ENGINE = Engine(
    name="whisper-onnx",
    task="stt",
    extra="stt",
    package="onnxruntime",
    modules=("onnxruntime", "tokenizers"),
    load=WhisperOnnx,
    defaults={"provider": CPU, "context": "full", "decoding": "greedy"},
    fixed=frozenset({"decoding"}),
)
