"""The machine and its state: what a latency depends on besides the model."""

from __future__ import annotations

import math
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import psutil

from vozmetro.measure.records import Environment

_CGROUP = Path("/sys/fs/cgroup")
_PACKAGES = (
    "vozmetro",
    "onnxruntime",
    "ctranslate2",
    "faster-whisper",
    "piper-tts",
    "numpy",
    "onnx",
)
# A cgroup v1 without a limit reports a number near 2^63.
_NO_LIMIT = 1 << 60


def cores_allowed() -> int:
    """Returns how many cores this process may use: affinity and cgroup quota (DESIGN, rule 8)."""
    quota = _cgroup_quota()
    allowed = len(_affinity())
    return max(1, min(allowed, math.floor(quota))) if quota else allowed


def available_ram() -> int:
    """Returns the bytes that a new process may take: free RAM, within the cgroup's limit."""
    free = int(psutil.virtual_memory().available)
    limit = _ram_limit()
    if limit is None:
        return free
    used = _read_int("memory.current", "memory/memory.usage_in_bytes") or 0
    return min(free, max(0, limit - used))


def read() -> Environment:
    """Returns the environment record of now; its noise check is run apart."""
    frequency = psutil.cpu_freq() if hasattr(psutil, "cpu_freq") else None
    return Environment(
        cpu=_cpu_name(),
        cores_physical=psutil.cpu_count(logical=False),
        cores_logical=os.cpu_count() or 1,
        cores_allowed=cores_allowed(),
        affinity=_affinity(),
        cgroup_quota=_cgroup_quota(),
        frequency_mhz=round(frequency.current, 1) if frequency else None,
        governor=_text(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")),
        power=_power(),
        ram_total=psutil.virtual_memory().total,
        ram_available=available_ram(),
        ram_limit=_ram_limit(),
        os=f"{platform.system()} {platform.release()}",
        virtualization=_virtualization(),
        load=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        python=platform.python_version(),
        versions=_versions(),
    )


def _affinity() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def _own_cgroup() -> Path:
    """Folder of this process's v2 cgroup; in a container that is the root itself."""
    lines = _text(Path("/proc/self/cgroup")).splitlines()
    own = next((line[3:] for line in lines if line.startswith("0::")), "/")
    return _CGROUP / own.strip("/")


def _read_int(unified: str, legacy: str) -> int | None:
    """A number of this process's cgroup, v2 name first, then v1."""
    for path in (_own_cgroup() / unified, _CGROUP / unified, _CGROUP / legacy):
        text = _text(path)
        if text.lstrip("-").isdigit():
            value = int(text)
            return value if 0 < value < _NO_LIMIT else None
    return None


def _cgroup_quota() -> float | None:
    """CPUs' worth of time that the cgroup grants, None for no limit."""
    parts = (_text(_own_cgroup() / "cpu.max") or _text(_CGROUP / "cpu.max")).split()
    if len(parts) == 2 and parts[0].isdigit():
        return int(parts[0]) / int(parts[1])
    quota = _read_int("", "cpu/cpu.cfs_quota_us")
    period = _read_int("", "cpu/cpu.cfs_period_us")
    return quota / period if quota and period else None


def _ram_limit() -> int | None:
    return _read_int("memory.max", "memory/memory.limit_in_bytes")


def _cpu_name() -> str:
    for line in _text(Path("/proc/cpuinfo")).splitlines():
        if line.lower().startswith(("model name", "hardware")):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _power() -> Literal["mains", "battery", "unknown"]:
    battery = psutil.sensors_battery() if hasattr(psutil, "sensors_battery") else None
    if battery is None:
        return "unknown"
    return "mains" if battery.power_plugged else "battery"


def _virtualization() -> str:
    found = []
    if Path("/.dockerenv").exists() or "docker" in _text(Path("/proc/1/cgroup")):
        found.append("docker")
    if Path("/run/.containerenv").exists():
        found.append("podman")
    flags = _text(Path("/proc/cpuinfo"))
    if " hypervisor" in flags:
        vendor = _text(Path("/sys/class/dmi/id/sys_vendor"))
        found.append(f"VM ({vendor})" if vendor else "VM")
    if "microsoft" in platform.release().lower():
        found.append("WSL")
    return " + ".join(found) or "none"


def _versions() -> dict[str, str]:
    known = {"python": sys.version.split()[0]}
    for package in _PACKAGES:
        try:
            known[package] = version(package)
        except PackageNotFoundError:
            continue
    return known
