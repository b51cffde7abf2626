"""One tier, always in memory: what a pipeline without a configuration is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Lock

import numpy as np

from vozmetro.errors import InputError
from vozmetro.pipeline.gate import Gate
from vozmetro.pipeline.tiers import Ask, Stages, TierState

KEPT = 200
"""Turns behind the live P90."""
LEAST = 10
"""Turns before there is one."""


class FixedTiers:
    """Implements `Tiers` for one tier.

    Args:
        stages: Its engines, loaded and warm.
        gate: Where inferences wait for each other.
    """

    def __init__(self, stages: Stages, gate: Gate | None = None) -> None:
        self.gate = gate or Gate()
        self.names: Sequence[str] = (stages.tier,)
        self._stages = stages
        self._lock = Lock()
        self._turns = 0
        self._last: list[float] = []

    @contextmanager
    def lease(self, ask: Ask) -> Iterator[Stages]:
        """See `Tiers.lease`."""
        if ask.tier not in ("", self._stages.tier):
            raise InputError("tier_unknown", name=ask.tier, known=self._stages.tier)
        yield self._stages

    def finished(self, tier: str, parts_ms: Mapping[str, float]) -> None:
        """See `Tiers.finished`."""
        with self._lock:
            self._turns += 1
            # The wait for the end of speech is no work of the tier's.
            spent = sum(ms for part, ms in parts_ms.items() if part != "endpoint")
            self._last = [*self._last[1 - KEPT :], spent]

    def states(self) -> list[TierState]:
        """See `Tiers.states`."""
        with self._lock:
            p90 = float(np.percentile(self._last, 90)) if self._turns >= LEAST else None
            return [TierState(self._stages.tier, "resident", False, p90, self._turns)]

    def close(self) -> None:
        """See `Tiers.close`. What runs keeps its models until it ends."""
