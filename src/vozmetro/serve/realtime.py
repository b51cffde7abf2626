"""`/v1/realtime`: OpenAI's realtime protocol over a WebSocket, as it is now and as its beta was."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from contextlib import suppress
from typing import Any

from starlette.routing import BaseRoute, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from vozmetro.errors import BusyError, InputError, VozmetroError
from vozmetro.pipeline.protocols import Event
from vozmetro.serve.line import Line, Talks, conversations
from vozmetro.serve.problems import problem, tell
from vozmetro.serve.realtime_events import RefusedError, error_event, parse
from vozmetro.serve.realtime_response import new_id
from vozmetro.serve.realtime_session import Session
from vozmetro.serve.realtime_settings import Settings
from vozmetro.serve.state import Serving
from vozmetro.serve.watch import Watch
from vozmetro.serve.wire import Bounds, OverError, Places, Wire, same_origin, together

BETA_HEADER = "realtime=v1"
BETA_SUBPROTOCOL = "openai-beta.realtime-v1"
SURFACE = "realtime"
"""What metrics and logs call it."""
KEY = "openai-insecure-api-key."
"""Before the token, in the subprotocol of a browser, which cannot send headers."""


def routes(
    serving: Serving, *, bounds: Bounds | None = None, talks: Talks = conversations
) -> list[BaseRoute]:
    """Returns the protocol's one place.

    Args:
        serving: The server.
        bounds: Of each session.
        talks: Makes conversations.
    """
    return [WebSocketRoute("/v1/realtime", _Realtime(serving, bounds or Bounds(), talks).serve)]


class _Realtime:
    def __init__(self, serving: Serving, bounds: Bounds, talks: Talks) -> None:
        self._serving, self._bounds, self._talks = serving, bounds, talks
        self._places = Places(bounds.connections)

    async def serve(self, socket: WebSocket) -> None:
        offered = socket.scope.get("subprotocols", [])
        error = self._refusal(socket, offered)
        if error is None and not self._places.take():
            error = BusyError("server_busy")
        if error is not None:
            answer = problem(tell(self._serving, SURFACE, error))
            await socket.send_denial_response(answer)
            return
        watch = Watch(self._serving, SURFACE)
        try:
            await socket.accept(subprotocol="realtime" if "realtime" in offered else None)
            beta = BETA_SUBPROTOCOL in offered
            beta = beta or BETA_HEADER in socket.headers.get("openai-beta", "")
            # A model that is not ours is OpenAI's name for theirs: the rules choose a tier then.
            asked, names = socket.query_params.get("model", ""), self._serving.tiers.names
            tier = asked if asked in names else ""
            settings = Settings(model=tier or names[0], tier=tier)
            await _Connection(socket, self._bounds, watch).run(self._talks, settings, beta)
        finally:
            watch.close()
            self._places.free()

    def _refusal(self, socket: WebSocket, offered: list[str]) -> VozmetroError | None:
        token = self._serving.access.token
        if token:
            given = [one.removeprefix(KEY) for one in offered if one.startswith(KEY)]
            scheme, _, bearer = socket.headers.get("authorization", "").partition(" ")
            given += [bearer.strip()] if scheme.lower() == "bearer" else []
            if not any(secrets.compare_digest(one.encode(), token.encode()) for one in given):
                return InputError("serve_token")
        elif not same_origin(socket):
            # Any page that a browser on this machine opens could connect otherwise.
            return InputError("serve_wrong_origin")
        return BusyError("serve_draining") if self._serving.draining else None


class _Connection:
    def __init__(self, socket: WebSocket, bounds: Bounds, watch: Watch) -> None:
        self._wire = Wire(socket, bounds)
        self._bounds, self._watch = bounds, watch
        self._events: asyncio.Queue[tuple[Line, Event]] = asyncio.Queue()
        # What the client says and what the pipeline does are dealt with one at a time.
        self._one = asyncio.Lock()

    async def run(self, talks: Talks, settings: Settings, beta: bool) -> None:
        session = Session(
            self._watch.tiers, talks, settings, beta=beta, send=self._send, post=self._post,
            limits=self._rate_limits,
        )  # fmt: skip
        session.greet(new_id("sess"), int(time.time() + self._bounds.session_s))
        wire, code = self._wire, 1000
        try:
            await together(self._listen(session), self._pump(session), wire.write(), wire.broken())
        except OverError as error:
            self._watch.refused(error.code)
            self._send(error_event(error, "invalid_request_error"))
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
                raise RefusedError("realtime_invalid_json")
            event = parse(message)
            name = event.event_id
            await session.says(event)
        except RefusedError as error:
            error.event_id = error.event_id or name
            self._watch.refused(error.code)
            self._send(error.event())
        except VozmetroError as error:
            self._watch.refused(error.code, isinstance(error, BusyError))
            self._send(error_event(error, "server_error", event_id=name))

    def _post(self, line: Line, event: Event) -> None:
        self._watch.happens(event)
        if not line.closed:
            self._events.put_nowait((line, event))

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
                "name": "requests", "limit": self._bounds.burst, "remaining": left,
                "reset_seconds": round(seconds, 3),
            }
        ]  # fmt: skip
