"""How fast a divided study goes on."""

from __future__ import annotations

import time

from vozmetro.assess.shard_files import About
from vozmetro.measure.schedule import Listener, Progress


class Pace:
    """How fast a study goes on, told after every part."""

    def __init__(self, name: str, expected: int, listen: Listener) -> None:
        self._name = name
        self._expected = expected
        self._listen = listen
        self._start = time.monotonic()
        self._utterances = 0
        self._audio_s = 0.0
        self._new_s = 0.0
        listen(Progress("loading", name))

    def add(self, about: About, *, counts: bool = True) -> None:
        """Adds a part; one of an earlier start does not count for the pace."""
        self._utterances += about.heard + about.left_out
        self._audio_s += about.audio_s
        if not counts:
            return
        self._new_s += about.audio_s
        passed = max(1e-3, time.monotonic() - self._start)
        speed = self._new_s / passed
        left = self._expected - self._utterances
        mean_s = self._audio_s / max(1, self._utterances)
        self._listen(
            Progress(
                "measuring",
                self._name,
                self._utterances,
                self._expected,
                eta_s=left * mean_s / speed if left and speed > 0 else None,
                audio_s=self._audio_s,
                speed=speed,
            )
        )
