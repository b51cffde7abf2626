"""Noises of a wanted kind: white, pink, speech-shaped, babble and mains hum, at 16 kHz."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vozmetro import audio
from vozmetro.audio import SPEECH_RATE, Samples, Waveform
from vozmetro.errors import InputError
from vozmetro.speech.corpus import Utterance
from vozmetro.speech.level import active_level
from vozmetro.speech.seeded import generator

PINK_FROM = 50.0
"""Hz below which pink noise holds nothing: speech has nothing there either, and 1/f is infinite."""
TALKERS = 6
"""Voices in babble."""
HARMONICS = 20
"""Multiples of the mains frequency in hum; multiple k has 1/k of the amplitude of the first."""
FIT_SECONDS = 3600.0
"""Most speech that the spectrum is fitted to; of more, a seeded part."""
BABBLE_SECONDS = 600.0
"""Most speech that is kept in memory to make babble of."""
_FRAME = 1024
"""Samples of a frame of the long-term spectrum (64 ms: steps of 16 Hz)."""


@dataclass(frozen=True)
class Noises:
    """What the noises need to know of a corpus.

    Attributes:
        seed: Which utterances were taken where the corpus is too long for all.
        spectrum: Shape [513], power of the corpus' speech from 0 to 8 kHz, mean 1; None where
            nothing was fitted.
        voices: Utterances for babble by key, each at an active level of 0 dBov.
        fitted_utterances: How many utterances the spectrum comes from.
        fitted_seconds: How much speech that is.
    """

    seed: int = 0
    spectrum: NDArray[np.float64] | None = None
    voices: Mapping[str, Samples] = field(default_factory=dict)
    fitted_utterances: int = 0
    fitted_seconds: float = 0.0

    @classmethod
    def fitted(
        cls, utterances: Iterable[Utterance] | Mapping[str, Waveform], seed: int = 0
    ) -> Noises:
        """Fits the noises to a corpus. Its order makes no difference.

        Each utterance counts at the same active level (P.56) and by its length. The spectrum is
        Welch's estimate with Hann windows of 64 ms, half overlapping.

        Args:
            utterances: Utterances, which are read and known by `key_of`; or waveforms by key.
            seed: Which part is taken of a corpus of more than an hour.

        Raises:
            InputError: `noise_nothing` where there is no speech to fit to; those of `audio.read`.
        """
        power = np.zeros(_FRAME // 2 + 1)
        voices: dict[str, Samples] = {}
        count, length, kept = 0, 0, 0
        for key, waveform in _shuffled(utterances, seed):
            level = active_level(waveform)
            if not level.activity > 0:
                continue
            voice = waveform.samples * np.float32(10 ** (-level.db / 20))
            power += _power(voice) * len(voice)
            count, length = count + 1, length + len(voice)
            # The first are always kept, so that babble has voices however long they are.
            if kept < BABBLE_SECONDS * SPEECH_RATE or len(voices) <= TALKERS:
                voices[key], kept = voice, kept + len(voice)
            if length >= FIT_SECONDS * SPEECH_RATE:
                break
        if not power.sum() > 0:
            raise InputError("noise_nothing")
        return cls(seed, power / power.mean(), voices, count, length / SPEECH_RATE)


def key_of(utterance: Utterance) -> str:
    """Returns what an utterance is known by: its language and id, for two languages share ids."""
    return f"{utterance.language}/{utterance.id}"


def make(kind: str, length: int, noises: Noises, key: str, seed: int) -> NDArray[np.float64]:
    """Returns noise of RMS 1.

    It depends on the kind, the key and the seed, and for speech-shaped noise and babble on what
    was fitted; not on the SNR, so that one utterance meets the same noise at every SNR.

    Args:
        kind: A key of `KINDS`.
        length: Samples at 16 kHz, 1 or more.
        noises: What was fitted.
        key: Of the utterance that the noise is for; babble never holds the utterance of that key.
        seed: What the user chose.

    Returns:
        Shape [length].

    Raises:
        InputError: `noise_unfitted` or `babble_few`.
    """
    draws = generator(seed, kind, key)
    noise = KINDS[kind](length, noises, key, draws)
    rms = float(np.sqrt(np.square(noise).mean()))
    return noise / rms if rms > 0 else noise


def _shuffled(
    utterances: Iterable[Utterance] | Mapping[str, Waveform], seed: int
) -> Iterator[tuple[str, Waveform]]:
    """Yields ids and 16 kHz waveforms in an order that only the ids and the seed decide."""
    if isinstance(utterances, Mapping):
        keys = sorted(utterances)
        for at in generator(seed, "fit").permutation(len(keys)):
            key = keys[at]
            yield key, audio.resample(utterances[key], SPEECH_RATE)
        return
    listed = sorted(utterances, key=lambda each: (key_of(each), each.path))
    for at in generator(seed, "fit").permutation(len(listed)):
        yield key_of(listed[at]), audio.read(listed[at].path, SPEECH_RATE)


def _power(samples: Samples) -> NDArray[np.float64]:
    """Returns the mean power spectrum, shape [_FRAME // 2 + 1]."""
    from scipy.signal import welch

    padded = np.pad(samples, (0, max(0, _FRAME - len(samples))))
    found = welch(padded, SPEECH_RATE, nperseg=_FRAME, detrend=False)[1]
    # One-sided density: the ends stand for one frequency, the others for two.
    found = np.asarray(found, dtype=np.float64)
    found[[0, -1]] *= 2
    return found


def _shaped(
    length: int,
    draws: np.random.Generator,
    gain: Callable[[NDArray[np.float64]], NDArray[np.float64]],
) -> NDArray[np.float64]:
    """Returns Gaussian noise whose amplitude spectrum follows `gain(hertz)`."""
    from scipy import fft

    # At least a second, so that the lowest frequencies exist; a length that is fast to transform.
    size = fft.next_fast_len(max(length, SPEECH_RATE), real=True)
    hertz = fft.rfftfreq(size, 1 / SPEECH_RATE)
    spectrum = fft.rfft(draws.standard_normal(size, dtype=np.float32)) * gain(hertz)
    return np.asarray(fft.irfft(spectrum, size)[:length], dtype=np.float64)


def _white(
    length: int, noises: Noises, key: str, draws: np.random.Generator
) -> NDArray[np.float64]:
    return draws.standard_normal(length)


def _pink(length: int, noises: Noises, key: str, draws: np.random.Generator) -> NDArray[np.float64]:
    def gain(hertz: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(hertz >= PINK_FROM, 1 / np.sqrt(np.maximum(hertz, PINK_FROM)), 0.0)

    return _shaped(length, draws, gain)


def _speech_shaped(
    length: int, noises: Noises, key: str, draws: np.random.Generator
) -> NDArray[np.float64]:
    if noises.spectrum is None:
        raise InputError("noise_unfitted", kind="ssn")
    # Between its points in dB: linearly, the steep edge below the voice would become a plateau.
    decibels = 10 * np.log10(np.maximum(noises.spectrum, noises.spectrum.max() * 1e-12))
    known = np.linspace(0, SPEECH_RATE / 2, len(decibels))
    return _shaped(length, draws, lambda hertz: 10 ** (np.interp(hertz, known, decibels) / 20))


def _babble(
    length: int, noises: Noises, key: str, draws: np.random.Generator
) -> NDArray[np.float64]:
    others = [name for name in sorted(noises.voices) if name != key]
    if len(others) < 2:
        raise InputError(
            "babble_few" if noises.spectrum is not None else "noise_unfitted", kind="babble"
        )
    # Each talker begins with another utterance, as far as there are enough, anywhere within it.
    queue = draws.permutation(len(others))
    total = np.zeros(length)
    for talker in range(min(TALKERS, len(others))):
        at = 0
        turn = talker
        while at < length:
            voice = noises.voices[others[queue[turn % len(queue)]]]
            start = int(draws.integers(len(voice))) if at == 0 else 0
            part = voice[start : start + length - at]
            total[at : at + len(part)] += part
            at, turn = at + len(part), turn + TALKERS
    return total


def _hum(frequency: int, length: int, draws: np.random.Generator) -> NDArray[np.float64]:
    # All its frequencies are whole numbers of hertz: one second holds it, over and over.
    spectrum = np.zeros(SPEECH_RATE // 2 + 1, dtype=np.complex128)
    order = np.arange(1, HARMONICS + 1)
    spectrum[frequency * order] = np.exp(2j * np.pi * draws.random(HARMONICS)) / order
    return np.resize(np.fft.irfft(spectrum, SPEECH_RATE), length)


def _hum_50(
    length: int, noises: Noises, key: str, draws: np.random.Generator
) -> NDArray[np.float64]:
    return _hum(50, length, draws)


def _hum_60(
    length: int, noises: Noises, key: str, draws: np.random.Generator
) -> NDArray[np.float64]:
    return _hum(60, length, draws)


KINDS: Mapping[str, Callable[[int, Noises, str, np.random.Generator], NDArray[np.float64]]] = {
    "white": _white,
    "pink": _pink,
    "ssn": _speech_shaped,
    "babble": _babble,
    "hum": _hum_50,
    "hum60": _hum_60,
}
"""Makers by the name that a user writes: (length, noises, key, draws) -> shape [length]."""
FITTED = frozenset({"ssn", "babble"})
"""Kinds that need a corpus to be fitted to."""
