"""A WebSocket with bounds: how much comes in, how much waits to go out, how long it may last."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from vozmetro.errors import InputError

TOO_MUCH = 1008
"""Close code of whoever does not keep to the bounds (policy violation, RFC 6455)."""
AWAY = 1001
"""Close code of a server that goes away, or of a session that is over."""


USUAL_BYTES = 8192
"""A message as long as this counts as two, and so on: a tenth of a second of audio is shorter."""


@dataclass(frozen=True)
class Bounds:
    """Of one connection.

    Attributes:
        connections: At once, of one kind.
        per_second: Messages that may come in the long run.
        burst: Messages that may come at once.
        unsent_bytes: That may wait for a slow reader.
        idle_s: Without a message from the client.
        session_s: Altogether.
    """

    connections: int = 16
    per_second: float = 250.0
    burst: int = 3000
    unsent_bytes: int = 16 << 20
    idle_s: float = 600.0
    session_s: float = 3600.0


class OverError(InputError):
    """The connection ends here.

    Args:
        code: Of the sentence.
        close: Code to close it with.
        **fields: Of the sentence.
    """

    def __init__(self, code: str, close: int = TOO_MUCH, **fields: object) -> None:
        super().__init__(code, **fields)
        self.close = close


class Places:
    """Connections at once."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = 0

    def take(self) -> bool:
        """Takes a place; False where there is none."""
        free = self._taken < self._most
        self._taken += free
        return free

    def free(self) -> None:
        """Gives it back."""
        self._taken -= 1


class Bucket:
    """Messages that may still come: it fills up again as time goes by."""

    def __init__(self, bounds: Bounds, clock: Callable[[], float]) -> None:
        self._bounds, self._clock = bounds, clock
        self._left, self._seen = float(bounds.burst), clock()

    def take(self, size: int) -> bool:
        """Takes a message of a size in bytes out; False where not as much is left."""
        self._fill()
        # Long messages cost as much as the short ones that they could have been.
        cost = 1 + size // USUAL_BYTES
        enough = self._left >= cost
        self._left -= cost if enough else 0
        return enough

    def left(self) -> tuple[int, float]:
        """Returns how many are left, and the seconds until it is full."""
        self._fill()
        return int(self._left), (self._bounds.burst - self._left) / self._bounds.per_second

    def _fill(self) -> None:
        now = self._clock()
        gained = (now - self._seen) * self._bounds.per_second
        self._left, self._seen = min(float(self._bounds.burst), self._left + gained), now


class Wire:
    """One accepted WebSocket.

    Args:
        socket: It.
        bounds: Of it.
        clock: Monotonic seconds.
    """

    def __init__(
        self, socket: WebSocket, bounds: Bounds, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._socket, self._bounds, self._clock = socket, bounds, clock
        self.bucket = Bucket(bounds, clock)
        self._ends = clock() + bounds.session_s
        self._waiting: deque[str | bytes] = deque()
        self._unsent = 0
        self._news = asyncio.Event()
        self._over: OverError | None = None
        self._broken = asyncio.Event()

    def send(self, message: str | bytes) -> None:
        """Queues a message; does not wait. The connection ends where too much is queued."""
        if self._over is not None:
            return
        self._unsent += len(message)
        if self._unsent > self._bounds.unsent_bytes:
            self._over = OverError("realtime_slow_reader")
            self._waiting.clear()
            self._broken.set()
        else:
            self._waiting.append(message)
            self._news.set()

    async def receive(self) -> str | bytes:
        """Returns the next message.

        Raises:
            OverError: It took too long, or too many come.
            WebSocketDisconnect: The client has gone.
        """
        left = self._ends - self._clock()
        if left <= 0:
            raise OverError("realtime_session_expired", AWAY)
        try:
            message = await asyncio.wait_for(self._socket.receive(), min(left, self._bounds.idle_s))
        except TimeoutError as error:
            if left <= self._bounds.idle_s:
                raise OverError("realtime_session_expired", AWAY) from error
            raise OverError("realtime_session_idle", AWAY) from error
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005), message.get("reason"))
        text, data = message.get("text"), message.get("bytes")
        said: str | bytes = text if text is not None else data or b""
        if not self.bucket.take(len(said)):
            raise OverError("realtime_rate_limit_exceeded", limit=f"{self._bounds.per_second:.0f}")
        return said

    async def write(self) -> None:
        """Sends what is queued, for ever; raises WebSocketDisconnect once the client has gone."""
        while True:
            await self._news.wait()
            self._news.clear()
            await self.flush()

    async def broken(self) -> None:
        """Waits, for ever if need be, until too much is queued; raises OverError then."""
        await self._broken.wait()
        raise self._over or AssertionError

    async def flush(self) -> None:
        """Sends what is queued now; raises as `write` does."""
        while self._waiting:
            message = self._waiting.popleft()
            if isinstance(message, str):
                await self._socket.send_text(message)
            else:
                await self._socket.send_bytes(message)
            self._unsent -= len(message)

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Closes it, whatever state it is in."""
        if self._socket.application_state is not WebSocketState.CONNECTED:
            return
        try:
            await asyncio.wait_for(self._socket.close(code, reason), 2)
        except (RuntimeError, WebSocketDisconnect, TimeoutError):
            # The client was faster.
            return


async def together(*works: Coroutine[Any, Any, None]) -> None:
    """Runs all until the first of them ends, and ends the others; raises what that one raised."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


def same_origin(connection: HTTPConnection) -> bool:
    """Returns whether the browser's page is this server's own; without a browser there is none."""
    origin, host = connection.headers.get("origin"), connection.headers.get("host", "")
    if origin is None:
        return True
    try:
        return urlsplit(origin).netloc.lower() == host.lower()
    except ValueError:
        return False
