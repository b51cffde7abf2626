"""Words with their place in time: SubRip, WebVTT, and OpenAI's segments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vozmetro.serve.work import Heard


def srt(parts: Sequence[Heard]) -> str:
    """Returns SubRip."""
    cues = enumerate(_spoken(parts), 1)
    return "".join(f"{n}\n{_cue(part, ',')}\n{part.text}\n\n" for n, part in cues)


def vtt(parts: Sequence[Heard]) -> str:
    """Returns WebVTT (W3C); what would be markup in it is written as such text."""
    cues = (f"{_cue(part, '.')}\n{_escaped(part.text)}\n\n" for part in _spoken(parts))
    return "WEBVTT\n\n" + "".join(cues)


def segments(parts: Sequence[Heard]) -> list[dict[str, Any]]:
    """Returns OpenAI's segments. What this server does not measure is 0, and no tokens are told."""
    return [
        {
            "id": n, "seek": 0, "start": round(part.start, 3), "end": round(part.end, 3),
            "text": part.text, "tokens": [], "temperature": 0.0, "avg_logprob": 0.0,
            "compression_ratio": 0.0, "no_speech_prob": 0.0,
        }
        for n, part in enumerate(_spoken(parts))
    ]  # fmt: skip


def _spoken(parts: Sequence[Heard]) -> list[Heard]:
    return [part for part in parts if part.text]


def _cue(part: Heard, point: str) -> str:
    return f"{_clock(part.start, point)} --> {_clock(part.end, point)}"


def _clock(seconds: float, point: str) -> str:
    whole, ms = divmod(round(seconds * 1000), 1000)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}{point}{ms:03}"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
