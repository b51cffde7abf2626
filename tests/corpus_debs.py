"""Small Debian packages of speech, built with the standard library."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np

SOUNDS = "usr/share/asterisk/sounds/es_MX_f_Allison/"
TEXTS = "usr/share/doc/sounds-es/core-sounds-es.txt.gz"


def tone(seconds: float = 0.5, hertz: float = 300.0, rate: int = 16_000) -> np.ndarray:
    """A tone as int16."""
    time = np.arange(round(seconds * rate)) / rate
    return (8000 * np.sin(2 * np.pi * hertz * time)).astype(np.int16)


def g722(samples: np.ndarray) -> bytes:
    from G722 import G722

    return bytes(G722(16_000, 64_000).encode(samples))


def ar(*members: tuple[str, bytes]) -> bytes:
    """An `ar` archive; an odd member is followed by a newline."""
    out = b"!<arch>\n"
    for name, data in members:
        head = f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n"
        out += head.encode() + data + b"\n" * (len(data) % 2)
    return out


def tar(files: dict[str, bytes], mode: str = "w:xz", entries: tuple[Any, ...] = ()) -> bytes:
    """A tar of files, and of entries without content."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for info in entries:
            archive.addfile(info)
    return out.getvalue()


def deb(data: bytes, name: str = "data.tar.xz") -> bytes:
    """A package with a tar of files."""
    return ar(("debian-binary", b"2.0\n"), ("control.tar.xz", b"odd"), (name, data))


def entry(sounds: bytes, texts: bytes, name: str = "prueba") -> dict[str, Any]:
    """An entry of `corpora.toml` for two packages."""
    return {
        "name": name,
        "language": "es",
        "licence": "CC0",
        "voice": "human",
        "speaker": "ella",
        "extra": "quality",
        "layout": "asterisk",
        "about": "",
        "source": "https://example.org",
        "sounds": SOUNDS,
        "transcripts": TEXTS,
        "count": 2,
        "seconds": 1.0,
        "packages": [
            {"package": package, "version": "1-1", "sha256": hashlib.sha256(data).hexdigest()}
            for package, data in (("sounds-es-g722", sounds), ("sounds-es", texts))
        ],
    }


def corpus(folder: Path, name: str = "prueba") -> dict[str, Any]:
    """Writes the packages of a corpus of three sounds into a folder; returns its entry."""
    folder.mkdir(parents=True, exist_ok=True)
    sounds = deb(
        tar(
            {
                f"./{SOUNDS}hola.g722": g722(tone(0.5)),
                f"./{SOUNDS}digits/1F.g722": g722(tone(0.4, 500)),
                f"./{SOUNDS}beep.g722": g722(tone(0.1)),
            }
        )
    )
    said = "; sonidos\nhola: ¡Hola! (tono)\ndigits/1f: una\nbeep: [tono]\n"
    texts = deb(tar({f"./{TEXTS}": gzip.compress(said.encode())}, "w:gz"), "data.tar.gz")
    (folder / "sounds-es-g722_1-1_all.deb").write_bytes(sounds)
    (folder / "sounds-es_1-1_all.deb").write_bytes(texts)
    return entry(sounds, texts, name)
