"""Memory of this process and the bandwidth of this moment, the one kept out of the other."""

from __future__ import annotations

from typing import Any

from vozmetro.measure.memory import peak_rss, snapshot
from vozmetro.measure.probe import Stream


class Meter:
    """What a worker tells of itself besides its latencies."""

    def __init__(self) -> None:
        self._stream: Stream | None = None
        self._peak_before = 0

    def start(self, threads: int) -> None:
        """Makes the probe ready, once; its buffer is not the model's and counts nowhere.

        Args:
            threads: As many as the model's.
        """
        if self._stream is None:
            self._peak_before = peak_rss()
            self._stream = Stream(threads)

    def gbs(self) -> float | None:
        """Returns the bandwidth of this moment in GB/s, None where no probe was started."""
        return None if self._stream is None else round(self._stream.gbs(), 3)

    def memory(self) -> dict[str, Any]:
        """Returns `memory` (a snapshot) and `peak_rss`, as if there were no probe.

        The buffer stays resident from `start` on. So the peak without it is the highest of before,
        or the highest since then less the buffer.
        """
        held = 0 if self._stream is None else self._stream.bytes
        now = {name: value and value - held for name, value in snapshot().items()}
        return {"memory": now, "peak_rss": max(self._peak_before, peak_rss() - held)}
