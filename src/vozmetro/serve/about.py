"""What the models of a tier are called, what they speak and whose they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vozmetro.models.catalogue import catalogue
from vozmetro.models.resolve import ModelRef, split_options

PROJECT = "https://pypi.org/project/vozmetro/"
"""Where a model is from that says nothing of it."""


@dataclass(frozen=True)
class Model:
    """A model, for those who list them.

    Attributes:
        name: As the user named it.
        engine: What runs it.
        languages: ISO 639-1.
        licence: SPDX; empty where it is not known.
        source: Where it is from; empty where it is not known.
    """

    name: str
    engine: str
    languages: tuple[str, ...]
    licence: str = ""
    source: str = ""

    @property
    def author(self) -> str:
        """Whom to thank: the owner of its repository, where that is known."""
        parts = self.source.split("/")
        return parts[3] if len(parts) > 4 else "vozmetro"

    @property
    def description(self) -> str:
        """One line on it."""
        licence = f", {self.licence}" if self.licence else ""
        return f"{self.name} ({self.engine}{licence})"


@dataclass(frozen=True)
class About:
    """A tier's models."""

    tier: str
    stt: Model
    tts: Model


def about(tier: str, stt: ModelRef, tts: ModelRef, language: str = "") -> About:
    """Returns what a tier's models are.

    Args:
        tier: Its name.
        stt: Its speech to text.
        tts: Its voice.
        language: ISO 639-1 that it is told; empty where it detects it.
    """
    return About(tier, _model(stt, language), _model(tts, ""))


def _model(model: ModelRef, language: str) -> Model:
    name, _ = split_options(model.name)
    entry = catalogue().get(name)
    languages: Sequence[str] = (language,) if language else model.languages
    licence, source = (entry.licence, entry.source) if entry is not None else ("", "")
    return Model(model.name, model.engine, tuple(languages), licence, source)
