"""Audio in the formats of OpenAI's speech, written while it is made."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from vozmetro.audio import Samples
from vozmetro.errors import InputError
from vozmetro.serve.sound import Resampler, pcm16

PCM_RATE = 24_000
"""Of raw PCM: clients of OpenAI count on it (Hz)."""
_UNKNOWN = 0xFFFFFFFF


@dataclass(frozen=True)
class Format:
    """A format.

    Attributes:
        media: Its media type.
        container: libsndfile's name for it; empty for what needs no library.
        subtype: libsndfile's name for its coding.
        rates: Rates that it can hold (Hz); empty for any.
    """

    media: str
    container: str = ""
    subtype: str = ""
    rates: tuple[int, ...] = ()


FORMATS = {
    "mp3": Format(
        "audio/mpeg", "MP3", "MPEG_LAYER_III",
        (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000),
    ),
    "opus": Format("audio/ogg", "OGG", "OPUS", (8000, 12000, 16000, 24000, 48000)),
    "flac": Format("audio/flac", "FLAC", "PCM_16"),
    "wav": Format("audio/wav"),
    "pcm": Format("audio/pcm", rates=(PCM_RATE,)),
}  # fmt: skip
"""By OpenAI's name, its default first."""


def find(name: str) -> Format:
    """Returns a format that can be written here.

    Raises:
        InputError: `serve_format`.
    """
    import soundfile

    found = FORMATS.get(name)
    if found is None or (
        found.container and found.subtype not in soundfile.available_subtypes(found.container)
    ):
        raise InputError("serve_format", given=name[:40], known=", ".join(FORMATS))
    return found


class Coder:
    """Implements `Encoder` of bytes for one answer."""

    def __init__(self, kind: Format) -> None:
        self._kind = kind
        self._plain = not kind.container

    def begin(self, rate: int) -> None:
        """See `Encoder`."""
        rates = self._kind.rates
        self._rate = rate if not rates or rate in rates else PCM_RATE
        self._resampler = Resampler(rate, self._rate)
        self._head = wav_head(self._rate) if self._kind is FORMATS["wav"] else b""
        if not self._plain:
            import soundfile

            self._tape = _Tape()
            self._file: Any = soundfile.SoundFile(
                self._tape, "w", self._rate, 1, self._kind.subtype, format=self._kind.container
            )

    def add(self, samples: Samples) -> bytes | None:
        """See `Encoder`."""
        return self._coded(self._resampler(samples)) or None

    def end(self) -> bytes | None:
        """See `Encoder`."""
        left = self._coded(self._resampler(np.zeros(0, np.float32), last=True))
        if not self._plain:
            self._file.close()
            left += self._tape.taken()
        return left or None

    def _coded(self, samples: Samples) -> bytes:
        if self._plain:
            head, self._head = self._head, b""
            return head + pcm16(samples)
        self._file.write(np.clip(samples, -1, 1))
        return self._tape.taken()


def wav_head(rate: int) -> bytes:
    """Returns the head of a WAV whose length nobody knows yet, 16 bit, mono."""
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16)
    riff = struct.pack("<4sI4s", b"RIFF", _UNKNOWN, b"WAVE")
    return riff + form + struct.pack("<4sI", b"data", _UNKNOWN)


class _Tape(io.RawIOBase):
    """A file of which what was written once is gone: it is sent.

    libsndfile goes back to the head when it closes a file, to fill in its length. That is left out:
    FLAC and MP3 say by zeros, or not at all, that the length is unknown.
    """

    def __init__(self) -> None:
        super().__init__()
        self._new: list[bytes] = []
        self._at = self._length = 0

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._length}[whence]
        self._at = start + offset
        return self._at

    def write(self, data: Any, /) -> int:
        given = bytes(data)
        fresh = given[max(0, self._length - self._at) :]
        if fresh:
            self._new.append(fresh)
        self._at += len(given)
        self._length = max(self._length, self._at)
        return len(given)

    def taken(self) -> bytes:
        """Returns what was written since the last time."""
        new, self._new = b"".join(self._new), []
        return new
