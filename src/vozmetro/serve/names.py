"""Names of models: those of the tiers, and the usual ones of OpenAI's for the default tier."""

from __future__ import annotations

from vozmetro.errors import InputError
from vozmetro.pipeline.tiers import Tiers

USUAL = (
    "whisper-1", "gpt-4o-transcribe", "gpt-4o-mini-transcribe", "tts-1", "tts-1-hd",
    "gpt-4o-mini-tts",
)  # fmt: skip
"""What programs ask for that were written for OpenAI; the default tier stands in."""


def usual(name: str) -> bool:
    """Returns whether a name is OpenAI's; dated ones (`gpt-4o-mini-tts-2025-03-20`) too."""
    return any(name == one or name.startswith(f"{one}-20") for one in USUAL)


def known(tiers: Tiers) -> list[str]:
    """Returns the names to list, those of the tiers first."""
    return [*tiers.names, *(name for name in USUAL if name not in tiers.names)]


def tier_of(name: str, tiers: Tiers) -> str:
    """Returns the tier that a model's name means, empty for the default.

    Raises:
        InputError: `serve_model`.
    """
    if name in tiers.names:
        return name
    if not name or usual(name):
        return ""
    raise InputError("serve_model", name=name[:80], known=", ".join(tiers.names))
