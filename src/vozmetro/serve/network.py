"""Sockets to serve on, and the announcement of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from vozmetro.errors import InputError, MissingExtraError
from vozmetro.quality.listen.guard import is_loopback


def announcement(host: str, port: int) -> Callable[[], AbstractAsyncContextManager[None]]:
    """Returns what tells Home Assistant on the same network of a Wyoming server, while it runs.

    Args:
        host: What the server listens on.
        port: Of Wyoming.

    Raises:
        InputError: `serve_zeroconf_loopback`.
        MissingExtraError: zeroconf is not installed.
    """
    if is_loopback(host):
        raise InputError("serve_zeroconf_loopback")
    try:
        import zeroconf  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtraError("zeroconf", "zeroconf") from error

    @asynccontextmanager
    async def announced() -> AsyncIterator[None]:
        from wyoming.zeroconf import HomeAssistantZeroconf

        everywhere = host in ("0.0.0.0", "::")  # noqa: S104
        service = HomeAssistantZeroconf(port, name="vozmetro", host=None if everywhere else host)
        await service.register_server()
        try:
            yield
        finally:
            # The package has no way to take its announcement back.
            await service._aiozc.async_close()

    return announced
