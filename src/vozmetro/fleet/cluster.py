"""The connection to a Ray cluster."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vozmetro.errors import InputError, MissingExtraError

LOCAL = "local"
"""Starts a cluster of this machine alone, which ends with the program."""
_KNOCK_S = 5.0


@contextmanager
def connect(address: str = LOCAL) -> Iterator[None]:
    """Holds a connection to a Ray cluster; one that is held already is used as it is.

    Args:
        address: `local`, `auto` for the cluster that this machine belongs to, `HOST:PORT`, or
            `ray://HOST:PORT`.

    Raises:
        MissingExtraError: Ray is not installed.
        InputError: `cluster_unreachable`.
    """
    # Nothing about anybody's machines leaves them.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
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
    except (ConnectionError, RuntimeError, ValueError) as error:
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
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65_535:
        if address in (LOCAL, "auto"):
            return
        raise InputError("cluster_unreachable", address=address, detail="HOST:PORT?")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_S).close()
    except OSError as error:
        detail = error.strerror or str(error)
        raise InputError("cluster_unreachable", address=address, detail=detail) from error
