"""Whisper as two ONNX graphs: greedy transcription with keys and values kept between tokens.

Decodes as faster-whisper does at beam 1, temperature 0, without timestamps and without the text
before as a prompt (Radford et al. 2022; openai/whisper, `decoding.py` and `transcribe.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vozmetro.audio import SPEECH_RATE, Samples, Waveform, log_mel
from vozmetro.engines import whisper_window
from vozmetro.engines.base import Engine, LoadRequest
from vozmetro.engines.onnx_graph import CPU, open_session
from vozmetro.engines.whisper_decoding import LOW_CONFIDENCE, Decoder, Step
from vozmetro.engines.whisper_memory import Encoder
from vozmetro.engines.whisper_stream import WhisperStream
from vozmetro.errors import InputError, ModelError
from vozmetro.speech.whisper_tokens import WhisperTokens

ENCODER, DECODER = "encoder.onnx", "decoder.onnx"
_STOP_SPINNING = {"session.force_spinning_stop": "1"}
"""Encoder and decoder have threads of their own. Those of the one that has just finished would go
on spinning on the cores that the other needs. One set of threads for the process (option
`pool=global`) would do as well, but then every other session of the process must be told to use it
too, or fails."""
STREAM = "stream"
"""Value of the option `context`: as an utterance is transcribed while it is spoken."""
_LEISURE = 300
"""Frames of silence behind what has gone wrong in a stream, 3 s: see `whisper_window`."""
_PAD = 160
"""Zeros that openai/whisper's features are computed with behind the audio, one frame."""
AS_GIVEN = "given"
"""Value of the option `threads`: as many as everything else has."""
_DEFAULTS = {"lookahead": "1.0", "tail": "1.0", "silence": "4.0"}
"""Options of streams, in seconds: as for `whisper_memory.Memory`."""
_QUIETEST = -1.5
"""Log-mel feature of digital silence."""


