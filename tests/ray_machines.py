"""A Ray cluster of several machines on this one: each a network namespace with an address of its
own where the system lets us make those, else processes on the loopback interface.

Only addresses of these namespaces, or the loopback's, are used, and all is taken away at the end.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

_NETWORK = "10.213.77"
_QUICK = {
    # A machine that dies is noticed in seconds.
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "4",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
}


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def namespaces_can_be_made() -> bool:
    name = f"vmtry{os.getpid()}"
    try:
        _ip("netns", "add", name)
        _ip("netns", "del", name)
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


class Machines:
    """The head, and others by name. Use it in a `with` block."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._apart = namespaces_can_be_made()
        self._token = secrets.token_hex(32)
        # Not where Ray notes a user's own cluster; short, since paths of sockets must be.
        self._sessions = Path(tempfile.mkdtemp(prefix="vm", dir="/tmp"))
        self._port, self._client_port = _free_port(), _free_port()
        self._mark = f"vm{os.getpid() % 10_000}"
        self._addresses: dict[str, str] = {}
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Machines:
        if self._apart:
            _ip("link", "add", f"{self._mark}br", "type", "bridge")
            _ip("link", "set", f"{self._mark}br", "up")
        self.start("head", head=True)
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self._running):
            self.kill(name)
        if self._apart:
            for name in self._addresses:
                with contextlib.suppress(subprocess.CalledProcessError):
                    _ip("netns", "del", self._mark + name)
            with contextlib.suppress(subprocess.CalledProcessError):
                _ip("link", "del", f"{self._mark}br")
        shutil.rmtree(self._sessions, ignore_errors=True)

    @property
    def address(self) -> str:
        return f"{self._addresses['head']}:{self._port}"

    @property
    def from_outside(self) -> str:
        """The address for a machine that does not belong to the cluster."""
        return f"ray://{self._addresses['head']}:{self._client_port}"

    def start(self, name: str, *, head: bool = False, slot: bool = True, **labels: str) -> None:
        """Turns a machine on; one that was killed comes back empty, but for its disk."""
        if name not in self._addresses:
            self._addresses[name] = self._new_address(name)
        address = self._addresses[name]
        words = ["start", "--block", "--num-cpus=1", "--object-store-memory=100000000"]
        words += [f"--node-ip-address={address}", "--disable-usage-stats"]
        words += [
            "--head", f"--port={self._port}", f"--ray-client-server-port={self._client_port}",
            "--include-dashboard=false", f"--temp-dir={self._sessions}",
        ] if head else [f"--address={self.address}"]  # fmt: skip
        if labels:
            words.append("--labels=" + ",".join(f"{key}={value}" for key, value in labels.items()))
        if slot and not head:
            words.append("--resources=" + json.dumps({"vozmetro_slot": 1}))
        log = self._folder / f"{name}.log"
        before = _starts(log)
        with log.open("ab") as file:
            self._running[name] = subprocess.Popen(
                self.inside(name, str(Path(sys.executable).with_name("ray")), *words),
                env=self.environment(name),
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._until_up(name, log, before)

    def inside(self, name: str, *words: str) -> Sequence[str]:
        """A command as it runs on a machine."""
        if not self._apart:
            return words
        return ["ip", "netns", "exec", self._mark + name, *words]

    def environment(self, name: str) -> dict[str, str]:
        """Each machine has a disk of its own for what vozmetro keeps there."""
        cache = self._folder / f"cache-{name}"
        auth = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self._token}
        return {**os.environ, **_QUICK, **auth, "VOZMETRO_CACHE": str(cache)}

    def processes(self, name: str) -> list[psutil.Process]:
        """All that runs on a machine."""
        try:
            first = psutil.Process(self._running[name].pid)
            return [first, *first.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def measures(self, name: str) -> bool:
        """Whether a worker of vozmetro runs on it."""
        for process in self.processes(name):
            with contextlib.suppress(psutil.Error):
                if "vozmetro.measure.worker" in process.cmdline():
                    return True
        return False

    def kill(self, name: str) -> None:
        """Pulls the plug."""
        every = self.processes(name)
        for process in every:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        psutil.wait_procs(every, timeout=20)
        self._running.pop(name).wait(20)

    def _new_address(self, name: str) -> str:
        number = len(self._addresses) + 1
        if not self._apart:
            return f"127.0.0.{number}"
        space, near, far = self._mark + name, f"{self._mark}n{number}", f"{self._mark}f{number}"
        _ip("netns", "add", space)
        _ip("link", "add", near, "type", "veth", "peer", "name", far)
        _ip("link", "set", near, "master", f"{self._mark}br", "up")
        _ip("link", "set", far, "netns", space)
        for words in (
            ("addr", "add", f"{_NETWORK}.{number}/24", "dev", far),
            ("link", "set", far, "up"),
            ("link", "set", "lo", "up"),
        ):
            _ip("-n", space, *words)
        return f"{_NETWORK}.{number}"

    def _until_up(self, name: str, log: Path, before: int) -> None:
        end = time.monotonic() + 180
        while _starts(log) == before:
            assert self._running[name].poll() is None, log.read_text(errors="replace")
            assert time.monotonic() < end, log.read_text(errors="replace")
            threading.Event().wait(0.2)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _starts(log: Path) -> int:
    return log.read_text(errors="replace").count("Ray runtime started") if log.exists() else 0
