"""Which tier answers a turn, and which tiers are in memory.

One lock, held for bookkeeping only: models are loaded, and forgotten, without it.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Condition, Event, Thread
from typing import Literal

from vozmetro.errors import BusyError, InputError, VozmetroError
from vozmetro.pipeline.config import PipelineConfig, RouteRule, TierConfig
from vozmetro.pipeline.gate import Gate
from vozmetro.pipeline.health import Change, Health
from vozmetro.pipeline.tiers import Ask, Residence, Stages, TierState
from vozmetro.units import size

LOG = logging.getLogger("vozmetro.router")
"""Events by name, their values in `extra`: `tier`, `change`, `p90_ms`, `budget_ms`, `reason`."""

ENDPOINT = "endpoint"
FIRST_AUDIO = "tts_first_audio"
"""Parts of a turn: the wait that is not the tier's fault, and the one that every answer has."""

Loader = Callable[[TierConfig], Stages]
Footprint = Callable[[TierConfig], Mapping[str, int]]
"""Bytes that each model of a tier is expected to need, by the model; equal ones are shared."""


@dataclass
class _Tier:
    """What is known of a tier; guarded by the router's lock."""

    config: TierConfig
    health: Health
    needs: Mapping[str, int]
    residence: Residence = "cold"
    stages: Stages | None = None
    leases: int = 0
    used_s: float = 0.0
    failed_s: float | None = None

    @property
    def idle(self) -> bool:
        """Loaded, used by nobody, and free to go."""
        return self.residence == "resident" and not self.leases and not self.config.pinned


