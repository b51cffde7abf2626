"""Answers over HTTP that take their time, and that end when their client does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from vozmetro.serve.jobs import GoneError, Job

T = TypeVar("T")
GONE = 499
"""What logs of web servers call a client that has left; nobody gets it."""


async def while_there(request: Request, job: Job[Any], answer: Coroutine[Any, Any, T]) -> T:
    """Returns what is made of a job; ends the job where the client leaves before.

    Raises:
        GoneError: It has left.
    """

    async def left() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    watching, reading = asyncio.ensure_future(left()), asyncio.ensure_future(answer)
    try:
        await asyncio.wait({watching, reading}, return_when="FIRST_COMPLETED")
        if not reading.done():
            job.cancel()
            raise GoneError
        return reading.result()
    finally:
        for task in (watching, reading):
            task.cancel()
        await asyncio.gather(watching, reading, return_exceptions=True)


class Streamed(StreamingResponse):
    """Sends what is made as it is made.

    Args:
        pieces: What to send.
        end: Called when it is over, however that comes.
        media_type: Of the whole.
        headers: More of them.
    """

    def __init__(
        self,
        pieces: AsyncIterator[bytes],
        end: Callable[[], None],
        media_type: str,
        headers: dict[str, str],
    ) -> None:
        # Proxies hold back small pieces otherwise.
        more = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", **headers}
        super().__init__(pieces, media_type=media_type, headers=more)
        self._end = end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends it, as ASGI has it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._end()


def event(value: dict[str, Any]) -> bytes:
    """Returns a server-sent event."""
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


def gone() -> Response:
    """Returns the answer that nobody gets."""
    return Response(status_code=GONE)
