"""What a tier gives to a turn, and where turns ask for one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

from vozmetro.engines.base import Synthesizer, Transcriber
from vozmetro.pipeline.gate import Gate
from vozmetro.pipeline.protocols import Reply

Residence = Literal["cold", "loading", "resident"]


@dataclass(frozen=True)
class Stages:
    """The engines of a tier, loaded and warm.

    Attributes:
        tier: Name of the tier.
        stt: Speech to text; a `StreamingTranscriber` where it can listen while one speaks.
        reply: Who answers.
        tts: Text to speech.
        language: ISO 639-1 that `stt` is told; empty where it detects it.
    """

    tier: str
    stt: Transcriber
    reply: Reply
    tts: Synthesizer
    language: str = ""


@dataclass(frozen=True)
class Ask:
    """What a turn asks for.

    Attributes:
        tier: A tier by name; empty to let the rules choose.
        seconds: Length of the utterance where it is known, in seconds.
    """

    tier: str = ""
    seconds: float | None = None


@dataclass(frozen=True)
class TierState:
    """How a tier is doing.

    Attributes:
        name: Its name.
        residence: Whether its models are in memory.
        demoted: Its live P90 has left the budget, and it is not chosen until it is back.
        p90_ms: Of its last turns' post-endpoint latency; None before there are enough.
        turns: Turns that it has had.
    """

    name: str
    residence: Residence
    demoted: bool
    p90_ms: float | None
    turns: int


class Tiers(Protocol):
    """Where turns get their stages. For several threads at once.

    Attributes:
        gate: Where inferences wait for each other.
        names: Of all tiers, the default first.
    """

    gate: Gate
    names: Sequence[str]

    def lease(self, ask: Ask) -> AbstractContextManager[Stages]:
        """Returns the stages for a turn, which stay loaded within; loads them if need be.

        Raises:
            InputError: `tier_unknown`.
            BusyError: The tier that was asked for cannot be loaded now (`tier_memory`).
        """

    def finished(self, tier: str, parts_ms: Mapping[str, float]) -> None:
        """Takes a turn's latency by part, as in `TurnEnded.parts_ms`."""

    def states(self) -> list[TierState]:
        """Returns how all tiers are doing."""

    def close(self) -> None:
        """Forgets all models."""
