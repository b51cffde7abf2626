"""What the container or service that this process runs in may use (Linux cgroups, v2 and v1)."""

from __future__ import annotations

from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
_SELF = Path("/proc/self/cgroup")
# A cgroup v1 without a limit reports a number near 2^63.
_NO_LIMIT = 1 << 60


def cpu_quota() -> float | None:
    """Returns the CPUs' worth of time granted, the least along the hierarchy; None for no limit."""
    quotas = []
    for folder in _folders("cpu"):
        parts = text(folder / "cpu.max").split()
        quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
        if len(parts) == 2 and parts[0].isdigit():
            quotas.append(int(parts[0]) / int(parts[1]))
        elif quota and period:
            quotas.append(quota / period)
    return min(quotas, default=None)


def ram_limit() -> int | None:
    """Returns the least limit in bytes along the hierarchy, None for none."""
    return min((limit for limit, _ in _memory()), default=None)


def ram_left() -> int | None:
    """Returns the bytes that may still be taken, None for no limit.

    Cached file pages count as used, but the kernel gives them up first: a model that was just read
    to check its hash must not look like memory taken.
    """
    return min((max(0, limit - used) for limit, used in _memory()), default=None)


def text(path: Path) -> str:
    """Returns a small file's text, empty where it cannot be read."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def _memory() -> list[tuple[int, int]]:
    """Limit and use, less reclaimable pages, of each level that has a limit; in bytes."""
    found = []
    for folder in _folders("memory"):
        for limit_name, used_name, cached_name in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            limit = _number(folder / limit_name)
            if limit is None:
                continue
            rows = dict(
                line.split(maxsplit=1) for line in text(folder / "memory.stat").splitlines() if line
            )
            used = _number(folder / used_name) or 0
            found.append((limit, max(0, used - int(rows.get(cached_name, 0)))))
    return found


def _folders(controller: str) -> list[Path]:
    """This process's cgroup and those above it, up to the root, for v2 and for v1."""
    found = []
    for line in text(_SELF).splitlines():
        _, controllers, own = line.split(":", 2)
        top = ROOT if not controllers else ROOT / controller
        if controllers and controller not in controllers.split(","):
            continue
        level = top / own.strip("/")
        # In a container the path of the host may be named, which does not exist inside.
        while level != top and top in level.parents:
            found.append(level)
            level = level.parent
        found.append(top)
    return found


def _number(path: Path) -> int | None:
    content = text(path)
    if not content.lstrip("-").isdigit():
        return None
    value = int(content)
    return value if 0 < value < _NO_LIMIT else None
