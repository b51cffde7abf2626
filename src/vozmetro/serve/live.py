"""The live page: talk in the browser, hear the answer, see where the milliseconds of it went."""

from __future__ import annotations

import json
import re
import secrets
from importlib import resources

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

from vozmetro.errors import BusyError, InputError
from vozmetro.i18n import LANGUAGES, catalogue
from vozmetro.judge.budget import Budget
from vozmetro.serve.line import Talks, conversations
from vozmetro.serve.live_session import SUBPROTOCOL, LiveSession
from vozmetro.serve.problems import tell
from vozmetro.serve.state import Serving
from vozmetro.serve.watch import Watch
from vozmetro.serve.wire import Bounds, Places, same_origin

STATIC = {
    name: f"text/{'css' if name.endswith('.css') else 'javascript'}; charset=utf-8"
    for name in (
        "app.js", "microphone.js", "sound.js", "speaker.js", "style.css", "turns.js", "ui.js",
    )
}  # fmt: skip
"""Files of the page, by name."""
TEXTS = "live.page."
"""Prefix of the page's texts in the catalogues."""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src"
    " data:; connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(self)",
    "Cache-Control": "no-store",
}
"""Of the page and its files. The page holds nothing that is not public; its socket does."""
NO_TOKEN = 4401
"""Close code where the token is missing or wrong: the page then asks for it."""
BUSY = 1013
"""Close code where too many pages are open (try again later)."""
SURFACE = "live"
"""What metrics and logs call it."""
_TOKEN = re.compile(r"vozmetro\.token\.(\S{1,256})")


def routes(
    serving: Serving,
    *,
    language: str = "es",
    budget: Budget | None = None,
    bounds: Bounds | None = None,
    talks: Talks = conversations,
) -> list[BaseRoute]:
    """Returns the page at `/live`, what belongs to it, and its socket.

    Args:
        serving: The server.
        language: Of the page, where the browser asks for none that it speaks.
        budget: What turns are shown against.
        bounds: Of each page that is open.
        talks: Makes conversations.
    """
    page = _Page(language)
    desk = _Desk(serving, budget or Budget(), bounds or Bounds(), talks)
    return [
        Route("/live", page.index),
        Route("/live/static/{name}", page.file),
        Route("/live/texts/{lang}", page.texts),
        WebSocketRoute("/live/ws", desk.talk),
    ]


class _Page:
    """Files, which hold nothing that is not public: no token is asked for."""

    def __init__(self, language: str) -> None:
        place = resources.files("vozmetro.serve").joinpath("page")
        self._static = {name: place.joinpath(name).read_bytes() for name in STATIC}
        html = place.joinpath("index.html").read_text(encoding="utf-8")
        self._index = html.replace("{language}", language)
        self._texts = {lang: _texts(lang) for lang in LANGUAGES}

    async def index(self, _: Request) -> Response:
        return Response(self._index, media_type="text/html; charset=utf-8", headers=HEADERS)

    async def file(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in self._static:
            return Response(status_code=404, headers=HEADERS)
        return Response(self._static[name], headers={**HEADERS, "Content-Type": STATIC[name]})

    async def texts(self, request: Request) -> Response:
        found = self._texts.get(request.path_params["lang"])
        if found is None:
            return Response(status_code=404, headers=HEADERS)
        return Response(found, media_type="application/json", headers=HEADERS)


class _Desk:
    """Conversations with those who have the page open."""

    def __init__(self, serving: Serving, budget: Budget, bounds: Bounds, talks: Talks) -> None:
        self._serving, self._budget, self._bounds, self._talks = serving, budget, bounds, talks
        self._places = Places(bounds.connections)

    async def talk(self, socket: WebSocket) -> None:
        if not same_origin(socket):
            # Another site's page must not use this machine's models.
            tell(self._serving, SURFACE, InputError("serve_wrong_origin"))
            await socket.close()
            return
        offered = socket.scope.get("subprotocols", [])
        await socket.accept(subprotocol=SUBPROTOCOL if SUBPROTOCOL in offered else None)
        # A browser does not tell its page why a handshake failed; it does tell the close code.
        if not self._invited(offered):
            tell(self._serving, SURFACE, InputError("serve_token"))
            await socket.close(NO_TOKEN)
            return
        if self._serving.draining or not self._places.take():
            tell(self._serving, SURFACE, BusyError("server_busy"))
            await socket.close(BUSY)
            return
        watch = Watch(self._serving, SURFACE)
        try:
            await LiveSession(
                socket, watch, talks=self._talks, budget=self._budget, bounds=self._bounds
            ).run()
        finally:
            watch.close()
            self._places.free()

    def _invited(self, offered: list[str]) -> bool:
        token = self._serving.access.token
        given = [found[1] for one in offered if (found := _TOKEN.fullmatch(one))]
        return not token or any(
            secrets.compare_digest(one.encode(), token.encode()) for one in given
        )


def _texts(lang: str) -> str:
    found = {k.removeprefix(TEXTS): v for k, v in catalogue(lang).items() if k.startswith(TEXTS)}
    return json.dumps(found, ensure_ascii=False)
