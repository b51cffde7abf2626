"""RAM of this process, in bytes."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil


def snapshot() -> dict[str, int | None]:
    """Returns RSS, and USS and PSS where the system tells them."""
    process = psutil.Process()
    try:
        full = process.memory_full_info()
    except psutil.AccessDenied:
        return {"rss": process.memory_info().rss, "uss": None, "pss": None}
    return {"rss": full.rss, "uss": getattr(full, "uss", None), "pss": getattr(full, "pss", None)}


def peak_rss() -> int:
    """Returns the highest RSS that this process has had.

    On Linux from VmHWM: `ru_maxrss` survives exec and would show the parent's peak.
    """
    if sys.platform == "linux":
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    # macOS counts ru_maxrss in bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
