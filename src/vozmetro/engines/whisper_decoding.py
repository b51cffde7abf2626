"""Whisper's decoder: greedy, keys and values kept between tokens, guesses checked all at once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vozmetro.engines import whisper_window
from vozmetro.engines.onnx_graph import CPU
from vozmetro.speech.whisper_tokens import WhisperTokens

POSITIONS_MARK = "vozmetro.positions"
_TARGET_POSITIONS = 448
"""Of every published Whisper; a graph from elsewhere does not say."""
_ASKED = "logits_from"
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

    @property
    def sure(self) -> bool:
        """Whether the model ended it and held it for likely."""
        return self.complete and self.confidence >= LOW_CONFIDENCE

    def once(self) -> Decoded:
        """Returns the transcript without a repetition of the whole of it.

        Behind a cut context a short sentence is sometimes said twice, word for word.
        """
        half, odd = divmod(len(self.tokens), 2)
        twice = not odd and half >= whisper_window.SENTENCE_TOKENS
        if self.complete or not twice or self.tokens[:half] != self.tokens[half:]:
            return self
        return replace(self, tokens=self.tokens[:half], complete=True)


class Decoder:
    """The decoder of one model.

    Args:
        session: An `onnxruntime.InferenceSession` of it.
        tokens: The model's special tokens.
        device: Where keys and values are kept.

    Attributes:
        limit: Most tokens of a window's transcript.
    """

    def __init__(self, session: Any, tokens: WhisperTokens, device: str) -> None:
        self._session = session
        self._device = device
        self._past = [
            port for port in session.get_inputs() if port.name.startswith("past_key_values.")
        ]
        marks = session.get_modelmeta().custom_metadata_map
        # Half the positions are for the transcript, the other half for a prompt before it.
        self.limit = int(marks.get(POSITIONS_MARK, _TARGET_POSITIONS)) // 2
        self._tokens = tokens
        self._suppressed = np.array(tokens.suppressed, np.int64)
        self._suppressed_first = np.array(tokens.suppressed_first, np.int64)
        overridable = [port.name for port in session.get_overridable_initializers()]
        self._checks = _ASKED in overridable

    def on(self, cross: Mapping[str, Any]) -> Step:
        """Returns the decoder on a window.

        Args:
            cross: Keys and values that the encoder made of it, as numpy arrays or `OrtValue`s.
        """
        import onnxruntime as ort

        cross = {
            name: ort.OrtValue.ortvalue_from_numpy(value, self._device, 0)
            if isinstance(value, np.ndarray)
            else value
            for name, value in cross.items()
        }
        return Step(self._session, cross, self._past, self._device)

    def decode(
        self, step: Step, language: str, most: int | None, guess: Sequence[int] = ()
    ) -> tuple[Decoded, str]:
        """Returns the transcript of a window, and its language.

        Args:
            step: From `on`.
            language: ISO 639-1; empty to detect it.
            most: Tokens after which the transcript is taken for a loop, if loops are looked for.
            guess: What the transcript is likely to begin with. All of it is checked in one run, and
                kept as far as it is what would have been decoded.
        """
        step.restart()
        if self._tokens.languages and not language:
            language = self._detected(step.run([self._tokens.start])[-1])
            prompt = self._tokens.prompt(language)[1:]
        else:
            prompt = self._tokens.prompt(language)
        guessed = list(guess) if self._checks else []
        before = step.length + len(prompt)
        logits = step.run([*prompt, *guessed], len(guessed) + 1)
        tokens: list[int] = []
        total, row = 0.0, 0
        while True:
            token, chance = self._chosen(logits[row], first=not tokens)
            total += chance
            if token == self._tokens.end:
                complete = True
                break
            tokens.append(token)
            looping = most is not None and (len(tokens) > most or whisper_window.repeats(tokens))
            if looping or len(tokens) >= self.limit:
                complete = False
                break
            if row < len(logits) - 1 and token == guessed[row]:
                row += 1
                continue
            step.keep(before + len(tokens) - 1)
            logits, row, guessed = step.run([token]), 0, []
        return Decoded(tuple(tokens), total / (len(tokens) + 1), complete), language

    def silent(self, step: Step) -> bool:
        """Whether the model holds that nobody speaks."""
        if self._tokens.no_speech is None:
            return False
        step.restart()
        logits = step.run([self._tokens.start])[-1]
        return _log_probability(logits, self._tokens.no_speech) > math.log(NO_SPEECH)

    def _chosen(self, logits: NDArray[np.float32], *, first: bool) -> tuple[int, float]:
        """Returns the likeliest token that may be chosen and the log of its probability."""
        if first:
            logits[self._suppressed_first] = -np.inf
        logits[self._suppressed] = -np.inf
        token = int(logits.argmax())
        return token, _log_probability(logits, token)

    def _detected(self, logits: NDArray[np.float32]) -> str:
        codes = list(self._tokens.languages)
        return codes[int(logits[list(self._tokens.languages.values())].argmax())]


class Step:
    """The decoder on one window: tokens in, logits out, keys and values kept on the device.

    Args:
        session: Of the decoder.
        cross: The window's keys and values, from the encoder.
        past: The ports of the cache.
        device: Where it is.

    Attributes:
        length: Tokens in the cache.
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
        self._past_is([self._empty] * len(self._ports))
        self.length = 0

    def keep(self, length: int) -> None:
        """Forgets the tokens behind the first `length`."""
        if length == self.length:
            return
        import onnxruntime as ort

        cut = (np.ascontiguousarray(value.numpy()[:, :, :length]) for value in self._past)
        self._past_is([ort.OrtValue.ortvalue_from_numpy(one, self._device, 0) for one in cut])
        self.length = length

    def run(self, tokens: Sequence[int], asked: int = 1) -> NDArray[np.float32]:
        """Appends tokens.

        Args:
            tokens: Their numbers.
            asked: After how many of the last ones the logits are wanted.

        Returns:
            Logits [asked, vocabulary], free to be changed.
        """
        ids = np.array([tokens], np.int64)
        logits, *present = self._one(ids) if asked == 1 else self._several(ids, asked)
        self._past_is(present)
        self.length += len(tokens)
        found: NDArray[np.float32] = logits.numpy().reshape(asked, -1)
        return found

    def _one(self, ids: NDArray[np.int64]) -> list[Any]:
        binding = self._binding
        binding.bind_cpu_input("input_ids", ids)
        binding.bind_output("logits", CPU)
        for name in self._made:
            binding.bind_output(name, self._device)
        self._session.run_with_iobinding(binding)
        made: list[Any] = binding.get_outputs()
        return made

    def _several(self, ids: NDArray[np.int64], asked: int) -> list[Any]:
        """As `_one`; a binding does not know inputs that may be left out."""
        import onnxruntime as ort

        feeds = {**self._cross, **dict(zip(self._ports, self._past, strict=True))}
        feeds["input_ids"] = ort.OrtValue.ortvalue_from_numpy(ids)
        feeds[_ASKED] = ort.OrtValue.ortvalue_from_numpy(np.array([-asked], np.int64))
        made: list[Any] = self._session.run_with_ort_values(["logits", *self._made], feeds)
        return made

    def _past_is(self, values: list[Any]) -> None:
        self._past = values
        for name, value in zip(self._ports, values, strict=True):
            self._binding.bind_ortvalue_input(name, value)


def _log_probability(logits: NDArray[np.float32], token: int) -> float:
    top = float(logits.max())
    return float(logits[token]) - top - math.log(float(np.exp(logits - top).sum()))
