"""What stands before the listening page: who may ask, how often, and what a browser may do."""

from __future__ import annotations

import ipaddress
import json
import re
import secrets
import socket
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
TOKEN = re.compile(r"[A-Za-z0-9_-]{12,128}")
"""What an access token may be: long enough not to be guessed, and safe in an address."""
DAYS = 30
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src"
    " 'self' data:; media-src 'self' blob:; connect-src 'self'; form-action 'none'; base-uri"
    " 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
"""On every response. Nothing is kept, so that every trial asks for its clips anew."""
_HOST = re.compile(r"(?:\[([0-9a-fA-F:.]{2,45})\]|([A-Za-z0-9._-]{1,253}))(?::[0-9]{1,5})?")
_MOST_BUCKETS = 1024


@dataclass(frozen=True)
class Access:
    """Who may ask.

    Attributes:
        host: What the server listens on.
        token: What every request must carry; empty for none, on loopback only.
        public_name: Another name under which it is reached, for example of a proxy.
    """

    host: str = "127.0.0.1"
    token: str = ""
    public_name: str = ""

    def admits(self, host: str) -> bool:
        """Returns whether a Host header names this server.

        A page that rebinds its own name to our address would send that name (DNS rebinding): only
        addresses, which cannot be rebound, and names known to be ours are let in.
        """
        name = _host_name(host)
        if name is None:
            return False
        if is_loopback(self.host):
            return name in LOOPBACK or name in {self.host.lower(), self.public_name.lower()} - {""}
        ours = {self.host.lower(), self.public_name.lower(), socket.gethostname().lower()} - {""}
        return name in LOOPBACK | ours or _is_address(name)


def is_loopback(host: str) -> bool:
    """Returns whether only this machine can reach a server on this host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _host_name(host: str) -> str | None:
    """Returns the name in a Host header, without the port; None where it is none."""
    found = re.fullmatch(
        r"(?:\[([0-9a-fA-F:.]{2,45})\]|([A-Za-z0-9._-]{1,253}))(?::\d{1,5})?", host
    )
    return (found[1] or found[2]).lower() if found else None


class Rates:
    """Requests per second and name, as buckets that fill up again; the fewest names are kept."""

    def __init__(self, per_second: float, burst: float, clock: Callable[[], float]) -> None:
        self._per_second, self._burst, self._clock = per_second, burst, clock
        self._buckets: OrderedDict[object, tuple[float, float]] = OrderedDict()

    def allow(self, name: object) -> bool:
        """Takes one request out of a bucket; False where it is empty."""
        now = self._clock()
        left, seen = self._buckets.pop(name, (self._burst, now))
        left = min(self._burst, left + max(0.0, now - seen) * self._per_second)
        self._buckets[name] = (left - 1 if left >= 1 else left, now)
        if len(self._buckets) > _MOST_BUCKETS:
            self._buckets.popitem(last=False)
        return left >= 1


def problem(status: int, code: str, **more: object) -> Response:
    """Returns an error as JSON; the page has a sentence for each code."""
    body = json.dumps({"error": code, **more})
    return Response(body, status_code=status, media_type="application/json")


class Guard:
    """Refuses what should not reach the pages, and adds the headers to every response."""

    def __init__(
        self, app: ASGIApp, access: Access, study: str, clock: Callable[[], float]
    ) -> None:
        self._app = app
        self._access = access
        self._cookie = f"vozmetro_access_{study}"
        self._rates = Rates(60, 300, clock)
        self._strangers = Rates(5, 60, clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request, as ASGI has it."""
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
                return
            await self._app(scope, receive, send)
            return

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        answer = self._first(Request(scope))
        await (answer or self._app)(scope, receive, sending)

    def _first(self, request: Request) -> Response | None:
        """Returns the answer to a request that goes no further; None for the others."""
        hosts = request.headers.getlist("host")
        if len(hosts) != 1 or not self._access.admits(hosts[0]):
            return problem(421, "wrong_host")
        uninvited = self._token(request) if self._access.token else None
        # Behind a proxy all have one address: those without a token must not use up the others'.
        rates = self._rates if uninvited is None else self._strangers
        if not rates.allow(request.client.host if request.client else ""):
            return problem(429, "too_many")
        origin = request.headers.get("origin")
        foreign = origin is not None and not _is_same(origin, hosts[0])
        if request.method not in ("GET", "HEAD"):
            kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            # A page elsewhere can send forms here, but no JSON without asking first.
            if foreign or kind != "application/json":
                return problem(403, "wrong_origin")
        if request.headers.get("sec-fetch-site") == "cross-site" and "/api/" in request.url.path:
            return problem(403, "wrong_origin")
        return uninvited

    def _token(self, request: Request) -> Response | None:
        wanted = self._access.token
        asked = request.query_params.get("token", "")
        if request.url.path == "/" and _equal(asked, wanted):
            # Out of the address bar, into a cookie: an address is shown, stored and passed on.
            answer = RedirectResponse("/", status_code=303)
            answer.set_cookie(
                self._cookie, wanted, max_age=DAYS * 86400, httponly=True, samesite="lax"
            )
            return answer
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        if _equal(request.cookies.get(self._cookie, ""), wanted) or _equal(bearer, wanted):
            return None
        if request.url.path == "/":
            return Response(_UNINVITED, status_code=401, media_type="text/html; charset=utf-8")
        return problem(401, "no_token")


_UNINVITED = (
    '<!doctype html><html lang="es"><meta charset="utf-8"><title>vozmetro</title>'
    "<p>Abra la dirección completa que le dieron para esta prueba."
    '<p lang="en">Open the whole address that you were given for this test.'
)


def _is_same(origin: str, host: str) -> bool:
    try:
        return urlsplit(origin).netloc.lower() == host.lower()
    except ValueError:
        return False


def _equal(given: str, wanted: str) -> bool:
    return secrets.compare_digest(given.encode(errors="replace"), wanted.encode())
