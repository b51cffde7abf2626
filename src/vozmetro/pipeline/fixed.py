"""One tier that is always there: for a server with one subject, and to measure it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from vozmetro.errors import InputError
from vozmetro.pipeline.gate import Gate
from vozmetro.pipeline.tiers import Ask, Stages, TierState


class FixedTiers:
    """Implements `Tiers` with one tier, loaded already.

    Args:
        stages: Its engines.
        gate: Where inferences wait for each other.
    """

    def __init__(self, stages: Stages, gate: Gate | None = None) -> None:
        self._stages = stages
        self._turns = 0
        self.gate = gate or Gate()
        self.names: Sequence[str] = (stages.tier,)

    @contextmanager
    def lease(self, ask: Ask) -> Iterator[Stages]:
        """See `Tiers.lease`."""
        if ask.tier not in ("", self._stages.tier):
            raise InputError("tier_unknown", name=ask.tier, known=self._stages.tier)
        yield self._stages

    def finished(self, tier: str, parts_ms: Mapping[str, float]) -> None:
        """See `Tiers.finished`."""
        self._turns += 1

    def states(self) -> list[TierState]:
        """See `Tiers.states`."""
        return [TierState(self._stages.tier, "resident", False, None, self._turns)]

    def close(self) -> None:
        """See `Tiers.close`."""
