"""Both servers on their sockets, from the first request to the last."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from vozmetro.serve.http_protocol import protocol
from vozmetro.serve.logs import log
from vozmetro.serve.state import Serving
from vozmetro.serve.wyoming_server import WyomingServer

_HEAD_BYTES = 16_384
_MESSAGE_BYTES = 3 << 20
_TICK_S = 0.02


class _Server(uvicorn.Server):
    """uvicorn's server, which leaves signals to us: it would end the process by them."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Captures none."""
        yield


async def serve(
    serving: Serving,
    app: ASGIApp,
    http: socket.socket,
    *,
    wyoming: socket.socket | None = None,
    ready: Callable[[], None] | None = None,
    announce: Callable[[], contextlib.AbstractAsyncContextManager[Any]] | None = None,
) -> bool:
    """Serves until the process is told to stop; then what runs is finished and nothing else begun.

    Args:
        serving: See there.
        app: From `build`.
        http: A socket that listens, for HTTP.
        wyoming: One for Wyoming.
        ready: Called once both answer.
        announce: Tells the network of them, for as long as they run.

    Returns:
        Whether all that ran came to its end.
    """
    server, satellites = _Server(_config(serving, app)), WyomingServer(serving)
    async with contextlib.AsyncExitStack() as held:
        stop, hurry = _signals(held)
        running = asyncio.ensure_future(server.serve(sockets=[http]))
        whole = False
        try:
            if wyoming is not None:
                await satellites.listen(wyoming)
            if announce is not None:
                await held.enter_async_context(announce())
            while not server.started and not running.done():
                await asyncio.sleep(_TICK_S)
            if ready is not None and not running.done():
                ready()
            await _first(running, stop.wait())
            log("draining", {"active": serving.active})
            serving.drain()
            await _first(asyncio.ensure_future(serving.finished()), hurry.wait())
            whole = serving.active == 0
        finally:
            server.should_exit = True
            await satellites.stop()
            await running
    serving.threads.shutdown(wait=False, cancel_futures=True)
    log("stopped", {"whole": whole})
    return whole


def _config(serving: Serving, app: ASGIApp) -> uvicorn.Config:
    limits = serving.limits
    return uvicorn.Config(
        app, http=protocol(limits), loop="asyncio", ws="websockets-sansio", lifespan="off",
        log_config=None, access_log=False, server_header=False, proxy_headers=False,
        limit_concurrency=limits.connections, h11_max_incomplete_event_size=_HEAD_BYTES,
        ws_max_size=_MESSAGE_BYTES, timeout_keep_alive=5, timeout_graceful_shutdown=2,
    )  # fmt: skip


def _signals(held: contextlib.AsyncExitStack) -> tuple[asyncio.Event, asyncio.Event]:
    """Returns what SIGTERM or Ctrl-C sets, and what the second one does."""
    stop, hurry = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def told() -> None:
        (hurry if stop.is_set() else stop).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        # Not in the main thread (tests), where the caller ends the task instead.
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
            loop.add_signal_handler(number, told)
            held.callback(loop.remove_signal_handler, number)
    return stop, hurry


async def _first(one: asyncio.Future[Any], other: Coroutine[Any, Any, Any]) -> None:
    """Waits for the first of two, and leaves the second one."""
    waiting = asyncio.ensure_future(other)
    try:
        await asyncio.wait({one, waiting}, return_when="FIRST_COMPLETED")
    finally:
        waiting.cancel()