class WhisperOnnx:
    """Implements `StreamingTranscriber`.

    Attributes:
        fallbacks: How often a window was decoded again with more context, because with a cut one
            the transcript ran in a loop, was implausibly long, or was unlikely.
        windows: Windows decoded.
        streams: Whether it is to be measured as it transcribes while one speaks.
        tokens: The model's special tokens.
        session: An `onnxruntime.InferenceSession` of its encoder.
        decoder: Its decoder.
    """

    def __init__(self, request: LoadRequest) -> None:
        context = request.options.get("context", "full")
        self.streams = context == STREAM
        self._silence = None if self.streams else whisper_window.silence_frames(context)
        given = request.options.get("threads", AS_GIVEN)
        threads = request.threads if given == AS_GIVEN else _threads(given)
        self._lookahead = _positions("lookahead", request.options)
        self._tail = _positions("tail", request.options)
        self._behind = _positions("silence", request.options)
        options = {**_STOP_SPINNING, **request.options}
        self.session = _open(request.path / ENCODER, threads, options)
        decoder = _open(request.path / DECODER, threads, options)
        self._device = request.options.get("provider", CPU)
        features = self.session.get_inputs()[0]
        self._bands = int(features.shape[1])
        self._stream_encoder = Encoder(self.session)
        self._crossed = [
            port.name for port in self.session.get_outputs() if port.name.startswith("cross.")
        ]
        self.tokens = WhisperTokens.read(request.path, int(decoder.get_outputs()[0].shape[-1]))
        self.decoder = Decoder(decoder, self.tokens, self._device)
        self._words = _tokenizer(request.path / "tokenizer.json")
        self.fallbacks = 0
        self.windows = 0

    def transcribe(self, audio: Waveform, language: str) -> str:
        """See `Transcriber.transcribe`. An empty language is detected from the first window.

        Raises:
            InputError: `whisper_language`.
        """
        if self.streams:
            stream = self.open_stream(language)
            stream.feed(audio.samples)
            return stream.finish()
        return self._joined(audio, language, self._silence)

    def open_stream(self, language: str) -> WhisperStream:
        """See `StreamingTranscriber.open_stream`.

        Raises:
            ModelError: `whisper_no_memory`: the encoder was converted by something else.
            InputError: `whisper_language`.
        """
        if not self._stream_encoder.remembers:
            raise ModelError("whisper_no_memory")
        if language:
            self.tokens.prompt(language)
        # Made with the first stream, which is one of warming up, and not when somebody speaks.
        self._stream_encoder.silence()
        return WhisperStream(
            self._stream_encoder,
            self.decoder,
            language,
            lookahead=self._lookahead,
            tail=self._tail,
            silence=self._behind,
            words=lambda tokens: self._text(tokens).strip(),
            whole=self._at_leisure,
        )

    def _at_leisure(self, samples: Samples, language: str) -> str:
        self.fallbacks += 1
        silence = self._silence or _LEISURE
        return self._joined(Waveform(samples, SPEECH_RATE), language, silence)

    def _joined(self, audio: Waveform, language: str, silence: int | None) -> str:
        found = self._transcribed(audio, language, silence)
        texts = (self._text(tokens).strip() for tokens in found)
        return " ".join(text for text in texts if text)

    def transcribe_tokens(self, audio: Waveform, language: str) -> list[int]:
        """Returns the text tokens of all windows, one after the other."""
        found = self._transcribed(audio, language, self._silence)
        return [token for tokens in found for token in tokens]

    def features(self, audio: Waveform) -> Samples:
        """Returns the log-mel frames of the audio, [bands, frames], 100 a second.

        One maximum for all windows, and one frame of silence behind, as openai/whisper has it.
        """
        padded = Waveform(np.pad(audio.samples, (0, _PAD)), SPEECH_RATE)
        return log_mel(padded, self._bands)[:, :-1]

    def encoder_output(self, frames: Samples) -> NDArray[np.float32]:
        """Returns the encoder's states [1, positions, width] for frames [bands, even number]."""
        feeds = {"input_features": frames[None]}
        found: NDArray[np.float32] = self.session.run(["encoder_hidden_states"], feeds)[0]
        return found

    # Windows -------------------------------------------------------------------------------------

    def _transcribed(
        self, audio: Waveform, language: str, silence: int | None
    ) -> list[tuple[int, ...]]:
        if not len(audio.samples):
            return []
        frames = self.features(audio)
        floor = float(frames.max(initial=_QUIETEST)) - whisper_window.DYNAMICS
        found = []
        for start, end in whisper_window.spans(frames):
            tokens, language = self._window(frames[:, start:end], floor, language, silence)
            found.append(tokens)
        return found

    def _window(
        self, frames: Samples, floor: float, language: str, silence: int | None
    ) -> tuple[tuple[int, ...], str]:
        """Returns the tokens of at most 30 s, and the language, detected if it was not given."""
        self.windows += 1
        for length in whisper_window.lengths(frames.shape[1], silence):
            cut = length < whisper_window.FRAMES
            most = whisper_window.plausible_tokens(frames.shape[1]) if cut else None
            step = self._heard(whisper_window.padded(frames, length, floor if cut else 0.0))
            found, spoken = self.decoder.decode(step, language, most)
            if not cut or found.sure:
                break
            self.fallbacks += 1
        if found.confidence <= LOW_CONFIDENCE and self.decoder.silent(step):
            return (), spoken
        return found.tokens, spoken

    def _heard(self, frames: Samples) -> Step:
        """Runs the encoder; its keys and values stay on the device."""
        binding = self.session.io_binding()
        binding.bind_cpu_input("input_features", np.ascontiguousarray(frames[None]))
        for name in self._crossed:
            binding.bind_output(name, self._device)
        self.session.run_with_iobinding(binding)
        cross = dict(zip(self._crossed, binding.get_outputs(), strict=True))
        return self.decoder.on(cross)

    def _text(self, tokens: Sequence[int]) -> str:
        """Returns the words; numbers where there is no tokenizer (random weights)."""
        words = [token for token in tokens if token < self.tokens.end]
        if self._words is None:
            return " ".join(map(str, words))
        text: str = self._words.decode(words)
        return text


def _threads(text: str) -> int:
    """Returns an option's number of threads.

    Raises:
        InputError: `threads_range`.
    """
    if not text.isdecimal() or not 1 <= int(text[:5]) <= 1024:
        raise InputError("threads_range", given=text)
    return int(text)


def _positions(name: str, options: Mapping[str, str]) -> int:
    """Returns an option in seconds as positions of the encoder.

    Raises:
        InputError: `whisper_seconds`.
    """
    text = options.get(name, _DEFAULTS[name])
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= whisper_window.FRAMES / whisper_window.FRAMES_A_SECOND:
        raise InputError("whisper_seconds", name=name, value=text)
    return round(seconds * whisper_window.FRAMES_A_SECOND / 2)


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
    defaults={"provider": CPU, "context": "full", "decoding": "greedy", "threads": AS_GIVEN}
    | _DEFAULTS,
    fixed=frozenset({"decoding"}),
)
