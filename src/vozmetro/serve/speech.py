"""`POST /v1/audio/speech`: words to audio, sent as it is made."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import ExitStack
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from vozmetro.errors import InputError
from vozmetro.serve.answers import Streamed, event, gone, while_there
from vozmetro.serve.encoders import Coder, find
from vozmetro.serve.jobs import GoneError, Job
from vozmetro.serve.names import tier_of
from vozmetro.serve.problems import problem, tell
from vozmetro.serve.state import Serving, new_turn
from vozmetro.serve.uploads import read_body
from vozmetro.serve.work import Order, Tally, counted, speak


class Asked(BaseModel):
    """The body of a request. A tier has one voice, so `voice` and `instructions` change nothing."""

    model_config = ConfigDict(extra="ignore")
    input: str
    model: str = ""
    response_format: str = "mp3"
    speed: float = 1.0
    stream_format: Literal["audio", "sse"] = "audio"


class Speech:
    """The handler."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving

    async def post(self, request: Request) -> Response:
        """Answers one request."""
        turn = new_turn()
        try:
            body = await read_body(request, self._serving.limits)
            return await self._answer(request, body)
        except (GoneError, ClientDisconnect):
            return gone()
        except Exception as error:
            return problem(tell(self._serving, "http", error, turn), turn=turn)

    async def _answer(self, request: Request, body: bytes) -> Response:
        asked = self._parse(body)
        kind = find(asked.response_format)
        tier = tier_of(asked.model, self._serving.tiers)
        with ExitStack() as held:
            turn = held.enter_context(self._serving.request())
            order = Order(turn, "http", tier)
            characters = len(asked.input)
            tally = held.enter_context(
                counted(self._serving, order, what="speech", characters=characters)
            )
            job = speak(self._serving, asked.input, order, Coder(kind))
            held.callback(job.cancel)
            # What fails before the first audio still gets a status of its own.
            first = await while_there(request, job, job.first())
            kept = held.pop_all()
            pieces = _pieces(self._serving, order, tally, first, job)
            headers = {"x-request-id": turn}
            if asked.stream_format == "sse":
                return Streamed(_events(pieces), kept.close, "text/event-stream", headers)
            return Streamed(pieces, kept.close, kind.media, headers)

    def _parse(self, body: bytes) -> Asked:
        try:
            asked = Asked.model_validate_json(body)
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(map(str, first["loc"])) or "JSON"
            raise InputError("serve_field", name=name) from error
        if asked.speed != 1.0:
            raise InputError("serve_speed", given=asked.speed)
        check_text(asked.input, self._serving)
        return asked


def check_text(text: str, serving: Serving) -> None:
    """Refuses what cannot be spoken.

    Raises:
        InputError: `serve_text_long` or `serve_text_empty`.
    """
    if len(text) > serving.limits.text:
        raise InputError("serve_text_long", n=len(text), limit=serving.limits.text)
    if not text.strip():
        raise InputError("serve_text_empty")


async def _pieces(
    serving: Serving, order: Order, tally: Tally, first: bytes | None, job: Job[bytes]
) -> AsyncIterator[bytes]:
    try:
        piece = first
        while piece is not None:
            yield piece
            piece = await job.first()
        tally.outcome = "done"
    except GoneError:
        return
    except Exception as error:
        # An answer that is cut off must not look whole: the connection breaks.
        tally.outcome = "failed"
        tell(serving, "http", error, order.turn)
        raise ConnectionError("the audio broke off") from error


async def _events(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for piece in pieces:
        audio = base64.b64encode(piece).decode("ascii")
        yield event({"type": "speech.audio.delta", "audio": audio})
    usage = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}
    yield event({"type": "speech.audio.done", "usage": usage})
