"""Turns one utterance into the arrays that a graph asks for, by rule.

The rules read an input's name, dtype and declared shape. Which rule gave which shape is recorded
for every item, and `--shape name=1x80x300` overrides it. In order:

===================  =============================================================================
rule                 gives
===================  =============================================================================
`shape option`       the user's shape; seeded noise, or ids within the vocabulary
`encoder output`     seeded noise, 50 positions a second of audio, as Whisper's encoder gives
`kv-cache`           empty past (length 0) for names like past, cache, state; fixed sizes kept
`mask`               ones, as long as past + tokens
`position`           0, 1, 2, ...
`length`             how many samples, frames or tokens the main input holds
`sample rate`        16000
`speaker`            0
`voice scales`       0.667, 1.0, 0.8: noise, speed and duration noise of Piper voices
`log-mel`            real log-mel frames, 100 a second, padded or cut where the graph fixes them
`token ids`          1.4 tokens a word of the transcript, else 3.5 a second; phoneme ids of voices
                     (graphs with `scales`): 2 a letter plus 3, else 28 a second
`waveform`           the samples at 16 kHz, padded or cut where the graph fixes them
`fixed shape`        the declared shape; seeded noise or small ids
`guess`              1 for every dynamic size; a note says so
===================  =============================================================================
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vozmetro.audio import SPEECH_RATE, Waveform, log_mel
from vozmetro.engines.base import TensorSpec
from vozmetro.engines.onnx_graph import RAW_BITS
from vozmetro.errors import InputError

Array = NDArray[Any]

MEL_BANDS = (80, 128)
_WAVE_MIN = 1600  # a fixed last axis this long (0.1 s at 16 kHz) is taken for audio samples
_TOKENS_PER_WORD, _TOKENS_PER_S = 1.4, 3.5
_ENCODED_PER_S = 50
_PHONEMES_PER_LETTER, _PHONEMES_PER_S = 2, 28
_VOICE_SCALES = (0.667, 1.0, 0.8)

_NAMES = {
    "encoder output": r"encoder_(hidden_states|outputs?)|^memory$",
    "kv-cache": r"past|cache|(^|[._/])(h|c|state|states|hidden)\d*([._/]|$)",
    "mask": r"mask",
    "position": r"position",
    "length": r"len(gth|gths|s)?\d*$|lengths?[._]",
    "sample rate": r"^(sr|sample_?rate|sampling_?rate)$",
    "speaker": r"^(sid|spk|spk_id|speaker|speaker_id|lid|language_id)$",
    "voice scales": r"^scales$",
}


class Resolved(NamedTuple):
    """How one input was resolved; the record's `ResolvedInput`, without its library.

    The worker uses this one: what it imports costs RAM and time that a user would read as the
    model's.
    """

    name: str
    dtype: str
    shape: list[int]
    rule: str


@dataclass(frozen=True)
class Material:
    """What an item offers to fill inputs with.

    Attributes:
        audio: The utterance at 16 kHz.
        text: Its transcript, may be empty.
        seed: Seeds noise where an input has no meaning that a rule knows.
    """

    audio: Waveform
    text: str
    seed: int


def build(
    specs: Sequence[TensorSpec],
    material: Material,
    overrides: Mapping[str, Sequence[int]],
    vocabulary: Mapping[str, int],
) -> tuple[dict[str, Array], list[Resolved]]:
    """Returns the feeds for one item, and how each input was resolved.

    Args:
        specs: The graph's inputs.
        material: The item.
        overrides: Shapes by input name from `--shape`.
        vocabulary: Rows of the embedding that an input of ids indexes, by input name.

    Raises:
        InputError: `shape_unknown_input` or `shape_mismatch` for a bad `--shape`.
    """
    _check_overrides(specs, overrides)
    builder = _Builder(specs, material, overrides, vocabulary)
    feeds: dict[str, Array] = {}
    resolved: list[Resolved] = []
    for spec in specs:
        array, rule = builder.array(spec)
        feeds[spec.name] = array
        resolved.append(
            Resolved(name=spec.name, dtype=spec.dtype, shape=list(array.shape), rule=rule)
        )
    return feeds, resolved


def _check_overrides(specs: Sequence[TensorSpec], overrides: Mapping[str, Sequence[int]]) -> None:
    known = {spec.name: spec for spec in specs}
    for name, shape in overrides.items():
        if name not in known:
            raise InputError("shape_unknown_input", name=name, known=", ".join(known))
        declared = known[name].shape
        fits = len(shape) == len(declared) and all(
            not isinstance(size, int) or size == given
            for size, given in zip(declared, shape, strict=True)
        )
        if not fits:
            raise InputError(
                "shape_mismatch",
                name=name,
                given="x".join(map(str, shape)),
                declared="x".join(map(str, declared)),
            )


def _rank(spec: TensorSpec) -> int:
    return len(spec.shape)


def _is_float(spec: TensorSpec) -> bool:
    return "float" in spec.dtype


def _is_int(spec: TensorSpec) -> bool:
    return "int" in spec.dtype


def rule_of(spec: TensorSpec, has_scales: bool = False) -> str:
    """Returns the name of the rule for one input (`shape option` apart)."""
    name = spec.name.lower()
    for rule, pattern in _NAMES.items():
        if re.search(pattern, name):
            return rule
    if _is_float(spec):
        return _float_rule(spec)
    if _is_int(spec) and 1 <= _rank(spec) <= 2 and any(isinstance(s, str) for s in spec.shape):
        # A vector with one symbolic batch axis is a flag or a length, not a text.
        is_text = _rank(spec) == 2 or re.search(r"ids?|tokens?|text|phonemes?|input", name)
        if is_text or has_scales:
            return "token ids"
    dynamic = any(isinstance(size, str) for size in spec.shape)
    return "guess" if dynamic else "fixed shape"


def _float_rule(spec: TensorSpec) -> str:
    sizes = spec.shape
    if _rank(spec) == 3 and any(size in MEL_BANDS for size in sizes[1:]):
        return "log-mel"
    if _rank(spec) == 3 and re.search(r"mel|feat|fbank", spec.name.lower()):
        return "log-mel"
    if 1 <= _rank(spec) <= 3:
        ones = all(isinstance(size, str) or size == 1 for size in sizes[:-1])
        last = sizes[-1]
        if ones and (isinstance(last, str) or last >= _WAVE_MIN):
            return "waveform"
    dynamic = any(isinstance(size, str) for size in sizes)
    return "guess" if dynamic else "fixed shape"


class _Builder:
    """Fills the inputs of one graph for one item; later rules need the main input's length."""

    def __init__(
        self,
        specs: Sequence[TensorSpec],
        material: Material,
        overrides: Mapping[str, Sequence[int]],
        vocabulary: Mapping[str, int],
    ) -> None:
        self._material = material
        self._overrides = overrides
        self._vocabulary = vocabulary
        self._rng = np.random.default_rng(material.seed)
        self._has_scales = any(rule_of(spec) == "voice scales" for spec in specs)
        # Sizes that share a symbol must be equal; --shape and the main input fix them first.
        self._symbols: dict[str, int] = {}
        for spec in specs:
            self._bind(spec, overrides.get(spec.name, ()))
        self._length, self._batch = self._main_length(specs)

    def _bind(self, spec: TensorSpec, shape: Sequence[int]) -> None:
        for symbol, size in zip(spec.shape, shape, strict=False):
            if isinstance(symbol, str) and symbol != "?":
                self._symbols.setdefault(symbol, size)

    def _rule(self, spec: TensorSpec) -> str:
        return rule_of(spec, self._has_scales)

    def _main_length(self, specs: Sequence[TensorSpec]) -> tuple[int, int]:
        """Samples, frames or tokens of the input that carries the utterance, and the batch."""
        by_rule = {self._rule(spec): spec for spec in reversed(specs)}
        for rule in ("waveform", "log-mel", "token ids"):
            if rule in by_rule:
                spec = by_rule[rule]
                shape = list(self._overrides.get(spec.name) or self._content(spec, rule).shape)
                self._bind(spec, shape)
                axis = 1 if rule == "log-mel" and len(shape) == 3 and _frames_first(spec) else -1
                return shape[axis], shape[0] if len(shape) > 1 else 1
        return max(1, round(self._material.audio.seconds * 100)), 1

    def array(self, spec: TensorSpec) -> tuple[Array, str]:
        """Returns the array for one input and the rule that made it."""
        if spec.name in self._overrides:
            return self._filled(spec, list(self._overrides[spec.name])), "shape option"
        rule = self._rule(spec)
        if rule in ("waveform", "log-mel", "token ids"):
            return self._content(spec, rule), rule
        return self._helper(spec, rule), rule

    def _helper(self, spec: TensorSpec, rule: str) -> Array:
        dtype = _carrier(spec.dtype)
        if rule == "kv-cache":
            flag = spec.dtype == "bool"
            return np.zeros(self._sizes(spec, other=1 if flag else 0), dtype=dtype)
        if rule == "voice scales":
            values = np.array(_VOICE_SCALES, dtype=dtype)
            return np.resize(values, self._sizes(spec, other=3))
        if rule in ("mask", "position"):
            shape = self._sizes(spec, other=self._length)
            ramp = np.arange(shape[-1] if shape else 1) if rule == "position" else 1
            return np.broadcast_to(ramp, shape).astype(dtype)
        if rule == "encoder output":
            positions = max(1, round(_ENCODED_PER_S * self._material.audio.seconds))
            return self._filled(spec, self._sizes(spec, other=positions))
        if rule in ("length", "sample rate", "speaker"):
            value = {"length": self._length, "sample rate": SPEECH_RATE, "speaker": 0}[rule]
            return np.full(self._sizes(spec, other=1), value, dtype=dtype)
        return self._filled(spec, self._sizes(spec, other=1))

    def _sizes(self, spec: TensorSpec, other: int) -> list[int]:
        """Fixed sizes as declared; a dynamic first axis is the batch, the rest are `other`."""
        sizes = []
        for axis, size in enumerate(spec.shape):
            if isinstance(size, int):
                sizes.append(size)
            elif size in self._symbols:
                sizes.append(self._symbols[size])
            else:
                sizes.append(self._batch if _is_batch(spec, axis) else other)
        return sizes

    def _content(self, spec: TensorSpec, rule: str) -> Array:
        if rule == "waveform":
            data = self._material.audio.samples
            return _shaped(_fit(data, spec.shape[-1]), spec)
        if rule == "log-mel":
            return self._mel(spec)
        count = self._token_count()
        last = spec.shape[-1]
        count = last if isinstance(last, int) else count
        return self._filled(spec, [*([1] * (_rank(spec) - 1)), count])

    def _mel(self, spec: TensorSpec) -> Array:
        bands = next((s for s in spec.shape[1:] if s in MEL_BANDS), MEL_BANDS[0])
        mel = log_mel(self._material.audio, int(bands))
        frames_first = _frames_first(spec)
        wanted = spec.shape[1] if frames_first else spec.shape[2]
        mel = _fit(mel, wanted, fill=float(mel.min(initial=0.0)))
        return (mel.T if frames_first else mel)[None].astype(_carrier(spec.dtype))

    def _token_count(self) -> int:
        text, seconds = self._material.text, self._material.audio.seconds
        if self._has_scales:
            letters = _PHONEMES_PER_LETTER * len(text) + 3
            return letters if text else max(3, round(_PHONEMES_PER_S * seconds))
        words = len(text.split())
        return max(1, round(_TOKENS_PER_WORD * words if words else _TOKENS_PER_S * seconds))

    def _filled(self, spec: TensorSpec, shape: list[int]) -> Array:
        if spec.dtype == "string":
            return np.full(shape, self._material.text or "hola", dtype=object)
        dtype = _carrier(spec.dtype)
        if spec.dtype == "bool":
            return np.ones(shape, dtype=bool)
        if spec.dtype in RAW_BITS:
            # Small positive numbers in every one of these formats; a random bit pattern may be NaN.
            return self._rng.integers(1, 16, shape).astype(dtype)
        if _is_float(spec):
            return self._rng.standard_normal(shape).astype(dtype)
        high = max(2, min(self._vocabulary.get(spec.name, 100), np.iinfo(dtype).max))
        return self._rng.integers(1, high, shape).astype(dtype)


def _is_batch(spec: TensorSpec, axis: int) -> bool:
    name = spec.shape[axis]
    return (axis == 0 and _rank(spec) > 1) or (isinstance(name, str) and "batch" in name.lower())


def _frames_first(spec: TensorSpec) -> bool:
    """Whether the layout is [batch, frames, bands] rather than [batch, bands, frames]."""
    if spec.shape[1] in MEL_BANDS:
        return False
    return spec.shape[2] in MEL_BANDS


def _carrier(dtype: str) -> str:
    return RAW_BITS[dtype][0] if dtype in RAW_BITS else dtype


def _fit(data: Array, size: int | str, fill: float = 0.0) -> Array:
    """Pads at the end with `fill` or cuts the last axis to a fixed size."""
    if isinstance(size, str):
        return data
    short = size - data.shape[-1]
    if short <= 0:
        return data[..., :size]
    return np.pad(data, [(0, 0)] * (data.ndim - 1) + [(0, short)], constant_values=fill)


def _shaped(samples: Array, spec: TensorSpec) -> Array:
    dtype = _carrier(spec.dtype)
    return samples.reshape([1] * (_rank(spec) - 1) + [-1]).astype(dtype)
