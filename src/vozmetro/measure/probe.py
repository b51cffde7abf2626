"""How fast this machine's memory can be read right now.

A model whose weights do not fit in the caches reads all of them for every token, so its latency
hangs on the memory bandwidth of that moment, which neighbours on the same machine share and a
guest system cannot see. A probe beside a sample tells a slow model from a slow moment.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vozmetro.measure import cgroup

_LEAST, _MOST = 64 << 20, 256 << 20  # bytes of the buffer
_CACHES = 4  # times the last-level cache
_PASSES = 3


class Stream:
    """A buffer that no cache holds, and the threads that read it.

    Kept between probes, because the buffer takes longer to make than to read.

    Args:
        threads: How many read at once, as many as the model's.
    """

    def __init__(self, threads: int) -> None:
        self.bytes = min(max(_CACHES * last_level_cache(), _LEAST), _MOST)
        # Ones, not zeros: pages never written to would all be one page of the system.
        buffer = np.ones(self.bytes, np.uint8)
        self._parts = np.array_split(buffer, threads)
        self._threads = ThreadPoolExecutor(threads)

    def gbs(self) -> float:
        """Returns the bandwidth in GB/s (10^9 bytes), the best of three passes.

        The first one may meet another pool's threads that still spin after their work.
        """
        best = float("inf")
        for _ in range(_PASSES):
            start = perf_counter()
            # Consumed, or an error in a thread would pass unseen.
            list(self._threads.map(_read, self._parts))
            best = min(best, perf_counter() - start)
        return self.bytes / best / 1e9

    def close(self) -> None:
        """Ends the threads and gives the buffer back."""
        self._threads.shutdown()
        self._parts = []


def stream_gbs(threads: int) -> float:
    """Returns the bandwidth in GB/s that many threads read memory with, measured once."""
    stream = Stream(threads)
    try:
        return stream.gbs()
    finally:
        stream.close()


def last_level_cache() -> int:
    """Returns the bytes of the largest cache of the first core; 0 where the system does not say."""
    found = [0]
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = cgroup.text(path)
        scale = {"K": 1 << 10, "M": 1 << 20}.get(text[-1:], 1)
        digits = text.rstrip("KM")
        if digits.isdecimal():
            found.append(int(digits) * scale)
    return max(found)


def _read(part: NDArray[np.uint8]) -> Any:
    # A maximum of bytes is the reduction of numpy that waits least for anything but memory, and it
    # lets other threads run meanwhile.
    return part.max()
