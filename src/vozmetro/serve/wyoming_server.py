"""Wyoming on a socket: connections counted, and ended with the server."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from functools import partial

from wyoming.error import Error
from wyoming.event import async_write_event
from wyoming.server import AsyncServer, HandlerFactory

from vozmetro.errors import BusyError
from vozmetro.serve.problems import tell
from vozmetro.serve.state import Serving
from vozmetro.serve.wyoming_handler import Handler, leave

LINE_BYTES = 1 << 16
"""Of an event's first line."""


class WyomingServer(AsyncServer):
    """The `wyoming` package's server, on a socket that listens already."""

    def __init__(self, serving: Serving) -> None:
        super().__init__()
        self._serving = serving
        self._server: asyncio.Server | None = None
        self._refusing: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def listen(self, listening: socket.socket) -> None:
        """Begins to serve."""
        factory = partial(Handler, serving=self._serving)
        self._server = await asyncio.start_server(
            partial(self._handler_callback, factory), sock=listening, limit=LINE_BYTES
        )

    async def run(self, handler_factory: HandlerFactory) -> None:
        """Serves until it is cancelled; `listen` was called before."""
        if self._server is not None:
            await self._server.serve_forever()

    async def stop(self) -> None:
        """Ends all connections."""
        if self._server is None:
            return
        self._server.close()
        served = {task: handler.writer for task, handler in self._handlers.items()}
        connections = served | self._refusing
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        # A task that is cancelled while it takes its leave, or before it began, closes nothing.
        for writer in connections.values():
            writer.transport.abort()

    async def _handler_callback(
        self,
        handler_factory: HandlerFactory,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        if self._server is None or not self._server.is_serving():
            writer.transport.abort()  # It came in while the server stopped.
        elif len(self._handlers) < self._serving.limits.connections:
            await super()._handler_callback(handler_factory, reader, writer)
        elif len(self._refusing) < self._serving.limits.connections:
            task = asyncio.ensure_future(self._refuse(reader, writer))
            self._refusing[task] = writer
            task.add_done_callback(lambda done: self._refusing.pop(done, None))
        else:
            writer.transport.abort()

    async def _refuse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        known = tell(self._serving, "wyoming", BusyError("server_busy"))
        with suppress(OSError):
            await async_write_event(Error(str(known), known.code).event(), writer)
        await leave(reader, writer)
