"""The connection to a Ray cluster."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vozmetro.errors import InputError, MissingExtraError

LOCAL = "local"
"""Starts a cluster of this machine alone, which ends with the program."""
CLIENT = "ray://"
"""Begins the address of a cluster to which this machine does not belong."""
_KNOCK_S = 5.0


@contextmanager
def connect(address: str = LOCAL, *, from_outside: bool = True) -> Iterator[None]:
    """Holds a connection to a Ray cluster; one that is held already is used as it is.

    Args:
        address: `local`, `auto` for the cluster that this machine belongs to, `HOST:PORT`, or
            `ray://HOST:PORT` from a machine that does not belong to it.
        from_outside: Whether what follows can be done from such a machine.

    Raises:
        MissingExtraError: Ray is not installed.
        InputError: `cluster_unreachable`, or `cluster_outside`.
    """
    if address.startswith(CLIENT) and not from_outside:
        raise InputError("cluster_outside", address=address)
    # Nothing about anybody's machines leaves them.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address == LOCAL:
        # Else its workers, and what they measure, stand back behind everything else.
        os.environ.setdefault("RAY_worker_niceness", "0")
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError("fleet", "ray") from error
    if ray.is_initialized():
        yield
        return
    # A cluster of this machine alone is nobody else's: it listens on the loopback interface.
    own: dict[str, Any] = {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    _knock(address)
    try:
        ray.init(
            address=address,
            logging_level=logging.ERROR,
            log_to_driver=False,
            **(own if address == LOCAL else {}),
        )
    except (ray.exceptions.RayError, ConnectionError, RuntimeError, ValueError) as error:
        detail = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise InputError("cluster_unreachable", address=address, detail=detail) from error
    try:
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Finds out in seconds that nobody is there: Ray itself goes on trying for minutes.

    Raises:
        InputError: `cluster_unreachable`.
    """
    if address == "auto":
        address = _begun_here() or "auto"
    host, colon, port = address.removeprefix(CLIENT).rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65_535:
        if address in (LOCAL, "auto"):
            return
        raise InputError("cluster_unreachable", address=address, detail="HOST:PORT?")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_S).close()
    except (OSError, ValueError) as error:
        detail = getattr(error, "strerror", "") or str(error)
        raise InputError("cluster_unreachable", address=address, detail=detail) from error


def _begun_here() -> str:
    """The cluster that `auto` means, where Ray notes it; the note outlives one that was killed."""
    told = os.environ.get("RAY_ADDRESS", "")
    if told:
        return told
    folder = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"  # noqa: S108
    try:
        return Path(folder, "ray", "ray_current_cluster").read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""
