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

from vozmetro.i18n import LANGUAGES, catalogue
from vozmetro.judge.budget import Budget
from vozmetro.pipeline.tiers import Tiers
from vozmetro.serve.line import Talks, conversations
from vozmetro.serve.live_session import SUBPROTOCOL, LiveSession
from vozmetro.serve.wire import Limits, Places, same_origin

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
_TOKEN = re.compile(r"vozmetro\.token\.(\S{1,256})")


class Live:
    """The page of a server.

    Args:
        tiers: Who answers.
        token: What the page's socket must carry; empty for none.
        language: Of the page, where the browser asks for neither.
        budget: What turns are shown against.
        limits: Of each page.
        talks: Makes conversations.
    """

    def __init__(
        self,
        tiers: Tiers,
        *,
        token: str = "",
        language: str = "es",
        budget: Budget | None = None,
        limits: Limits | None = None,
        talks: Talks = conversations,
    ) -> None:
        self._tiers, self._token, self._talks = tiers, token, talks
        self._budget, self._limits = budget or Budget(), limits or Limits()
        self._places = Places(self._limits.connections)
        place = resources.files("vozmetro.serve").joinpath("page")
        self._static = {name: place.joinpath(name).read_bytes() for name in STATIC}
        html = place.joinpath("index.html").read_text(encoding="utf-8")
        self._index = html.replace("{language}", language)
        self._texts = {lang: _texts(lang) for lang in LANGUAGES}

    def routes(self) -> list[BaseRoute]:
        """Returns the page at `/live`, what belongs to it, and its socket."""
        return [
            Route("/live", self._page),
            Route("/live/static/{name}", self._file),
            Route("/live/texts/{lang}", self._words),
            WebSocketRoute("/live/ws", self._talk),
        ]

    async def _page(self, _: Request) -> Response:
        return Response(self._index, media_type="text/html; charset=utf-8", headers=HEADERS)

    async def _file(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in self._static:
            return Response(status_code=404, headers=HEADERS)
        return Response(self._static[name], headers={**HEADERS, "Content-Type": STATIC[name]})

    async def _words(self, request: Request) -> Response:
        found = self._texts.get(request.path_params["lang"])
        if found is None:
            return Response(status_code=404, headers=HEADERS)
        return Response(found, media_type="application/json", headers=HEADERS)

    async def _talk(self, socket: WebSocket) -> None:
        if not same_origin(socket):
            # Another site's page must not use this machine's microphone and models.
            await socket.close()
            return
        offered = socket.scope.get("subprotocols", [])
        await socket.accept(subprotocol=SUBPROTOCOL if SUBPROTOCOL in offered else None)
        if self._token and not self._invited(offered):
            await socket.close(NO_TOKEN)
            return
        if not self._places.take():
            await socket.close(BUSY)
            return
        try:
            await LiveSession(
                socket, self._tiers, talks=self._talks, budget=self._budget, limits=self._limits
            ).run()
        finally:
            self._places.free()

    def _invited(self, offered: list[str]) -> bool:
        given = [found[1] for one in offered if (found := _TOKEN.fullmatch(one))]
        return any(secrets.compare_digest(one.encode(), self._token.encode()) for one in given)


def _texts(lang: str) -> str:
    found = {k.removeprefix(TEXTS): v for k, v in catalogue(lang).items() if k.startswith(TEXTS)}
    return json.dumps(found, ensure_ascii=False)