class Router:
    """Implements `Tiers`.

    Args:
        config: Tiers and rules.
        loader: Loads a tier's engines and warms them up. Called without the lock, for one tier at
            a time.
        footprint: What a tier is expected to need, before it is loaded.
        clock: Seconds of a monotonic clock.
        gate: Where inferences wait for each other.

    Attributes:
        gate: As given.
        names: Of all tiers, the default first.

    Raises:
        InputError: `tier_never_fits` where a tier, with those that are pinned, needs more than
            the ceiling.
    """

    def __init__(
        self,
        config: PipelineConfig,
        loader: Loader,
        footprint: Footprint,
        clock: Callable[[], float],
        gate: Gate | None = None,
    ) -> None:
        self._config, self._loader, self._clock = config, loader, clock
        self.gate = gate or Gate()
        self._tiers = {
            tier.name: _Tier(
                tier,
                Health(tier.budget_p90_ms or config.budget_p90_ms, config.hysteresis),
                dict(footprint(tier)),
            )
            for tier in config.tiers
        }
        others = [name for name in self._tiers if name != config.first]
        self.names: Sequence[str] = (config.first, *others)
        self._changed = Condition()
        self._closed = Event()
        self._check_ceiling()

    def _check_ceiling(self) -> None:
        pinned = [tier for tier in self._tiers.values() if tier.config.pinned]
        for tier in self._tiers.values():
            needed = _bytes([*pinned, tier])
            if needed > self._config.ram_bytes:
                beside = ", ".join(one.config.name for one in pinned if one is not tier)
                raise InputError(
                    "tier_never_fits",
                    tier=tier.config.name,
                    needed=size(needed),
                    ceiling=size(self._config.ram_bytes),
                    pinned=beside or "–",
                )

    @contextmanager
    def lease(self, ask: Ask) -> Iterator[Stages]:
        """See `Tiers.lease`. Nothing of the stages may be kept beyond it: it would stay in memory.

        Raises:
            InputError: `tier_unknown`.
            BusyError: `tier_memory`; or `server_busy` once the router is closed.
            VozmetroError: What loading raises.
        """
        if ask.tier and ask.tier not in self._tiers:
            raise InputError("tier_unknown", name=ask.tier, known=", ".join(self.names))
        self.sweep()
        tier, stages = self._take(ask)
        try:
            yield stages
        finally:
            # Before anybody is told that it is free.
            del stages
            with self._changed:
                tier.leases -= 1
                tier.used_s = self._clock()
                if self._closed.is_set() and not tier.leases:
                    tier.residence, tier.stages = "cold", None
                self._changed.notify_all()

    def warm(self) -> None:
        """Loads the default tier, and those that are pinned.

        Raises:
            VozmetroError: What loading raises.
        """
        wanted = [name for name in self.names if self._tiers[name].config.pinned]
        for name in dict.fromkeys([*wanted, self._config.first]):
            with self.lease(Ask(tier=name)):
                pass

    def finished(self, tier: str, parts_ms: Mapping[str, float]) -> None:
        """See `Tiers.finished`. A turn without audio counts, but not for the P90."""
        spoken = FIRST_AUDIO in parts_ms
        latency = sum(ms for part, ms in parts_ms.items() if part != ENDPOINT)
        with self._changed:
            health = self._tiers[tier].health
            change = health.add(latency if spoken else None, self._clock())
            p90_ms = health.p90_ms
        if change:
            self._say(tier, change, p90_ms)

    def states(self) -> list[TierState]:
        """See `Tiers.states`."""
        with self._changed:
            return [
                TierState(
                    name=name,
                    residence=self._tiers[name].residence,
                    demoted=self._tiers[name].health.demoted,
                    p90_ms=self._tiers[name].health.p90_ms,
                    turns=self._tiers[name].health.turns,
                )
                for name in self.names
            ]

    def sweep(self) -> None:
        """Unloads tiers that have been idle for their time. Cheap; call it now and then."""
        with self._changed:
            now = self._clock()
            stale = [tier for tier in self._tiers.values() if tier.idle and self._stale(tier, now)]
            gone = [self._unload(tier, "ttl") for tier in stale]
        # Models are let go of without the lock, as they may take their time.
        gone.clear()

    def keep_swept(self, every_s: float = 5.0) -> None:
        """Sweeps on a thread of its own until `close`."""

        def run() -> None:
            while not self._closed.wait(every_s):
                self.sweep()

        Thread(target=run, name="vozmetro-router", daemon=True).start()

    def close(self) -> None:
        """See `Tiers.close`. What is in use goes when its turn ends."""
        with self._changed:
            self._closed.set()
            resident = [tier for tier in self._tiers.values() if tier.residence == "resident"]
            gone = [self._unload(tier, "closed") for tier in resident if not tier.leases]
            self._changed.notify_all()
        gone.clear()

    # Choosing

    def _candidates(self, ask: Ask) -> list[_Tier]:
        """Returns tiers in the order in which they are tried for a turn.

        A tier that somebody asks for by name is the only one, demoted or not: who asks knows.
        """
        if ask.tier:
            return [self._tiers[ask.tier]]
        load = self.gate.load
        rules = self._config.rules
        wanted = next((r.tier for r in rules if _holds(r, ask, load)), self._config.first)
        order = list(self._tiers.values())
        place = order.index(self._tiers[wanted])
        down = order[place::-1]
        for tier in down:
            change = tier.health.tick(self._clock())
            if change:
                self._say(tier.config.name, change, tier.health.p90_ms)
        healthy = [tier for tier in down if tier.health.eligible]
        # Somebody always answers: the fastest, where none keeps its budget.
        rest = [*reversed(down), *order[place + 1 :]]
        return [*healthy, *(tier for tier in rest if tier not in healthy)]

    def _take(self, ask: Ask) -> tuple[_Tier, Stages]:
        """Leases the first tier that can be had."""
        with self._changed:
            candidates = self._candidates(ask)
        failure: VozmetroError | None = None
        try:
            for tier in candidates:
                last = tier is candidates[-1]
                if not last and self._failed_lately(tier):
                    continue
                try:
                    return tier, self._leased(tier)
                except VozmetroError as error:
                    failure = failure or error
                    if not last:
                        known = {"tier": tier.config.name, "reason": error.code}
                        LOG.warning("tier_unavailable", extra=known)
            raise failure or BusyError("server_busy")
        finally:
            # An error knows this frame, and this frame the error: such a circle would keep the
            # models that our caller goes on to use.
            failure = None

    def _failed_lately(self, tier: _Tier) -> bool:
        with self._changed:
            wait = self._config.hysteresis.cooldown_s
            return tier.failed_s is not None and self._clock() < tier.failed_s + wait

    def _leased(self, tier: _Tier) -> Stages:
        """Returns a tier's stages with one lease more; loads them where they are not there."""
        with self._changed:
            while True:
                if self._closed.is_set():
                    raise BusyError("server_busy")
                if tier.stages is not None:
                    tier.leases += 1
                    return tier.stages
                # One at a time: two that load at once would be twice as late.
                if not any(one.residence == "loading" for one in self._tiers.values()):
                    break
                self._changed.wait()
            gone = self._make_room(tier)
            tier.residence = "loading"
        if gone:
            gone.clear()
            # Engines may hold themselves in circles, and their memory is needed now.
            gc.collect()
        stages: Stages | None = None
        try:
            stages = self._loader(tier.config)
        finally:
            with self._changed:
                tier.residence = "resident" if stages else "cold"
                tier.stages, tier.leases = stages, 1 if stages else 0
                tier.failed_s = None if stages else self._clock()
                self._changed.notify_all()
        LOG.info("tier_loaded", extra={"tier": tier.config.name})
        return stages

    # Memory

    def _make_room(self, wanted: _Tier) -> list[Stages]:
        """Unloads idle tiers, those longest unused first, until another fits.

        Raises:
            BusyError: `tier_memory`; then nothing was unloaded.
        """
        loaded = [tier for tier in self._tiers.values() if tier.residence != "cold"]
        out: list[_Tier] = []
        for tier in sorted(filter(lambda one: one.idle, loaded), key=lambda one: one.used_s):
            if _bytes([*loaded, wanted]) <= self._config.ram_bytes:
                break
            loaded.remove(tier)
            out.append(tier)
        needed = _bytes([*loaded, wanted])
        if needed > self._config.ram_bytes:
            raise BusyError(
                "tier_memory",
                tier=wanted.config.name,
                needed=size(needed),
                ceiling=size(self._config.ram_bytes),
            )
        return [self._unload(tier, "memory") for tier in out]

    def _unload(self, tier: _Tier, reason: Literal["memory", "ttl", "closed"]) -> Stages:
        stages, tier.stages, tier.residence = tier.stages, None, "cold"
        LOG.info("tier_unloaded", extra={"tier": tier.config.name, "reason": reason})
        assert stages is not None  # noqa: S101
        return stages

    def _stale(self, tier: _Tier, now: float) -> bool:
        return now - tier.used_s >= (tier.config.ttl_s or self._config.ttl_s)

    def _say(self, tier: str, change: Change, p90_ms: float | None) -> None:
        budget_ms = self._tiers[tier].health.budget_ms
        known = {"tier": tier, "change": change, "p90_ms": p90_ms, "budget_ms": budget_ms}
        level = logging.WARNING if change in ("demoted", "trial_failed") else logging.INFO
        LOG.log(level, f"tier_{change}", extra=known)


def _holds(rule: RouteRule, ask: Ask, load: int) -> bool:
    """Whether a rule holds; one about a length that is not known does not."""
    seconds = ask.seconds
    if rule.seconds_from is not None and (seconds is None or seconds < rule.seconds_from):
        return False
    if rule.seconds_below is not None and (seconds is None or seconds >= rule.seconds_below):
        return False
    if rule.load_from is not None and load < rule.load_from:
        return False
    return rule.load_below is None or load < rule.load_below


def _bytes(tiers: Sequence[_Tier]) -> int:
    """Bytes that tiers are expected to need together; what they share counts once."""
    together: dict[str, int] = {}
    for tier in tiers:
        together.update(tier.needs)
    return sum(together.values())
