"""What a client sends over HTTP: bounded in size and time before anything is made of it."""

from __future__ import annotations

import asyncio
from typing import IO, Any

import numpy as np
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message

from vozmetro.audio import SPEECH_RATE, Samples, Waveform
from vozmetro.errors import InputError
from vozmetro.serve.sound import Resampler
from vozmetro.serve.state import Limits

_FIELDS, _FIELD_BYTES = 24, 1 << 16
_RATES = range(4_000, 384_001)
_CHANNELS = 8


def bounded(request: Request, limits: Limits, kind: str) -> Request:
    """Returns the request, whose body then cannot be larger than it may be.

    Raises:
        InputError: `serve_media` for a body of another kind, or `serve_body_large`.
    """
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given != kind:
        raise InputError("serve_media", given=given[:80] or "–", wanted=kind)
    length = request.headers.get("content-length", "0")
    most = limits.body_bytes
    if not length.isdecimal() or int(length) > most:
        raise InputError("serve_body_large", limit=most)
    seen = 0

    async def receive() -> Message:
        nonlocal seen
        message = await request.receive()
        seen += len(message.get("body", b""))
        if seen > most:
            raise InputError("serve_body_large", limit=most)
        return message

    return Request(request.scope, receive)


async def read_form(request: Request, limits: Limits) -> FormData:
    """Returns a form; its one file is on disk where it is large.

    Raises:
        InputError: `serve_media`, `serve_body_large`, `serve_body_slow` or `serve_form`.
    """
    sent = bounded(request, limits, "multipart/form-data")
    try:
        form = sent.form(max_files=1, max_fields=_FIELDS, max_part_size=_FIELD_BYTES)
        return await asyncio.wait_for(form, limits.body_s)
    except TimeoutError as error:
        raise InputError("serve_body_slow", limit=limits.body_s) from error
    except (HTTPException, KeyError) as error:
        raise InputError("serve_form", detail=getattr(error, "detail", "boundary")) from error


async def read_body(request: Request, limits: Limits) -> bytes:
    """Returns a JSON body.

    Raises:
        InputError: `serve_media`, `serve_body_large` or `serve_body_slow`.
    """
    sent = bounded(request, limits, "application/json")
    try:
        return await asyncio.wait_for(sent.body(), limits.body_s)
    except TimeoutError as error:
        raise InputError("serve_body_slow", limit=limits.body_s) from error


def decode(file: IO[bytes], limits: Limits) -> Waveform:
    """Returns a recording as mono at 16 kHz; a small file that unpacks to hours is not unpacked.

    Raises:
        InputError: `serve_not_audio`, `serve_audio_long` or `serve_audio_short`.
    """
    import soundfile

    try:
        with soundfile.SoundFile(file) as sound:
            if sound.samplerate not in _RATES or sound.channels > _CHANNELS:
                raise InputError("serve_not_audio", detail=f"{sound.samplerate} Hz")
            pieces = _mono(sound, limits.audio_s)
    except (soundfile.LibsndfileError, RuntimeError, TypeError, ValueError) as error:
        raise InputError("serve_not_audio", detail=str(error)[:120]) from error
    return Waveform(np.concatenate(pieces), SPEECH_RATE)


def _mono(sound: Any, most_s: float) -> list[Samples]:
    """Reads a second at a time: what is not mono or not at 16 kHz is never in memory as a whole."""
    resampler = Resampler(sound.samplerate, SPEECH_RATE)
    pieces: list[Samples] = []
    read = 0
    while len(block := sound.read(sound.samplerate, dtype="float32", always_2d=True)):
        read += len(block)
        if read > most_s * sound.samplerate:
            raise InputError("serve_audio_long", limit=most_s)
        mono = np.nan_to_num(block).mean(axis=1, dtype=np.float32)
        pieces.append(resampler(np.clip(mono, -1, 1)))
    if read < sound.samplerate // 10:
        raise InputError("serve_audio_short")
    return [*pieces, resampler(np.zeros(0, np.float32), last=True)]
