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

from vozmetro.measure import cgroup
from vozmetro.measure.records import Environment

_PACKAGES = (
    "vozmetro",
    "onnxruntime",
    "onnxruntime-gpu",
    "ctranslate2",
    "faster-whisper",
    "piper-tts",
    "numpy",
    "onnx",
)


def cores_allowed() -> int:
    """Returns how many cores this process may use: affinity and cgroup quota (DESIGN, rule 8)."""
    quota = cgroup.cpu_quota()
    allowed = len(affinity())
    return max(1, min(allowed, math.floor(quota))) if quota else allowed


def cores_in_use(seconds: float = 0.1) -> float:
    """Returns how many cores all processes together used during that time, in which we wait."""
    share: float = psutil.cpu_percent(interval=seconds) / 100
    return share * (os.cpu_count() or 1)


def available_ram() -> int:
    """Returns the bytes that a new process may take: free RAM, within the cgroup's limit."""
    free = int(psutil.virtual_memory().available)
    left = cgroup.ram_left()
    return free if left is None else min(free, left)


def read() -> Environment:
    """Returns the environment record of now; its noise check is run apart."""
    frequency = psutil.cpu_freq() if hasattr(psutil, "cpu_freq") else None
    return Environment(
        cpu=_cpu_name(),
        cores_physical=psutil.cpu_count(logical=False),
        cores_logical=os.cpu_count() or 1,
        cores_allowed=cores_allowed(),
        affinity=affinity(),
        cgroup_quota=cgroup.cpu_quota(),
        frequency_mhz=round(frequency.current, 1) if frequency else None,
        governor=cgroup.text(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")),
        power=_power(),
        ram_total=psutil.virtual_memory().total,
        ram_available=available_ram(),
        ram_limit=cgroup.ram_limit(),
        os=f"{platform.system()} {platform.release()}",
        virtualization=_virtualization(),
        load=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        python=platform.python_version(),
        versions=_versions(),
        gpu=_gpu(),
    )


def affinity() -> list[int]:
    """Returns the numbers of the cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _cpu_name() -> str:
    for line in cgroup.text(Path("/proc/cpuinfo")).splitlines():
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
    if Path("/.dockerenv").exists() or "docker" in cgroup.text(Path("/proc/1/cgroup")):
        found.append("docker")
    if Path("/run/.containerenv").exists():
        found.append("podman")
    flags = cgroup.text(Path("/proc/cpuinfo"))
    if " hypervisor" in flags:
        vendor = cgroup.text(Path("/sys/class/dmi/id/sys_vendor"))
        found.append(f"VM ({vendor})" if vendor else "VM")
    if "microsoft" in platform.release().lower():
        found.append("WSL")
    return " + ".join(found) or "none"


def _gpu() -> str:
    """Returns the names of NVIDIA GPUs, as their driver for Linux tells them."""
    found = [
        line.split(":", 1)[1].strip()
        for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
        for line in cgroup.text(path).splitlines()
        if line.startswith("Model:")
    ]
    return ", ".join(found)


def _versions() -> dict[str, str]:
    known = {"python": sys.version.split()[0]}
    for package in _PACKAGES:
        try:
            known[package] = version(package)
        except PackageNotFoundError:
            continue
    return known
