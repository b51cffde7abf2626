"""A socket to listen on, and a server that runs on it until Ctrl-C."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from vozmetro.errors import InputError

if TYPE_CHECKING:
    from vozmetro.quality.listen.guard import Guard


def bind(host: str, port: int) -> socket.socket:
    """Returns a socket that listens; port 0 takes a free one.

    Raises:
        InputError: `listen_port_taken` or `listen_host_invalid`.
    """
    if not 0 <= port <= 65535:
        raise InputError("listen_port_range", port=port)
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise InputError("listen_host_invalid", host=host) from error
    try:
        return socket.create_server(address[:2], family=family)
    except (OSError, OverflowError) as error:
        detail = getattr(error, "strerror", None) or error
        raise InputError("listen_port_taken", host=host, port=port, detail=detail) from error


def run(app: Guard, listening: socket.socket) -> None:
    """Serves until it is interrupted.

    Args:
        app: From `create_app`.
        listening: From `bind`.
    """
    import uvicorn

    config = uvicorn.Config(
        app, http="h11", loop="asyncio", ws="none", lifespan="off", log_config=None,
        access_log=False, server_header=False, proxy_headers=False, limit_concurrency=256,
        h11_max_incomplete_event_size=16_384, timeout_keep_alive=5, timeout_graceful_shutdown=2,
    )  # fmt: skip
    try:
        uvicorn.Server(config).run(sockets=[listening])
    except KeyboardInterrupt:
        # Ctrl-C is how a test ends; what was answered is on disk.
        return
