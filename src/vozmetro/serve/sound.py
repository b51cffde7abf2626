"""Audio on the wire: the formats of the realtime protocol, and resampling as it streams."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np

from vozmetro.audio import Samples


@dataclass(frozen=True)
class Format:
    """How audio is written.

    Attributes:
        name: As the realtime protocol has it now (`audio/pcm`).
        beta: As its beta had it (`pcm16`).
        rate: Samples per second (Hz).
        width: Bytes of a sample.
    """

    name: str
    beta: str
    rate: int
    width: int

    def decode(self, data: bytes) -> Samples:
        """Returns float32 [T] in [-1, 1] from whole samples."""
        if self.width == 2:
            return np.frombuffer(data, "<i2").astype(np.float32) / np.float32(32768)
        import soundfile

        law = self.beta.removeprefix("g711_").upper()
        with io.BytesIO(data) as file:
            samples, _ = soundfile.read(
                file, dtype="float32", samplerate=self.rate, channels=1, format="RAW", subtype=law
            )
        return np.asarray(samples, np.float32)

    def encode(self, samples: Samples) -> bytes:
        """Returns float32 [T] as bytes; what is beyond [-1, 1] is cut off."""
        if self.width == 2:
            return pcm16(samples)
        import soundfile

        law = self.beta.removeprefix("g711_").upper()
        with io.BytesIO() as file:
            soundfile.write(file, np.clip(samples, -1, 1), self.rate, law, format="RAW")
            return file.getvalue()


PCM = Format("audio/pcm", "pcm16", 24_000, 2)
"""16-bit little-endian PCM at 24 kHz, the protocol's own."""
FORMATS = (
    PCM,
    Format("audio/pcmu", "g711_ulaw", 8_000, 1),
    Format("audio/pcma", "g711_alaw", 8_000, 1),
)


def pcm16(samples: Samples) -> bytes:
    """Returns float32 [T] in [-1, 1] as 16-bit little-endian PCM."""
    return np.rint(np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()


class Resampler:
    """Takes a stream from one rate to another, piece by piece (soxr, HQ).

    Args:
        source: Rate of what goes in (Hz).
        target: Rate of what comes out (Hz).
    """

    def __init__(self, source: int, target: int) -> None:
        self._stream = None
        if source != target:
            import soxr

            self._stream = soxr.ResampleStream(source, target, 1, dtype="float32", quality="HQ")

    def __call__(self, samples: Samples, last: bool = False) -> Samples:
        """Returns what is ready, float32 [T].

        Args:
            samples: The next piece, float32 [T].
            last: Nothing follows in this stream: what was held back comes too, and the next call
                begins another stream.
        """
        if self._stream is None:
            return samples
        ready = self._stream.resample_chunk(np.ascontiguousarray(samples, np.float32), last=last)
        if last:
            self._stream.clear()
        return np.asarray(ready, np.float32)
