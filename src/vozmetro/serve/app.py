"""The HTTP application: OpenAI's audio routes, what operators ask for, and routes of others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from vozmetro.errors import InputError
from vozmetro.serve.guard import Hosts, invited
from vozmetro.serve.names import known, usual
from vozmetro.serve.problems import of_http, problem, tell
from vozmetro.serve.speech import Speech
from vozmetro.serve.state import Limits, Serving
from vozmetro.serve.transcriptions import Transcriptions

__all__ = ["Limits", "Serving", "build"]


def build(state: Serving, routes: Sequence[BaseRoute] = ()) -> Starlette:
    """Returns the ASGI application.

    Args:
        state: What it shares with the other servers of this process.
        routes: More of them. They look after their own tokens; whose name the request must carry
            is looked after here.
    """
    app = Starlette(
        routes=[*_own(state), *routes],
        middleware=[Middleware(Hosts, serving=state)],
        exception_handlers=of_http(state),  # type: ignore[arg-type]
    )
    # A redirect would repeat what the Host header says.
    app.router.redirect_slashes = False
    return app


def _own(state: Serving) -> list[BaseRoute]:
    guard = invited(state)

    async def health(_: Request) -> Response:
        status = state.health()
        return JSONResponse({"status": status}, status_code=200 if status == "ok" else 503)

    @guard
    async def metrics(_: Request) -> Response:
        # Asking the tiers may wait for a lock that is held while a model is loaded.
        text = await run_in_threadpool(state.metrics.text)
        return Response(text, headers={"Content-Type": CONTENT_TYPE_LATEST})

    @guard
    async def models(_: Request) -> Response:
        return JSONResponse({"object": "list", "data": [_model(one) for one in known(state.tiers)]})

    @guard
    async def model(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in known(state.tiers):
            fields = {"name": name, "known": ", ".join(state.tiers.names)}
            return problem(tell(state, "http", InputError("serve_model", **fields)), "model")
        return JSONResponse(_model(name))

    return [
        Route("/healthz", health),
        Route("/metrics", metrics),
        Route("/v1/models", models),
        Route("/v1/models/{name:path}", model),
        Route("/v1/audio/transcriptions", guard(Transcriptions(state).post), methods=["POST"]),
        Route("/v1/audio/speech", guard(Speech(state).post), methods=["POST"]),
    ]


def _model(name: str) -> dict[str, Any]:
    owner = "openai-name" if usual(name) else "vozmetro"
    return {"id": name, "object": "model", "created": 0, "owned_by": owner}
