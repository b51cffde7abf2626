"""One tier, always in memory: what a pipeline without a configuration is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import cast

import numpy as np

from vozmetro.audio import SPEECH_RATE, synthetic_speech
from vozmetro.engines import registry
from vozmetro.engines.base import Loaded, LoadRequest, Synthesizer, Transcriber
from vozmetro.errors import InputError
from vozmetro.models.resolve import ModelRef
from vozmetro.pipeline.gate import Gate
from vozmetro.pipeline.protocols import Reply
from vozmetro.pipeline.tiers import Ask, Stages, TierState

KEPT = 200
"""Turns behind the live P90."""
LEAST = 10
"""Turns before there is one."""
_WARM_S = 1.5
_WARM_TIMES = 2
_WARM_TEXT = "Uno dos tres. One two three."


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
            raise InputError("serve_model", name=ask.tier, known=self._stages.tier)
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


def load(
    tier: str, models: Sequence[ModelRef], reply: Reply, *, threads: int, language: str = ""
) -> Stages:
    """Loads a tier's engines, and runs each of them until it is warm.

    Args:
        tier: What to call it.
        models: Speech to text, and a voice.
        reply: Who answers.
        threads: Threads of an inference.
        language: ISO 639-1 that speech to text is told; empty to detect it.

    Raises:
        InputError: `cascade_parts` for other models.
        MissingExtraError: An engine is not installed.
        ModelError: A model cannot be loaded.
    """
    tasks = [model.task for model in models]
    if tasks != ["stt", "tts"]:
        raise InputError("cascade_parts", name=tier, tasks=" + ".join(tasks))
    stt = cast(Transcriber, _loaded(models[0], threads))
    tts = cast(Synthesizer, _loaded(models[1], threads))
    for seed in range(_WARM_TIMES):
        stt.transcribe(synthetic_speech(_WARM_S, seed, SPEECH_RATE), language)
        for _ in tts.stream(_WARM_TEXT):
            pass
    return Stages(tier, stt, reply, tts, language)


def _loaded(model: ModelRef, threads: int) -> Loaded:
    engine = registry.find(model.engine)
    registry.import_modules(engine)
    return engine.load(LoadRequest(model.path, threads, model.options))
