"""Conditions in which speech is heard: clean, with noise at an SNR, or through a channel."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from vozmetro import audio
from vozmetro.audio import SPEECH_RATE, Waveform
from vozmetro.errors import InputError
from vozmetro.speech import channel, noises, room
from vozmetro.speech.level import active_level, rms_db
from vozmetro.speech.noises import Noises, key_of
from vozmetro.speech.seeded import generator

__all__ = [
    "Condition",
    "Conditioned",
    "Noises",
    "apply",
    "key_of",
    "noise_alone",
    "parse",
    "silence",
]

GRID = (20.0, 10.0, 5.0, 0.0)
"""SNRs (dB) that a noise without one, or with `@grid`, stands for; clean speech goes with them."""
NOMINAL_DB = -26.0
"""Active level (dBov) of the speech that is not there where noise is heard alone: ITU's nominal."""
PEAK = 32_767 / 32_768
"""Largest sample that 16 bits hold; louder sums are scaled down to it."""
CLEAN = "clean"


@dataclass(frozen=True)
class Parameter:
    """The number that a kind takes after its `@`.

    Attributes:
        default: Where none is given; None for a noise, whose default is the grid.
        low: Least value.
        high: Largest value.
        unit: What it is in.
    """

    default: float | None
    low: float
    high: float
    unit: str


_SNR = Parameter(None, -20.0, 60.0, "dB")
KINDS: Mapping[str, Parameter | None] = {
    CLEAN: None,
    **dict.fromkeys(noises.KINDS, _SNR),
    "reverb": Parameter(0.5, 0.15, 1.0, "s"),
    "phone": None,
    "rate8k": None,
    "clip": Parameter(10.0, 0.1, 90.0, "%"),
    "loss": Parameter(5.0, 0.1, 90.0, "%"),
}
"""What each kind of condition takes; None for those without a parameter."""


@dataclass(frozen=True)
class Condition:
    """One way of hearing an utterance.

    Attributes:
        kind: A key of `KINDS`.
        value: SNR in dB, RT60 in seconds, or percent, as the kind takes; None where it takes none.
    """

    kind: str
    value: float | None = None

    @property
    def name(self) -> str:
        """What `parse` reads back as this condition: `ssn@10`."""
        return self.kind if self.value is None else f"{self.kind}@{self.value:.6g}"

    @property
    def snr_db(self) -> float | None:
        """The wanted SNR where noise is added, else None."""
        return self.value if self.kind in noises.KINDS else None

    @property
    def fitted(self) -> bool:
        """Whether it needs `Noises.fitted`."""
        return self.kind in noises.FITTED

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Conditioned:
    """An utterance as heard under a condition.

    Attributes:
        waveform: At 16 kHz, as long as the utterance, within [-1, 1].
        snr_db: Active level of the speech over the RMS of the noise added, as measured on both;
            None where no noise is added.
        scale: What speech and noise together were multiplied by so as not to clip; 1 mostly.
    """

    waveform: Waveform
    snr_db: float | None
    scale: float


# Three decimals: all that a name holds, so that a name is read back as the same condition.
_NUMBER = re.compile(r"[+-]?\d{1,3}(\.\d{1,3})?", re.ASCII)


def parse(text: str) -> list[Condition]:
    """Reads conditions separated by commas, such as `clean,ssn@10,phone`.

    A noise without an SNR, or with `@grid`, stands for clean speech and the noise at 20, 10, 5 and
    0 dB. Repeated conditions count once; the order is kept.

    Raises:
        InputError: `condition_unknown`, `condition_value`, `condition_no_value` or
            `conditions_none`.
    """
    found: dict[Condition, None] = {}
    for word in text.split(","):
        if word.strip():
            found.update(dict.fromkeys(_expand(word.strip())))
    if not found:
        raise InputError("conditions_none", known=known())
    return list(found)


def known() -> str:
    """Returns the names of all kinds, separated by commas."""
    return ", ".join(name if takes is None else f"{name}@N" for name, takes in KINDS.items())


