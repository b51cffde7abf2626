"""Errors in the shape of OpenAI's: a status, a code, and a sentence that names the fix."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from vozmetro.errors import BusyError, InputError, MeasurementError, VozmetroError
from vozmetro.serve.logs import log
from vozmetro.serve.state import Serving

STATUS = {
    "serve_audio_long": 413,
    "serve_body_large": 413,
    "serve_body_slow": 408,
    "serve_draining": 503,
    "serve_media": 415,
    "serve_model": 404,
    "serve_no_place": 404,
    "serve_method": 405,
    "serve_not_audio": 415,
    "serve_token": 401,
    "serve_too_slow": 504,
    "serve_wrong_host": 421,
    "serve_wrong_origin": 403,
    "tier_unknown": 404,
}
"""Of what is not the ordinary 400."""
RETRY_S = 1
"""When to come back after `busy`."""
_KINDS = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}


def status_of(error: VozmetroError) -> int:
    """Returns the HTTP status of an error."""
    if error.code in STATUS:
        return STATUS[error.code]
    if isinstance(error, BusyError):
        return 429
    return 400 if isinstance(error, InputError) else 500


def problem(error: VozmetroError, param: str | None = None, turn: str = "") -> Response:
    """Returns the answer that tells an error."""
    status = status_of(error)
    kind = _KINDS.get(status, "server_error" if status >= 500 else "invalid_request_error")
    headers: dict[str, str] = {"x-request-id": turn} if turn else {}
    if isinstance(error, BusyError):
        headers["Retry-After"] = str(RETRY_S)
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if status in (408, 413, 503):
        # The rest of what the client sends is not wanted.
        headers["Connection"] = "close"
    told = {"message": str(error), "type": kind, "param": param, "code": error.code}
    return JSONResponse({"error": told}, status_code=status, headers=headers)


def tell(serving: Serving, surface: str, error: Exception, turn: str = "") -> VozmetroError:
    """Counts and logs an error; returns what the client may know of it."""
    known = (
        error if isinstance(error, VozmetroError) else MeasurementError("serve_failed", turn=turn)
    )
    code = known.code
    serving.metrics.refused(surface, code, isinstance(known, BusyError))
    mine = not isinstance(error, InputError | BusyError)
    level = logging.ERROR if mine else logging.INFO
    told = {"turn": turn, "surface": surface, "code": code}
    log("error", told, level=level, failed=mine)
    return known


def of_http(serving: Serving) -> Mapping[type[Exception], object]:
    """Returns Starlette's handlers for what no route deals with."""

    async def refused(_: Request, error: HTTPException) -> Response:
        code = {404: "serve_no_place", 405: "serve_method"}.get(error.status_code, "serve_request")
        return problem(tell(serving, "http", InputError(code)))

    async def known(_: Request, error: VozmetroError) -> Response:
        return problem(tell(serving, "http", error))

    async def failed(_: Request, error: Exception) -> Response:
        return problem(tell(serving, "http", error))

    return {HTTPException: refused, VozmetroError: known, Exception: failed}
