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
from vozmetro.measure.environment import affinity

CPUS = Path("/sys/devices/system/cpu")
_LEAST, _MOST = 64 << 20, 256 << 20  # bytes of the buffer
_CACHES = 4  # times the caches
_PASSES = 3


class Stream:
    """A buffer that no cache holds, and the threads that read it.

    Kept between probes, because the buffer takes longer to make than to read.

    Args:
        threads: How many read at once, as many as the model's.
    """

    def __init__(self, threads: int) -> None:
        self.bytes = min(max(_CACHES * cache_size(), _LEAST), _MOST)
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


def cache_size() -> int:
    """Returns the bytes of the largest caches that this process's cores have; 0 where unknown.

    Groups of cores may have one each; those are added up. So are smaller caches that hold what the
    largest does not, because from a file system it cannot be told whether they do.
    """
    found: dict[tuple[str, str], int] = {}
    for core in affinity():
        for index in (CPUS / f"cpu{core}" / "cache").glob("index*"):
            if cgroup.text(index / "type") == "Instruction":
                continue
            text = cgroup.text(index / "size")
            scale = {"K": 1 << 10, "M": 1 << 20}.get(text[-1:], 1)
            digits = text.rstrip("KM")
            if digits.isdecimal():
                key = cgroup.text(index / "level"), cgroup.text(index / "shared_cpu_list")
                found[key] = int(digits) * scale
    return sum(size for (level, _), size in found.items() if level not in ("", "1"))


def _read(part: NDArray[np.uint8]) -> Any:
    # A maximum of bytes is the reduction of numpy that waits least for anything but memory, and it
    # lets other threads run meanwhile.
    return part.max()
