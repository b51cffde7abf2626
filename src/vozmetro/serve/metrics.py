"""What `/metrics` tells, in the words of Prometheus."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

from vozmetro.pipeline.tiers import Tiers

if TYPE_CHECKING:
    from vozmetro.serve.state import Serving

BUCKETS = (
    0.01, 0.025, 0.05, 0.08, 0.1, 0.14, 0.18, 0.2, 0.22, 0.24, 0.26, 0.3, 0.4, 0.5, 1.0, 2.0, 5.0,
)  # fmt: skip
"""Seconds: close around the budget's limits (240, 300, 400 and 500 ms)."""


class Metrics:
    """The figures of one server.

    Attributes:
        stage: Seconds by `stage`, `tier` and `surface`; the stages of single requests are `stt`
            (from the end of the audio to the transcript) and `tts_first_audio` (from the text to
            the first audio), those of conversations as in `TurnEnded.parts_ms`.
        requests: Requests that have ended, by `surface` and `outcome` (`done`, `failed`, `gone`).
        errors: Errors told to clients, by `surface` and `code`.
        busy: Requests refused for lack of room, by `surface`.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self.stage = Histogram(
            "vozmetro_stage_seconds", "Latency of a stage.", ("stage", "tier", "surface"),
            buckets=BUCKETS, registry=registry,
        )  # fmt: skip
        self.requests = Counter(
            "vozmetro_requests",
            "Requests that have ended.",
            ("surface", "outcome"),
            registry=registry,
        )
        self.errors = Counter(
            "vozmetro_errors", "Errors told to clients.", ("surface", "code"), registry=registry
        )
        self.busy = Counter(
            "vozmetro_busy", "Requests refused for lack of room.", ("surface",), registry=registry
        )
        self.active = Gauge(
            "vozmetro_active_requests",
            "Requests that work or wait, or whose audio is sent.",
            registry=registry,
        )
        self.waiting = Gauge(
            "vozmetro_gate_load", "Inferences that run or wait.", registry=registry
        )
        self.draining = Gauge("vozmetro_draining", "1 while the server stops.", registry=registry)

    def watch(self, serving: Serving) -> None:
        """Reads from a server, whenever somebody asks, what it knows already."""
        self.active.set_function(lambda: serving.active)
        self.waiting.set_function(lambda: serving.tiers.gate.load)
        self.draining.set_function(lambda: serving.draining)
        self.registry.register(_Tiers(serving.tiers))

    def refused(self, surface: str, code: str, busy: bool) -> None:
        """Counts an error that a client is told."""
        self.errors.labels(surface, code).inc()
        if busy:
            self.busy.labels(surface).inc()

    def text(self) -> bytes:
        """Returns them all in Prometheus' text format."""
        return generate_latest(self.registry)


class _Tiers:
    """Tiers as they are when they are asked for."""

    def __init__(self, tiers: Tiers) -> None:
        self._tiers = tiers

    def describe(self) -> list[Metric]:
        """Names nothing in advance."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yields the state of every tier."""
        label = ["tier"]
        resident = GaugeMetricFamily(
            "vozmetro_tier_resident", "1 where its models are in memory.", labels=label
        )
        demoted = GaugeMetricFamily(
            "vozmetro_tier_demoted", "1 while its P90 is out of the budget.", labels=label
        )
        p90 = GaugeMetricFamily(
            "vozmetro_tier_p90_seconds", "Post-endpoint P90 of its last turns.", labels=label
        )
        turns = GaugeMetricFamily("vozmetro_tier_turns", "Turns that it has had.", labels=label)
        for state in self._tiers.states():
            name = [state.name]
            resident.add_metric(name, state.residence == "resident")
            demoted.add_metric(name, state.demoted)
            turns.add_metric(name, state.turns)
            if state.p90_ms is not None:
                p90.add_metric(name, state.p90_ms / 1000)
        yield from (resident, demoted, p90, turns)
