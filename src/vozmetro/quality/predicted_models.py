"""The predictors' networks, and the features that each was trained to read.

The ONNX files are those of the package `speechmos`, which is not imported: its code wants librosa
and more, undeclared. What they read is taken from its source, version 0.0.1.1:

- P.835: 9.01 s of samples at 16 kHz; three raw values, each through a polynomial.
- P.808: log-mel frames of the same samples without the last 160: 321-point Hann window, hop 160,
  centred, 120 Slaney mel bands, dB below the loudest, (dB + 40) / 40.
- PLCMOS: log magnitudes of a 512-point Hamming window, hop 256, for one simulated rater each; a
  rater is a vector of 64 normal numbers, and the mean of 15 raters is the score.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vozmetro import packages
from vozmetro.audio import SPEECH_RATE

Floats = NDArray[np.float64]
Samples = NDArray[np.float32]

PACKAGE, VERSION, EXTRA = "speechmos", "0.0.1.1", "quality"
WINDOW = int(9.01 * SPEECH_RATE)
"""Samples that DNSMOS reads at once; shorter clips are repeated until they are as long."""
RATERS = 15
_RATER_SEED = 15  # the package draws new raters each time, so that no two runs of it agree
_FILES = {
    "p835": (
        "dnsmos_models/sig_bak_ovr.onnx",
        1_157_965,
        "269fbebdb513aa23cddfbb593542ecc540284a91849ac50516870e1ac78f6edd",
    ),
    "p808": (
        "dnsmos_models/model_v8.onnx",
        224_860,
        "9246480c58567bc6affd4200938e77eef49468c8bc7ed3776d109c07456f6e91",
    ),
    "plcmos": (
        "plcmos_models/plcmos_v2.onnx",
        1_344_808,
        "c0ad3fc64ef9682b4749c0e96636b41c73b4b30bd123b9348feea06a96895286",
    ),
}
_POLYNOMIALS = {
    "dnsmos_sig": (-0.08397278, 1.22083953, 0.0052439),
    "dnsmos_bak": (-0.13166888, 1.60915514, -0.39604546),
    "dnsmos_ovrl": (-0.06766283, 1.11546468, 0.04602535),
}


def dnsmos(samples: Samples, threads: int = 1) -> dict[str, float]:
    """Returns `dnsmos_sig`, `dnsmos_bak`, `dnsmos_ovrl` and `dnsmos_p808`.

    Long clips are read in windows of 9.01 s that start one second apart, and averaged.

    Args:
        samples: Shape [T], at 16 kHz in [-1, 1]; not empty.
        threads: For one inference.

    Raises:
        MissingExtraError: The package is not installed.
        ModelError: Another version of it, or damaged files.
    """
    p835, p808 = _session("p835", threads), _session("p808", threads)
    while len(samples) < WINDOW:
        samples = np.concatenate([samples, samples])
    starts = range(0, len(samples) - WINDOW + 1, SPEECH_RATE)
    # The package counts whole seconds, and so has no window more than this.
    starts = starts[: int(len(samples) // SPEECH_RATE - 9.01) + 1]
    rows: list[list[float]] = []
    for start in starts:
        window = samples[start : start + WINDOW]
        raw = p835.run(None, {"input_1": window[None]})[0][0]
        rated = [
            float(np.polyval(p, float(x))) for p, x in zip(_POLYNOMIALS.values(), raw, strict=True)
        ]
        mel = mel_frames(window[:-160])[None]
        rows.append([*rated, float(p808.run(None, {"input_1": mel})[0][0, 0])])
    means = np.mean(rows, axis=0)
    return dict(zip((*_POLYNOMIALS, "dnsmos_p808"), map(float, means), strict=True))


def plcmos(samples: Samples, threads: int = 1, raters: Samples | None = None) -> float:
    """Returns PLCMOS, the mean over the same 15 simulated raters every time.

    Args:
        samples: Shape [T], at 16 kHz in [-1, 1]; not empty.
        threads: For one inference.
        raters: Shape [N, 64]; without them, those of a fixed seed.

    Raises:
        MissingExtraError: As `dnsmos`.
        ModelError: As `dnsmos`.
    """
    session = _session("plcmos", threads)
    frames = log_magnitudes(samples)[None, None]
    # One by one: a batch of raters takes as long, and 15 times the memory.
    scores = [
        float(session.run(None, {"degraded_audio": frames, "rater_embed": rater[None]})[0])
        for rater in (_raters() if raters is None else raters)
    ]
    return float(np.mean(scores))


def mel_frames(samples: Samples) -> Samples:
    """Returns the log-mel frames that the P.808 network reads.

    Args:
        samples: Shape [T], at 16 kHz.

    Returns:
        Shape [T // 160 + 1, 120], float32.
    """
    window, hop = 321, 160
    padded = np.pad(samples.astype(np.float64), window // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    spectrum = np.fft.rfft(frames * hann, axis=1)
    power = spectrum.real**2 + spectrum.imag**2
    # einsum without a plan is a plain loop: a product would start threads that nothing limits.
    mel = np.einsum("tf,mf->tm", power, _mel_filters(120, window), optimize=False)
    decibels = 10 * np.log10(np.maximum(mel, 1e-10))
    decibels -= max(float(decibels.max()), -100.0)
    return np.asarray((np.maximum(decibels, -80.0) + 40) / 40, np.float32)


def log_magnitudes(samples: Samples) -> Samples:
    """Returns the log spectrum that PLCMOS reads.

    Args:
        samples: Shape [T], at 16 kHz; not empty.

    Returns:
        Shape [ceil((T + 256) / 256), 257], float32.
    """
    size, hop = 512, 256
    count = -(-(len(samples) + size - hop) // hop)
    padded = np.zeros((count - 1) * hop + size)
    padded[size - hop : size - hop + len(samples)] = samples
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
    spectrum = np.fft.rfft(frames * np.hamming(size + 1)[:-1], axis=1)
    # The natural logarithm of the square of the magnitude; zeros lie 120 dB below the least.
    power = np.abs(spectrum) ** 2
    heard = power > 0
    if not heard.any():
        return np.full(power.shape, -8 * np.log(10) / 20, np.float32)
    least = np.log(power[heard].min()) - 12 * np.log(10)
    logs = np.where(heard, np.log(np.where(heard, power, 1.0)), least)
    return (logs / 20).astype(np.float32)


@cache
def _raters() -> Samples:
    drawn = np.random.default_rng(_RATER_SEED).standard_normal((RATERS, 64))
    return drawn.astype(np.float32)


@cache
def _mel_filters(bands: int, fft: int) -> Floats:
    """Triangles on Slaney's mel scale with equal areas, shape [bands, fft // 2 + 1].

    Unlike those of `audio.log_mel`, for an odd transform, whose last bin lies below half the rate.
    """
    step = np.log(6.4) / 27.0
    mels = np.linspace(0.0, 15.0 + np.log(SPEECH_RATE / 2 / 1000.0) / step, bands + 2)
    hertz = np.where(mels >= 15.0, 1000.0 * np.exp(step * (mels - 15.0)), 200.0 * mels / 3.0)
    bins = np.fft.rfftfreq(fft, 1 / SPEECH_RATE)
    rising = (bins[None, :] - hertz[:-2, None]) / (hertz[1:-1] - hertz[:-2])[:, None]
    falling = (hertz[2:, None] - bins[None, :]) / (hertz[2:] - hertz[1:-1])[:, None]
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    return np.asarray(triangles * (2.0 / (hertz[2:] - hertz[:-2]))[:, None])


@lru_cache(maxsize=8)
def _session(name: str, threads: int) -> Any:
    import onnxruntime

    inside, size, digest = _FILES[name]
    path = packages.locate(PACKAGE, VERSION, f"{PACKAGE}/{inside}", EXTRA)
    packages.verify(path, size, digest, PACKAGE, VERSION)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads, settings.inter_op_num_threads = threads, 1
    settings.log_severity_level = 3
    return onnxruntime.InferenceSession(
        path.read_bytes(), settings, providers=["CPUExecutionProvider"]
    )
