"""What a listener's browser may send: bounded, and checked against the trial that it is for."""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vozmetro.quality.listen.plan import Trial
from vozmetro.quality.listen.study import RANGES, Scale, Study

MOST_BODY = 8192
"""Bytes of a request; the longest comment in the widest characters fits."""
MOST_COMMENT, MOST_LISTENER_NAME = 1000, 60
TONE_ROUNDS = 3

_Model = TypeVar("_Model", bound="Sent")


class Sent(BaseModel):
    """Base: strict about types, and about what it does not know."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Join(Sent):
    """Consent, and what a listener says of themselves.

    Attributes:
        consent: Must be given.
        lang: Language of the page.
        name: Optional.
        first_language: Of the listener.
        hearing: As they judge it.
    """

    consent: Literal[True]
    lang: Literal["es", "en"]
    name: str = Field(default="", max_length=MOST_LISTENER_NAME)
    first_language: Literal["es", "en", "pt", "ca", "eu", "gl", "fr", "de", "other"]
    hearing: Literal["normal", "reduced", "unsure"]


class Setup(Sent):
    """What is listened with. `tones`: the quietest tone of each round, 0 to 2, empty if skipped."""

    device: Literal["headphones", "speakers"]
    tones: list[Annotated[int, Field(ge=0, le=2)]] = Field(default=[], max_length=TONE_ROUNDS)


class Rate(Sent):
    """The answers to one trial.

    Attributes:
        position: Of the trial, from 0 on.
        answers: For each scale one value per thing that is rated: one, or in MUSHRA one per clip.
        plays: How often each clip was played to its end, as the browser counts it.
    """

    position: int = Field(ge=0, le=100_000)
    answers: dict[Scale, list[Annotated[int, Field(ge=-100, le=100)]]] = Field(max_length=8)
    plays: list[Annotated[int, Field(ge=0, le=10_000)]] = Field(default=[], max_length=20)


class Comment(Sent):
    """A word at the end."""

    comment: str = Field(max_length=MOST_COMMENT)


def parse(kind: type[_Model], body: bytes) -> _Model | None:
    """Returns the request read from JSON, or None where it is not one of this kind."""
    try:
        return kind.model_validate_json(body)
    except (ValidationError, ValueError, RecursionError):
        return None


def fits(sent: Rate, study: Study, trial: Trial) -> bool:
    """Returns whether every scale is answered, for every clip, within its range, all played."""
    low, high = RANGES[study.method]
    wanted = len(trial.clips) if study.method == "mushra" else 1
    if set(sent.answers) != set(study.scales):
        return False
    if any(len(values) != wanted for values in sent.answers.values()):
        return False
    played = len(trial.clips) + bool(trial.reference)
    if len(sent.plays) != played or min(sent.plays, default=0) < 1:
        return False
    return all(low <= value <= high for values in sent.answers.values() for value in values)


def clean(text: str) -> str:
    """Returns a name or comment without characters that a terminal or a page would act on."""
    from vozmetro.units import plain

    return plain(text)
