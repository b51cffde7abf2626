"""`POST /v1/audio/transcriptions`: a recording to words, in the formats of OpenAI's."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response

from vozmetro.audio import Waveform
from vozmetro.errors import InputError
from vozmetro.serve import subtitles
from vozmetro.serve.answers import Streamed, event, gone, while_there
from vozmetro.serve.jobs import GoneError, Job
from vozmetro.serve.names import tier_of
from vozmetro.serve.problems import problem, tell
from vozmetro.serve.state import Serving, new_turn
from vozmetro.serve.uploads import decode, read_form
from vozmetro.serve.work import Heard, Order, Tally, counted, primary, transcribe

FORMATS = ("json", "text", "verbose_json", "srt", "vtt")
TIMED = frozenset({"verbose_json", "srt", "vtt"})
"""Those that say where in the recording the words are."""
_TRUE = frozenset({"true", "1", "yes", "on"})


@dataclass(frozen=True)
class Asked:
    """What a form asks for."""

    upload: UploadFile
    format: str
    stream: bool
    tier: str
    language: str


class Transcriptions:
    """The handler."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving

    async def post(self, request: Request) -> Response:
        """Answers one request."""
        turn = new_turn()
        try:
            form = await read_form(request, self._serving.limits)
            try:
                return await self._answer(request, form)
            finally:
                await form.close()
        except (GoneError, ClientDisconnect):
            return gone()
        except Exception as error:
            return problem(tell(self._serving, "http", error, turn), turn=turn)

    async def _answer(self, request: Request, form: FormData) -> Response:
        asked = self._parse(form)
        with ExitStack() as held:
            turn = held.enter_context(self._serving.request())
            audio = await run_in_threadpool(decode, asked.upload.file, self._serving.limits)
            order = Order(turn, "http", asked.tier, asked.language)
            seconds = round(audio.seconds, 2)
            tally = held.enter_context(
                counted(self._serving, order, what="transcription", audio_s=seconds)
            )
            job = transcribe(self._serving, audio, order, timed=asked.format in TIMED)
            held.callback(job.cancel)
            if asked.stream:
                # What fails before the first words still gets a status of its own.
                first = await while_there(request, job, job.first())
                headers = {"x-request-id": turn}
                kept = held.pop_all()
                pieces = _events(self._serving, order, tally, first, job)
                return Streamed(pieces, kept.close, "text/event-stream", headers)
            parts = await while_there(request, job, job.all())
            tally.outcome = "done"
            return _written(parts, audio, asked, turn)

    def _parse(self, form: FormData) -> Asked:
        upload = form.get("file")
        if not isinstance(upload, UploadFile):
            raise InputError("serve_field", name="file")
        tier = tier_of(_text(form, "model"), self._serving.tiers)
        format_ = _text(form, "response_format") or "json"
        if format_ not in FORMATS:
            raise InputError("serve_format", given=format_[:40], known=", ".join(FORMATS))
        stream = _text(form, "stream").lower() in _TRUE
        if stream and format_ in TIMED:
            raise InputError("serve_stream_format", given=format_)
        if "word" in form.getlist("timestamp_granularities[]"):
            raise InputError("serve_words")
        return Asked(upload, format_, stream, tier, primary(_text(form, "language")))


def _text(form: FormData, name: str) -> str:
    value = form.get(name, "")
    return value.strip() if isinstance(value, str) else ""


def joined(parts: list[Heard]) -> str:
    """Returns the words of all parts."""
    return " ".join(part.text for part in parts if part.text)


async def _events(
    serving: Serving, order: Order, tally: Tally, first: Heard | None, job: Job[Heard]
) -> AsyncIterator[bytes]:
    parts: list[Heard] = []
    try:
        part = first
        while part is not None:
            if part.text:
                before = " " if joined(parts) else ""
                yield event({"type": "transcript.text.delta", "delta": before + part.text})
            parts.append(part)
            part = await job.first()
        yield event({"type": "transcript.text.done", "text": joined(parts)})
        tally.outcome = "done"
    except GoneError:
        return
    except Exception as error:
        # Too late for a status: clients of OpenAI raise what comes under this key.
        tally.outcome = "failed"
        known = tell(serving, "http", error, order.turn)
        told = {"message": str(known), "type": "server_error", "code": known.code}
        yield event({"error": told})


def _written(parts: list[Heard], audio: Waveform, asked: Asked, turn: str) -> Response:
    headers = {"x-request-id": turn}
    text = joined(parts)
    if asked.format == "text":
        return PlainTextResponse(text + "\n", headers=headers)
    if asked.format in ("srt", "vtt"):
        lines = subtitles.srt(parts) if asked.format == "srt" else subtitles.vtt(parts)
        return PlainTextResponse(lines, headers=headers)
    seconds = round(audio.seconds, 3)
    told: dict[str, object] = {"text": text}
    if asked.format == "verbose_json":
        told |= {
            "task": "transcribe", "language": asked.language, "duration": seconds,
            "segments": subtitles.segments(parts),
        }  # fmt: skip
    told["usage"] = {"type": "duration", "seconds": seconds}
    body = json.dumps(told, ensure_ascii=False)
    return Response(body, media_type="application/json", headers=headers)
