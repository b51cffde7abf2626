"""What networks and models of hearing predict that listeners would say of speech.

A prediction is no listener: every name shown says that it is predicted, or what it compares.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vozmetro.audio import SPEECH_RATE, Waveform, resample
from vozmetro.errors import InputError, MissingExtraError
from vozmetro.quality import predicted_models as models

LEAST_SECONDS = 0.25
"""Shorter clips are refused: repeated to the length that DNSMOS reads, they would be a buzz."""
VISQOL_SECONDS = 8.0
"""ViSQOL compares at most so much of a clip: its cost grows with the square of the length."""
_LONGEST_LAG = 0.5
_SILENT = 1e-5  # peak: below the last bit of 16


@dataclass(frozen=True)
class Metric:
    """One figure about the quality of speech.

    Attributes:
        key: In records.
        name: As shown to users, in 20 characters so that tables hold it; never "MOS" alone.
        low: Least value.
        high: Greatest value, the best.
        needs_reference: Whether it compares with the clean recording.
        source: Where it is defined.
        caution: What it cannot tell.
    """

    key: str
    name: str
    low: float
    high: float
    needs_reference: bool
    source: str
    caution: str


_P835 = "Reddy et al., DNSMOS P.835, ICASSP 2022"
METRICS: tuple[Metric, ...] = (
    Metric(
        "dnsmos_sig", "DNSMOS SIG (pred.)", 1, 5, False, _P835,
        "distortion of the speech after noise suppression; not naturalness, not the words",
    ),
    Metric(
        "dnsmos_bak", "DNSMOS BAK (pred.)", 1, 5, False, _P835,
        "how little the background disturbs; says nothing of the voice",
    ),
    Metric(
        "dnsmos_ovrl", "DNSMOS OVRL (pred.)", 1, 5, False, _P835,
        "after noise suppression; a formant synthesiser came within half a point of a human reader",
    ),
    Metric(
        "dnsmos_p808", "DNSMOS P.808 (pred.)", 1, 5, False,
        "Reddy et al., DNSMOS, ICASSP 2021",
        "noise, not naturalness: a formant synthesiser came within half a point of a human reader",
    ),
    Metric(
        "plcmos", "PLCMOS (pred.)", 1, 5, False,
        "Diener et al., PLCMOS, Interspeech 2023",
        "lost packets and how they are concealed; not noise, not naturalness",
    ),
    Metric(
        "stoi", "STOI", 0, 1, True,
        "Taal et al., IEEE TASLP 19(7), 2011",
        "intelligibility in noise by envelopes; deaf to the pitch and to unnatural timbre",
    ),
    Metric(
        "estoi", "ESTOI", 0, 1, True,
        "Jensen and Taal, IEEE/ACM TASLP 24(11), 2016",
        "as STOI, also for noise that comes and goes",
    ),
    Metric(
        "visqol", "ViSQOL (pred.)", 1, 5, True,
        "Chinen et al., ViSQOL v3, QoMEX 2020",
        "likeness to this recording; another good reading of the same words scores low; the"
        " polynomial mapping rates damaged speech higher than ViSQOL's default one",
    ),
)  # fmt: skip
"""Every metric, in the order to show them."""


def predict(waveform: Waveform, threads: int = 1) -> dict[str, float]:
    """Returns what listeners are predicted to rate, without a reference.

    Args:
        waveform: Speech of at least a quarter of a second, at any rate; it is resampled to 16 kHz
            and clipped to [-1, 1].
        threads: For one inference.

    Returns:
        By key (`METRICS`): `dnsmos_sig`, `dnsmos_bak`, `dnsmos_ovrl`, `dnsmos_p808`, `plcmos`.
        The same samples give the same figures.

    Raises:
        InputError: `speech_not_finite`, `speech_too_short` or `speech_silent`.
        MissingExtraError: speechmos is not installed.
        ModelError: Another version of it, or damaged files.
    """
    samples = checked(waveform)
    return {**models.dnsmos(samples, threads), "plcmos": models.plcmos(samples, threads)}


def against(reference: Waveform, degraded: Waveform, *, visqol: bool = True) -> dict[str, float]:
    """Returns how alike a recording and its degraded version are.

    A delay of up to half a second between them is found by correlation and taken out, and the
    longer one is cut: both hold the same words at the same pace, or the figures mean nothing.

    Args:
        reference: The clean recording.
        degraded: What became of it.
        visqol: Whether to compute ViSQOL, which takes about as long as the speech lasts; of longer
            clips it compares the first `VISQOL_SECONDS`.

    Returns:
        By key (`METRICS`): `stoi`, `estoi`, `visqol`. What a clip is too short for (STOI: 0.4 s
        of speech; ViSQOL: 1 s) is left out.

    Raises:
        InputError: As `predict`.
        MissingExtraError: pystoi or visqol-python is not installed.
    """
    clean, changed = aligned(checked(reference), checked(degraded))
    scores = _stoi(clean, changed)
    if visqol and len(clean) >= SPEECH_RATE:
        most = int(VISQOL_SECONDS * SPEECH_RATE)
        value = _visqol(clean[:most], changed[:most])
        if math.isfinite(value):
            scores["visqol"] = value
    return scores


def checked(waveform: Waveform) -> NDArray[np.float32]:
    """Returns speech at 16 kHz within [-1, 1], shape [T], float32.

    Raises:
        InputError: `speech_not_finite`, `speech_too_short` or `speech_silent`.
    """
    samples = waveform.samples
    if samples.ndim != 1 or not np.isfinite(samples).all():
        raise InputError("speech_not_finite")
    if waveform.seconds < LEAST_SECONDS:
        raise InputError("speech_too_short", seconds=f"{waveform.seconds:.2f}", least=LEAST_SECONDS)
    if float(np.abs(samples).max()) < _SILENT:
        raise InputError("speech_silent")
    # Before resampling, which overflows on numbers near the largest float, and after it.
    bounded = Waveform(np.clip(samples, -1.0, 1.0), waveform.rate)
    at_rate = resample(bounded, SPEECH_RATE).samples
    return np.clip(at_rate, -1.0, 1.0).astype(np.float32)


def aligned(
    reference: NDArray[np.float32], degraded: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Returns both without the delay between them, at equal length.

    The delay is where their correlation is greatest, up to half a second (or a quarter of the
    shorter one) either way.

    Args:
        reference: Shape [T], at 16 kHz.
        degraded: Shape [U], at 16 kHz.
    """
    from scipy.signal import correlate, correlation_lags

    strength = np.abs(correlate(degraded, reference, method="fft"))
    lags = correlation_lags(len(degraded), len(reference))
    most = min(_LONGEST_LAG * SPEECH_RATE, min(len(reference), len(degraded)) / 4)
    near = np.abs(lags) <= most
    lag = int(lags[near][int(strength[near].argmax())])
    clean, changed = (reference, degraded[lag:]) if lag >= 0 else (reference[-lag:], degraded)
    length = min(len(clean), len(changed))
    return clean[:length], changed[:length]


