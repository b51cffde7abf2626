"""The sounds of a test: matched in loudness, low-passed, spoilt, and the tones for the check."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vozmetro import audio
from vozmetro.audio import Waveform
from vozmetro.errors import InputError, MissingExtraError

LOUDNESS = -23.0
"""Level to which clips are brought (LUFS, EBU R 128) where their peaks allow it."""
PEAK_DB = -1.0
"""No sample of a clip exceeds this (dBFS)."""
LEAST_SECONDS, MOST_SECONDS = 0.1, 60.0
LEAST_RATE, MOST_RATE = 8000, 48_000
MOST_FILE_BYTES = 64 << 20
TONE_RATE = 44_100
TONES_PER_ROUND = 3
_BLOCK_SECONDS = 0.4


def read(path: Path) -> Waveform:
    """Reads a clip as mono at its own rate, 48 kHz at most.

    Raises:
        InputError: `not_audio`, `empty_audio`, `listen_clip_size`, `listen_clip_length` or
            `listen_clip_rate`.
    """
    import soundfile

    if path.stat().st_size > MOST_FILE_BYTES:
        raise InputError("listen_clip_size", path=path, most=MOST_FILE_BYTES >> 20)
    try:
        info = soundfile.info(path)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise InputError("not_audio", path=path, detail=error) from error
    # Before it is decoded: a small FLAC file can hold hours of silence.
    seconds = info.frames / info.samplerate
    if not LEAST_SECONDS <= seconds <= MOST_SECONDS:
        raise InputError(
            "listen_clip_length", path=path, least=LEAST_SECONDS, most=f"{MOST_SECONDS:g}"
        )
    if info.samplerate < LEAST_RATE or info.channels > 8:
        raise InputError("listen_clip_rate", path=path, least=LEAST_RATE)
    return audio.read(path, min(int(info.samplerate), MOST_RATE))


def loudness(waveform: Waveform) -> float:
    """Returns integrated loudness in LUFS (ITU-R BS.1770-4, pyloudnorm), -inf for silence.

    Clips shorter than the 0.4 s of a gating block are measured repeated, because the
    recommendation says nothing of them.

    Raises:
        MissingExtraError: pyloudnorm is not installed.
    """
    try:
        import pyloudnorm
    except ModuleNotFoundError as error:
        raise MissingExtraError("listen", "pyloudnorm") from error
    samples = waveform.samples.astype(np.float64)
    block = int(np.ceil(_BLOCK_SECONDS * waveform.rate)) + 1
    if len(samples) < block:
        samples = np.tile(samples, -(-block // len(samples)))
    with warnings.catch_warnings():
        # Silence has no loudness: it is answered with -inf and numpy's "mean of empty slice".
        warnings.simplefilter("ignore", category=RuntimeWarning)
        return float(pyloudnorm.Meter(waveform.rate).integrated_loudness(samples))


def matched(clips: Mapping[str, Waveform]) -> tuple[dict[str, Waveform], float]:
    """Brings clips to one loudness: -23 LUFS, or less where a peak would not fit.

    Returns:
        The clips by the same names, and their loudness in LUFS.

    Raises:
        InputError: `listen_clip_silent`.
        MissingExtraError: As for `loudness`.
    """
    levels = {name: loudness(clip) for name, clip in clips.items()}
    target = LOUDNESS
    for name, level in levels.items():
        if not np.isfinite(level):
            raise InputError("listen_clip_silent", path=name.replace("\0", "/"))
        peak = 20 * np.log10(max(float(np.abs(clips[name].samples).max()), 1e-9))
        # One peak lowers all clips alike: lowered alone, it would be quieter than the others.
        target = min(target, PEAK_DB - (peak - level))
    return {
        name: _scaled(clip, 10 ** ((target - levels[name]) / 20)) for name, clip in clips.items()
    }, float(target)


def _scaled(clip: Waveform, gain: float) -> Waveform:
    return Waveform((clip.samples * np.float32(gain)).astype(np.float32), clip.rate)


def low_passed(clip: Waveform, cutoff: float) -> Waveform:
    """Returns a MUSHRA anchor: the reference low-passed (ITU-R BS.1534).

    A linear-phase FIR filter by the Kaiser window: flat up to the cut-off within 0.1 dB, and 60 dB
    down from one seventh above it (4 kHz for 3.5 kHz, 8 kHz for 7 kHz).

    Args:
        clip: At a rate above 16/7 of the cut-off, else there is nothing to take away.
        cutoff: In Hz.

    Raises:
        InputError: `listen_anchor_rate`.
    """
    from scipy.signal import fftconvolve, firwin, kaiserord

    nyquist = clip.rate / 2
    stop = cutoff * 8 / 7
    if stop > nyquist:
        raise InputError("listen_anchor_rate", rate=clip.rate, least=round(2 * stop))
    taps, beta = kaiserord(60.0, (stop - cutoff) / nyquist)
    filtered = firwin(taps | 1, (cutoff + stop) / 2, window=("kaiser", beta), fs=clip.rate)
    out = fftconvolve(clip.samples.astype(np.float64), filtered, mode="same")
    return Waveform(out.astype(np.float32), clip.rate)


def spoilt(clip: Waveform, seed: int) -> Waveform:
    """Returns a clip that nobody takes for a good one: the modulated noise of ITU-T P.810.

    The noise follows the speech, at equal power (Q = 0 dB), far below what any codec does to it.
    """
    noise = np.random.default_rng(seed).standard_normal(len(clip.samples))
    return Waveform((clip.samples * (1 + noise)).astype(np.float32), clip.rate)


def wav_bytes(samples: NDArray[np.float32], rate: int) -> bytes:
    """Returns a 16-bit WAV file.

    Args:
        samples: Shape [T] or [T, channels], in [-1, 1].
        rate: In Hz.
    """
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


def check_tones(quietest: int, turned: int) -> bytes:
    """Returns one round of the headphone check as stereo WAV: three tones, one of them quieter.

    Over headphones the quietest is plain to hear. Over loudspeakers another one, whose channels
    have opposite signs, cancels itself out and seems to be quieter (Woods et al. 2017, Atten.
    Percept. Psychophys. 79).

    Args:
        quietest: Which of the three (0 to 2) is 6 dB below the others.
        turned: Which one has opposite channels; another one.
    """
    length = int(0.6 * TONE_RATE)
    time = np.arange(length) / TONE_RATE
    fade = np.minimum(1, np.minimum(time, time[::-1]) / 0.05)
    tone = 0.12 * np.sin(2 * np.pi * 200 * time) * fade
    gap = np.zeros((int(0.25 * TONE_RATE), 2))
    parts = [gap]
    for place in range(TONES_PER_ROUND):
        left = tone * (0.5 if place == quietest else 1.0)
        parts += [np.stack([left, -left if place == turned else left], axis=1), gap]
    return wav_bytes(np.concatenate(parts).astype(np.float32), TONE_RATE)
