"""What lines do to speech: the telephone's band and code, a low rate, clipping, lost packets."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vozmetro import audio
from vozmetro.audio import Samples, Waveform
from vozmetro.speech.level import active_level

TELEPHONE_RATE = 8_000
"""Samples per second on the telephone network (Hz)."""
TELEPHONE_BAND = (300.0, 3400.0)
"""Pass band of the telephone (Hz)."""
FRAME_SECONDS = 0.02
"""Speech in one packet."""
MEAN_BURST = 2.0
"""Packets that are lost in a row, on average."""
_BIAS, _CLIP = 132, 32_635


def telephone(waveform: Waveform) -> Waveform:
    """Returns speech as a telephone line gives it: 300-3400 Hz, 8 kHz, mu-law and back.

    The band is an elliptic filter of order 8 (0.5 dB ripple, 45 dB down outside). The level is
    left as it is: quiet speech meets coarser steps of the code, as on a real line.

    Args:
        waveform: Any rate; the result has the same rate and length.
    """
    from scipy.signal import ellip, sosfilt

    narrow = audio.resample(waveform, TELEPHONE_RATE)
    filters = ellip(8, 0.5, 45, TELEPHONE_BAND, "bandpass", fs=TELEPHONE_RATE, output="sos")
    heard = mu_law_decode(mu_law_encode(sosfilt(filters, narrow.samples)))
    return _back(Waveform(heard.astype(np.float32), TELEPHONE_RATE), waveform)


def half_rate(waveform: Waveform) -> Waveform:
    """Returns speech that went through 8 kHz: nothing above 4 kHz, the rest as it was."""
    return _back(audio.resample(waveform, TELEPHONE_RATE), waveform)


def mu_law_encode(samples: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Codes samples in [-1, 1] as G.711 mu-law bytes (ITU-T G.711, table 2a).

    A byte holds the inverted sign, segment (3 bits) and step within the segment (4 bits), of the
    magnitude on a scale of 16 bits with its bias of 132 added.
    """
    scaled = np.rint(np.clip(samples, -1, 1) * 32_768).astype(np.int32)
    biased = np.minimum(np.abs(scaled), _CLIP) + _BIAS
    # The bias makes the smallest 132, so the leading bit is bit 7 to 14.
    segment = np.frexp(biased.astype(np.float64))[1] - 8
    step = (biased >> (segment + 3)) & 0x0F
    sign = np.where(scaled < 0, 0x80, 0)
    return np.asarray(~(sign | (segment << 4) | step) & 0xFF, dtype=np.uint8)


def mu_law_decode(code: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Returns the samples in [-1, 1] that G.711 mu-law bytes stand for."""
    inverted = ~code.astype(np.int32) & 0xFF
    segment, step = (inverted >> 4) & 0x07, inverted & 0x0F
    magnitude = (((step << 3) + _BIAS) << segment) - _BIAS
    return np.where(inverted & 0x80, -magnitude, magnitude) / 32_768


def clip(waveform: Waveform, percent: float) -> Waveform:
    """Returns speech cut at the level that a share of its active part exceeds.

    Pauses do not count (P.56 activity), so that they do not change what clipping means.

    Args:
        waveform: Speech.
        percent: Share of the active samples that are cut, in percent.
    """
    activity = active_level(waveform).activity
    magnitude = np.abs(waveform.samples)
    cut = round(len(magnitude) * activity * percent / 100)
    if cut < 1:
        return waveform
    limit = np.partition(magnitude, -cut - 1)[-cut - 1] if cut < len(magnitude) else 0.0
    return Waveform(np.clip(waveform.samples, -limit, limit), waveform.rate)


def lose_packets(waveform: Waveform, percent: float, draws: np.random.Generator) -> Waveform:
    """Returns speech of which packets of 20 ms are lost, with silence in their place.

    Losses come in bursts by Gilbert's model (Gilbert 1960): a chain of two states that leaves
    "lost" with probability 1/2 (bursts of 2 packets on average) and enters it so often that the
    wanted share is lost in the long run. Nothing conceals the gaps: the worst that a line does.

    Args:
        waveform: Speech.
        percent: Share of packets lost in the long run, in percent, below 100. Short utterances
            lose more or less than that.
        draws: Where the losses come from.
    """
    frame = round(FRAME_SECONDS * waveform.rate)
    lost = losses(-(-len(waveform.samples) // frame), percent / 100, draws)
    kept = np.repeat(~lost, frame)[: len(waveform.samples)]
    return Waveform(waveform.samples * kept, waveform.rate)


def losses(frames: int, share: float, draws: np.random.Generator) -> NDArray[np.bool_]:
    """Returns which of `frames` packets are lost, shape [frames]."""
    leave = 1 / MEAN_BURST
    # In balance, as many bursts begin as end: enter * (1 - share) = leave * share. Above 2/3 the
    # bursts must be longer than the mean, since a burst cannot begin more than always.
    enter = leave * share / (1 - share)
    if enter > 1:
        enter, leave = 1.0, (1 - share) / share
    chances = draws.random(frames)
    lost = np.zeros(frames, dtype=np.bool_)
    now = bool(draws.random() < share)
    for at in range(frames):
        lost[at] = now
        now = bool(chances[at] >= leave) if now else bool(chances[at] < enter)
    return lost


def _back(waveform: Waveform, original: Waveform) -> Waveform:
    """Returns a waveform at the rate and of the length of the original."""
    wide: Samples = audio.resample(waveform, original.rate).samples[: len(original.samples)]
    missing = len(original.samples) - len(wide)
    return Waveform(np.pad(wide, (0, missing)) if missing else wide, original.rate)