def _expand(word: str) -> Iterable[Condition]:
    kind, at, given = word.partition("@")
    if kind not in KINDS:
        raise InputError("condition_unknown", given=word, known=known())
    takes = KINDS[kind]
    if takes is None:
        if at:
            raise InputError("condition_no_value", given=word, kind=kind)
        return [Condition(kind)]
    if (takes is _SNR and given == "grid") or (not at and takes.default is None):
        return [Condition(CLEAN), *(Condition(kind, snr) for snr in GRID)]
    if not at:
        return [Condition(kind, takes.default)]
    # Adding 0 makes 0 of -0.
    value = float(given) + 0.0 if _NUMBER.fullmatch(given) else math.nan
    if not takes.low <= value <= takes.high:
        raise InputError(
            "condition_value",
            given=word,
            kind=kind,
            low=f"{takes.low:g}",
            high=f"{takes.high:g}",
            unit=takes.unit,
        )
    return [Condition(kind, value)]


def apply(
    condition: Condition, waveform: Waveform, fitted: Noises, key: str, seed: int = 0
) -> Conditioned:
    """Returns an utterance as heard under a condition.

    The result depends on the condition, the utterance, its key, the seed and what was fitted;
    never on what was done before.

    Args:
        condition: One of `parse`.
        waveform: The utterance; other rates are resampled to 16 kHz.
        fitted: Of the corpus, for speech-shaped noise and babble; `Noises()` does for the others.
        key: The utterance's, as the noises were fitted: `key_of` it.
        seed: What the user chose.

    Raises:
        InputError: `utterance_silent` (no SNR can be set), or those of `noises.make`.
        MissingExtraError: A room needs pyroomacoustics.
    """
    speech = audio.resample(waveform, SPEECH_RATE)
    if condition.kind in noises.KINDS:
        return _noisy(condition, speech, fitted, key, seed)
    return _fit(_CHANNELS[condition.kind](speech, condition.value or 0.0, key, seed))


def _noisy(
    condition: Condition, speech: Waveform, fitted: Noises, key: str, seed: int
) -> Conditioned:
    level = active_level(speech)
    if not level.activity > 0:
        raise InputError("utterance_silent", id=key)
    noise = noises.make(condition.kind, len(speech.samples), fitted, key, seed)
    # RMS 1 is 0 dBov.
    added = (noise * 10 ** ((level.db - (condition.value or 0.0)) / 20)).astype(np.float32)
    heard = _fit(Waveform(speech.samples + added, speech.rate))
    return Conditioned(heard.waveform, level.db - rms_db(added), heard.scale)


def _fit(waveform: Waveform) -> Conditioned:
    """Scales down what would clip."""
    peak = float(np.abs(waveform.samples).max(initial=0.0))
    if peak <= 1.0:
        return Conditioned(waveform, None, 1.0)
    scale = PEAK / peak
    return Conditioned(Waveform(waveform.samples * np.float32(scale), waveform.rate), None, scale)


_CHANNELS: Mapping[str, Callable[[Waveform, float, str, int], Waveform]] = {
    CLEAN: lambda speech, value, key, seed: speech,
    "reverb": lambda speech, value, key, seed: room.reverberate(speech, value, seed),
    "phone": lambda speech, value, key, seed: channel.telephone(speech),
    "rate8k": lambda speech, value, key, seed: channel.half_rate(speech),
    "clip": lambda speech, value, key, seed: channel.clip(speech, value),
    "loss": lambda speech, value, key, seed: channel.lose_packets(
        speech, value, generator(seed, "loss", key)
    ),
}


def noise_alone(
    condition: Condition, seconds: float, fitted: Noises, key: str, seed: int = 0
) -> Waveform:
    """Returns what is heard under a condition while nobody speaks, at 16 kHz.

    Noise has the level that it would have under speech at ITU's nominal -26 dBov; channels carry
    silence.

    Args:
        condition: One of `parse`.
        seconds: How long, above 0.
        fitted: As for `apply`.
        key: Names the draw: another key, other noise.
        seed: What the user chose.
    """
    nothing = silence(seconds)
    if condition.kind not in noises.KINDS:
        return apply(condition, nothing, fitted, key, seed).waveform
    noise = noises.make(condition.kind, len(nothing.samples), fitted, key, seed)
    level = NOMINAL_DB - (condition.value or 0.0)
    samples = (noise * 10 ** (level / 20)).astype(np.float32)
    return _fit(Waveform(samples, SPEECH_RATE)).waveform


def silence(seconds: float) -> Waveform:
    """Returns digital silence at 16 kHz."""
    return Waveform(np.zeros(max(1, round(seconds * SPEECH_RATE)), np.float32), SPEECH_RATE)
