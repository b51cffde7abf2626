"""Raw PCM of any common kind to what speech models listen to, piece by piece."""

from __future__ import annotations

import numpy as np

from vozmetro.audio import SPEECH_RATE, Samples
from vozmetro.errors import InputError
from vozmetro.serve.sound import Resampler

RATES = range(4_000, 384_001)
WIDTHS = (1, 2, 3, 4)
CHANNELS = range(1, 9)


class Pcm:
    """A stream of raw PCM, little-endian and interleaved; 8 bit is unsigned, as in WAV.

    Args:
        rate: Samples per second and channel (Hz).
        width: Bytes of a sample.
        channels: Channels, which are averaged.

    Raises:
        InputError: `serve_pcm` for what is none of these.
    """

    def __init__(self, rate: object, width: object, channels: object) -> None:
        right = _is_in(rate, RATES) and _is_in(width, WIDTHS) and _is_in(channels, CHANNELS)
        if not right:
            given = f"{rate} Hz, {width} B, {channels} ch"
            raise InputError("serve_pcm", given=given[:80])
        self.kind = (int(str(rate)), int(str(width)), int(str(channels)))
        self._frame = self.kind[1] * self.kind[2]
        self._left = b""
        self._resampler = Resampler(self.kind[0], SPEECH_RATE)
        self.seconds = 0.0

    def add(self, data: bytes) -> Samples:
        """Returns what is ready, float32 mono [T] at 16 kHz; a frame that is cut waits."""
        data = self._left + data
        whole = len(data) - len(data) % self._frame
        self._left = data[whole:]
        rate, width, channels = self.kind
        self.seconds += whole / self._frame / rate
        samples = _floats(data[:whole], width).reshape(-1, channels)
        return self._resampler(samples.mean(axis=1, dtype=np.float32))

    def end(self) -> Samples:
        """Returns what resampling held back."""
        return self._resampler(np.zeros(0, np.float32), last=True)


def _is_in(value: object, known: range | tuple[int, ...]) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value in known


def _floats(data: bytes, width: int) -> Samples:
    if width == 1:
        return (np.frombuffer(data, np.uint8).astype(np.float32) - 128) / np.float32(128)
    if width == 3:
        # As the upper three bytes of four.
        wide = np.zeros((len(data) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        data, width = wide.tobytes(), 4
    kind = "<i2" if width == 2 else "<i4"
    whole = np.float32(1 << (8 * width - 1))
    return np.asarray(np.frombuffer(data, kind) / whole, np.float32)
