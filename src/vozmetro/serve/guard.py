"""What stands before the HTTP server: whose name it answers to, and who may use the models."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from functools import wraps
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from vozmetro.errors import InputError
from vozmetro.quality.listen.guard import Access
from vozmetro.serve.problems import problem, tell
from vozmetro.serve.state import Serving

Handler = Callable[[Request], Awaitable[Response]]


class Hosts:
    """Answers only to names that are this server's own.

    A page that rebinds its own name to our address would send that name (DNS rebinding), and could
    then read what we answer.
    """

    def __init__(self, app: ASGIApp, serving: Serving) -> None:
        self._app, self._serving = app, serving

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request, as ASGI has it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        hosts = HTTPConnection(scope).headers.getlist("host")
        if len(hosts) == 1 and self._serving.access.admits(hosts[0]):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            error = tell(self._serving, "http", InputError("serve_wrong_host"))
            await problem(error)(scope, receive, send)


def invited(serving: Serving) -> Callable[[Handler], Handler]:
    """Returns a decorator for handlers that only those who may ask get to."""

    def decorate(handler: Handler) -> Handler:
        @wraps(handler)
        async def guarded(request: Request) -> Response:
            code = _refusal(request, serving.access)
            if code:
                return problem(tell(serving, "http", InputError(code)))
            return await handler(request)

        return guarded

    return decorate


def _refusal(request: Request, access: Access) -> str:
    """Returns the code of why a request goes no further; empty where it does."""
    if access.token:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        right = secrets.compare_digest(
            given.strip().encode(errors="replace"), access.token.encode()
        )
        return "" if right and scheme.lower() == "bearer" else "serve_token"
    # Without a token, any page that a browser on this machine opens could send a form here.
    origin = request.headers.get("origin")
    foreign = origin is not None and not _is_same(origin, request.headers.get("host", ""))
    cross = request.headers.get("sec-fetch-site", "") in ("cross-site", "same-site")
    return "serve_wrong_origin" if foreign or cross else ""


def _is_same(origin: str, host: str) -> bool:
    try:
        return urlsplit(origin).netloc.lower() == host.lower()
    except ValueError:
        return False