def _stoi(clean: NDArray[np.float32], changed: NDArray[np.float32]) -> dict[str, float]:
    import warnings

    _need("pystoi", "pystoi")
    from pystoi import stoi

    x, y = clean.astype(np.float64), changed.astype(np.float64)
    scores = {}
    with warnings.catch_warnings():
        # Without 30 frames of speech it warns and returns 1e-5, which would read as a score.
        warnings.filterwarnings("error", "Not enough STFT frames", RuntimeWarning)
        for key, extended in (("stoi", False), ("estoi", True)):
            try:
                # Extended scores are random in the digits where a band is silent: seeded.
                scores[key] = _seeded(lambda e=extended: stoi(x, y, SPEECH_RATE, extended=e))
            except RuntimeWarning:
                return {}
    return {key: value for key, value in scores.items() if math.isfinite(value)}


def _seeded(work: Any) -> float:
    """Runs what draws from numpy's shared generator, which is left as it was."""
    state = np.random.get_state()
    np.random.seed(0)
    try:
        return float(work())
    finally:
        np.random.set_state(state)


def _visqol(clean: NDArray[np.float32], changed: NDArray[np.float32]) -> float:
    found = _visqol_api().measure_from_arrays(
        clean.astype(np.float64), changed.astype(np.float64), SPEECH_RATE
    )
    return float(found.moslqo)


@lru_cache(maxsize=1)
def _visqol_api() -> Any:
    _need("visqol", "visqol-python")
    from visqol import VisqolApi

    api = VisqolApi()
    # Named, because otherwise what else is installed would decide which mapping is used.
    api.create(mode="speech", use_lattice_model=False)
    return api


def _need(module: str, package: str) -> None:
    if find_spec(module) is None:
        raise MissingExtraError(models.EXTRA, package)
