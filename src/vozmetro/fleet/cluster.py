"""The connection to a Ray cluster."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from vozmetro.errors import InputError, MissingExtraError

LOCAL = "local"
"""Starts a cluster of this machine alone, which ends with the program."""


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
    try:
        ray.init(
            address=address,
            include_dashboard=False if address == LOCAL else None,
            logging_level=logging.ERROR,
            log_to_driver=False,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        detail = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise InputError("cluster_unreachable", address=address, detail=detail) from error
    try:
        yield
    finally:
        ray.shutdown()
