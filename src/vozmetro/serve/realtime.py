"""`/v1/realtime`: OpenAI's realtime protocol over a WebSocket, as it is now and as its beta was."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from contextlib import suppress
from typing import Any

from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from vozmetro.errors import VozmetroError
from vozmetro.pipeline.protocols import Event
from vozmetro.pipeline.tiers import Tiers
from vozmetro.serve.line import Line, Talks, conversations
from vozmetro.serve.realtime_events import RefusedError, parse
from vozmetro.serve.realtime_exchange import failed
from vozmetro.serve.realtime_response import new_id
from vozmetro.serve.realtime_session import Session
from vozmetro.serve.realtime_settings import Settings
from vozmetro.serve.wire import Limits, OverError, Places, Wire, same_origin, together

BETA_HEADER = "realtime=v1"
BETA_SUBPROTOCOL = "openai-beta.realtime-v1"
KEY = "openai-insecure-api-key."
"""Before the token, in the subprotocol of a browser, which cannot send headers."""


class Realtime:
    """The sessions of a server.

    Args:
        tiers: Who answers.
        token: What a client must show, as a bearer or as OpenAI's browser clients do, in a
            subprotocol; empty for none.
        limits: Of each of them.
        talks: Makes conversations.
    """

    def __init__(
        self,
        tiers: Tiers,
        *,
        token: str = "",
        limits: Limits | None = None,
        talks: Talks = conversations,
    ) -> None:
        self._tiers, self._token, self._talks = tiers, token, talks
        self._limits = limits or Limits()
        self._places = Places(self._limits.connections)

    def routes(self) -> list[BaseRoute]:
        """Returns the protocol's one place."""
        return [WebSocketRoute("/v1/realtime", self.serve)]

    async def serve(self, socket: WebSocket) -> None:
        """Serves one client to the end."""
        offered = socket.scope.get("subprotocols", [])
        if self._token and not self._invited(socket, offered):
            await refuse(
                socket, 401, "invalid_api_key", "Send this server's token as the API key (Bearer)."
            )
            return
        if not self._token and not same_origin(socket):
            # Any page that a browser on this machine opens could connect otherwise.
            await refuse(
                socket, 403, "wrong_origin", "Pages of other sites need a server with a token."
            )
            return
        if not self._places.take():
            await refuse(socket, 503, "server_busy", "Too many sessions are open: try again later.")
            return
        try:
            await socket.accept(subprotocol="realtime" if "realtime" in offered else None)
            beta = BETA_SUBPROTOCOL in offered
            beta = beta or BETA_HEADER in socket.headers.get("openai-beta", "")
            # A model that is not ours is OpenAI's name for theirs: the default tier stands in.
            asked = socket.query_params.get("model", "")
            model = asked if asked in self._tiers.names else self._tiers.names[0]
            await _Connection(socket, self._limits).run(
                self._tiers, self._talks, Settings(model=model), beta
            )
        finally:
            self._places.free()

    def _invited(self, socket: WebSocket, offered: list[str]) -> bool:
        given = [one.removeprefix(KEY) for one in offered if one.startswith(KEY)]
        scheme, _, bearer = socket.headers.get("authorization", "").partition(" ")
        given += [bearer.strip()] if scheme.lower() == "bearer" else []
        wanted = self._token.encode()
        return any(secrets.compare_digest(one.encode(), wanted) for one in given)


class _Connection:
    def __init__(self, socket: WebSocket, limits: Limits) -> None:
        self._wire = Wire(socket, limits)
        self._limits = limits
        self._events: asyncio.Queue[tuple[Line, Event]] = asyncio.Queue()
        # What the client says and what the pipeline does are dealt with one at a time.
        self._one = asyncio.Lock()

    async def run(self, tiers: Tiers, talks: Talks, settings: Settings, beta: bool) -> None:
        session = Session(
            tiers, talks, settings, beta=beta, send=self._send,
            post=lambda line, event: self._events.put_nowait((line, event)),
            limits=self._rate_limits,
        )  # fmt: skip
        session.greet(new_id("sess"), int(time.time() + self._limits.session_s))
        wire, code = self._wire, 1000
        try:
            await together(self._listen(session), self._pump(session), wire.write(), wire.broken())
        except OverError as error:
            self._send(RefusedError(error.code, error.message).event())
            code = error.close
        except WebSocketDisconnect:
            pass
        finally:
            await self._part(session, code)

    async def _part(self, session: Session, code: int) -> None:
        with suppress(TimeoutError, WebSocketDisconnect, RuntimeError):
            # The last words, to a client that reads.
            await asyncio.wait_for(self._wire.flush(), 2)
        await self._wire.close(code)
        await session.close()

    async def _listen(self, session: Session) -> None:
        while True:
            message = await self._wire.receive()
            async with self._one:
                await self._heed(session, message)

    async def _heed(self, session: Session, message: str | bytes) -> None:
        name = None
        try:
            if isinstance(message, bytes):
                raise RefusedError("invalid_json", "Send JSON as text, audio as base64 within it.")
            event = parse(message)
            name = event.event_id
            await session.says(event)
        except RefusedError as error:
            error.event_id = error.event_id or name
            self._send(error.event())
        except VozmetroError as error:
            told = {**failed(error.code), "message": str(error), "event_id": name}
            self._send({"type": "error", "error": told})

    async def _pump(self, session: Session) -> None:
        while True:
            line, event = await self._events.get()
            async with self._one:
                await session.happens(line, event)

    def _send(self, event: dict[str, Any]) -> None:
        self._wire.send(json.dumps({"event_id": new_id("event"), **event}))

    def _rate_limits(self) -> list[dict[str, Any]]:
        left, seconds = self._wire.bucket.left()
        return [
            {
                "name": "requests", "limit": self._limits.burst, "remaining": left,
                "reset_seconds": round(seconds, 3),
            }
        ]  # fmt: skip


async def refuse(socket: WebSocket, status: int, code: str, message: str) -> None:
    """Answers a handshake with an HTTP error."""
    error = {"type": "invalid_request_error", "code": code, "message": message, "param": None}
    await socket.send_denial_response(JSONResponse({"error": error}, status_code=status))
