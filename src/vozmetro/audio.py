"""Waveforms: float32 mono in [-1, 1] with a sample rate; reading, resampling, log-mel frames."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vozmetro.errors import InputError

Samples = NDArray[np.float32]

SPEECH_RATE = 16_000
"""Sample rate (Hz) at which speech models listen."""
MEL_HOP = 160
"""Samples at 16 kHz between log-mel frames (10 ms)."""
MEL_WINDOW = 400
"""Samples at 16 kHz of a frame's window (25 ms)."""


@dataclass(frozen=True)
class Waveform:
    """A mono recording.

    Attributes:
        samples: Shape [T], float32 in [-1, 1].
        rate: Samples per second (Hz).
    """

    samples: Samples
    rate: int

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.rate


def read(path: Path, rate: int = SPEECH_RATE) -> Waveform:
    """Reads a sound file (WAV, FLAC and whatever libsndfile knows) as mono at `rate` Hz.

    Channels are averaged; other rates are resampled with soxr at its HQ setting.

    Raises:
        InputError: `file_missing`, `not_audio` or `empty_audio`.
    """
    import soundfile

    if not path.is_file():
        raise InputError("file_missing", path=path)
    try:
        data, source_rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise InputError("not_audio", path=path, detail=error) from error
    if len(data) == 0:
        raise InputError("empty_audio", path=path)
    mono = data.mean(axis=1, dtype=np.float32)
    return resample(Waveform(mono, int(source_rate)), rate)


def resample(waveform: Waveform, rate: int) -> Waveform:
    """Returns the waveform at `rate` Hz (soxr, HQ)."""
    if waveform.rate == rate:
        return waveform
    import soxr

    samples = soxr.resample(waveform.samples, waveform.rate, rate)
    return Waveform(np.asarray(samples, dtype=np.float32), rate)


def synthetic_speech(seconds: float, seed: int = 0, rate: int = SPEECH_RATE) -> Waveform:
    """Returns a seeded stand-in for speech, for graphs that are timed without a corpus.

    Harmonics of a moving pitch under a 4 Hz syllable envelope plus noise: energy where speech has
    it, so that a model does speech-like work. It is not speech, and reports label it so.
    """
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    pitch = 130 + 25 * np.sin(2 * np.pi * 0.6 * time)
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    voice = sum(np.sin(k * phase + rng.uniform(0, 6.28)) / k for k in range(1, 16))
    envelope = 0.55 + 0.45 * np.sin(2 * np.pi * 4 * time + rng.uniform(0, 6.28))
    signal = np.asarray(voice, dtype=np.float64) * envelope + 0.05 * rng.standard_normal(len(time))
    peak = float(np.abs(signal).max(initial=1e-9))
    return Waveform((0.5 * signal / peak).astype(np.float32), rate)


@cache
def _mel_filters(bands: int, fft: int, rate: int) -> NDArray[np.float64]:
    """Triangular mel filters, Slaney scale and area norm, shape [bands, fft // 2 + 1]."""
    # Slaney's mel scale: linear below 1 kHz, logarithmic above (Auditory Toolbox, 1998).
    step = np.log(6.4) / 27.0

    def to_mel(hertz: float) -> float:
        return 15.0 + np.log(hertz / 1000.0) / step if hertz >= 1000 else 3.0 * hertz / 200.0

    mels = np.linspace(0.0, to_mel(rate / 2), bands + 2)
    hertz = np.where(mels >= 15.0, 1000.0 * np.exp(step * (mels - 15.0)), 200.0 * mels / 3.0)
    bins = np.linspace(0.0, rate / 2, fft // 2 + 1)
    rising = (bins[None, :] - hertz[:-2, None]) / (hertz[1:-1] - hertz[:-2])[:, None]
    falling = (hertz[2:, None] - bins[None, :]) / (hertz[2:] - hertz[1:-1])[:, None]
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    return np.asarray(triangles * (2.0 / (hertz[2:] - hertz[:-2]))[:, None])


@cache
def _mel_sums(
    bands: int, fft: int, rate: int
) -> tuple[NDArray[np.intp], NDArray[np.float32], NDArray[np.intp]]:
    """The same filters without their zeros: bins, their weights, and where each band begins."""
    filters = _mel_filters(bands, fft, rate)
    # Of 128 bands, the narrowest hold no bin: they are given one, with its weight of 0.
    used = [np.flatnonzero(row) if row.any() else np.array([0]) for row in filters]
    weights = np.concatenate([row[bins] for row, bins in zip(filters, used, strict=True)])
    starts = np.cumsum([0, *(len(bins) for bins in used[:-1])])
    return np.concatenate(used), weights.astype(np.float32), starts


def log_mel(waveform: Waveform, bands: int = 80) -> Samples:
    """Returns log-mel frames as Whisper defines them (Radford et al. 2022).

    25 ms Hann window, 10 ms hop, log10 floored at 8 below the maximum, scaled by (x + 4) / 4. In
    float32, and without a matrix product, for which numpy would start threads that no option of
    vozmetro limits and that fight with those of the model.

    Args:
        waveform: Any length, at 16 kHz.
        bands: Mel bands, 80 or 128.

    Returns:
        Shape [bands, T // 160], float32.
    """
    samples = waveform.samples.astype(np.float32, copy=False)
    padded = np.pad(samples, MEL_WINDOW // 2, mode="reflect")
    return whisper_scaled(mel_powers(padded, bands)[:, : len(samples) // MEL_HOP])


def mel_powers(samples: Samples, bands: int = 80) -> Samples:
    """Returns log10 of the mel powers of 25 ms Hann windows, every 10 ms, floored at 1e-10.

    Args:
        samples: At 16 kHz; the first window begins with the first of them.
        bands: Mel bands, 80 or 128.

    Returns:
        Shape [bands, whole windows], float32.
    """
    windows = np.lib.stride_tricks.sliding_window_view(samples, MEL_WINDOW)[::MEL_HOP]
    spectrum = np.fft.rfft(windows * np.hanning(MEL_WINDOW + 1)[:-1].astype(np.float32), axis=1)
    power = np.ascontiguousarray((spectrum.real**2 + spectrum.imag**2).T)
    bins, weights, starts = _mel_sums(bands, MEL_WINDOW, SPEECH_RATE)
    mel = np.add.reduceat(power[bins] * weights[:, None], starts, axis=0)
    return np.asarray(np.log10(np.maximum(mel, np.float32(1e-10))), dtype=np.float32)


def whisper_scaled(powers: Samples, top: float | None = None) -> Samples:
    """Returns log10 powers floored at 8 below `top` (their maximum) and scaled by (x + 4) / 4."""
    if top is None:
        top = float(powers.max(initial=-10.0))
    return np.asarray((np.maximum(powers, top - 8.0) + 4.0) / 4.0, dtype=np.float32)
