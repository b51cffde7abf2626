"""Turns of conversations, as operators see them: counted, logged, and waited for at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack

from vozmetro.errors import BusyError
from vozmetro.pipeline.protocols import Event, SpeechStopped, TurnEnded
from vozmetro.pipeline.tiers import Ask, Stages, Tiers, TierState
from vozmetro.serve.logs import log
from vozmetro.serve.state import Serving


class WatchedTiers:
    """Tiers whose turns tell `/metrics` how long each of their parts took.

    Args:
        serving: The server.
        surface: Where the turns come from (`realtime`, `live`).
    """

    def __init__(self, serving: Serving, surface: str) -> None:
        self._tiers, self._metrics, self._surface = serving.tiers, serving.metrics, surface
        self.gate = self._tiers.gate
        self.names: Sequence[str] = self._tiers.names

    def lease(self, ask: Ask) -> AbstractContextManager[Stages]:
        """As in `Tiers`."""
        return self._tiers.lease(ask)

    def finished(self, tier: str, parts_ms: Mapping[str, float]) -> None:
        """As in `Tiers`."""
        for part, ms in parts_ms.items():
            self._metrics.stage.labels(part, tier, self._surface).observe(ms / 1000)
        self._tiers.finished(tier, parts_ms)

    def states(self) -> list[TierState]:
        """As in `Tiers`."""
        return self._tiers.states()

    def close(self) -> None:
        """Leaves the tiers to whom they belong."""


class Watch:
    """The turns of one connection. In the event loop.

    Args:
        serving: The server, which does not stop in the middle of a turn.
        surface: As in `WatchedTiers`.
    """

    def __init__(self, serving: Serving, surface: str) -> None:
        self._serving, self._surface = serving, surface
        self._held: dict[str, ExitStack] = {}
        self.tiers: Tiers = WatchedTiers(serving, surface)

    def happens(self, event: Event) -> None:
        """Takes each event of each turn."""
        if isinstance(event, SpeechStopped):
            held = ExitStack()
            try:
                held.enter_context(self._serving.request())
            except BusyError:
                # It is answered all the same: the gate bounds what is worked on.
                return
            self._held[event.turn] = held
        elif isinstance(event, TurnEnded):
            self._release(event.turn)
            outcome = "failed" if event.failure else "gone" if event.cancelled else "done"
            self._serving.metrics.requests.labels(self._surface, outcome).inc()
            told: dict[str, object] = {
                "surface": self._surface, "turn": event.turn, "outcome": outcome,
                "code": event.failure,
            }  # fmt: skip
            log("turn", told | {part: round(ms, 1) for part, ms in event.parts_ms.items()})

    def refused(self, code: str, busy: bool = False) -> None:
        """Counts an error that the client is told."""
        self._serving.metrics.refused(self._surface, code, busy)

    def close(self) -> None:
        """Lets go of the turns that nobody waits for any more."""
        for turn in list(self._held):
            self._release(turn)
            self._serving.metrics.requests.labels(self._surface, "gone").inc()

    def _release(self, turn: str) -> None:
        held = self._held.pop(turn, None)
        if held is not None:
            held.close()
