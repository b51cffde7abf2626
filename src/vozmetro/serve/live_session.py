"""The live page's own WebSocket: the microphone up, what happens and how it sounds down.

Up come text (JSON: `start`, `commit`, `cancel`) and binary (16-bit PCM at the rate that `start`
said). Down go `hello`, then the events of each turn as JSON with `at_ms` of one monotonic clock,
and binary: 16-bit PCM of the turn and rate that the last `audio` named.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect

from vozmetro.audio import SPEECH_RATE
from vozmetro.errors import BusyError, VozmetroError
from vozmetro.judge.budget import Budget
from vozmetro.pipeline import protocols as happened
from vozmetro.pipeline.tiers import Ask, TierState
from vozmetro.serve.line import Line, Talks
from vozmetro.serve.realtime_events import PREFIX
from vozmetro.serve.sound import Resampler, pcm16
from vozmetro.serve.watch import Watch
from vozmetro.serve.wire import Bounds, OverError, Wire, together

SUBPROTOCOL = "vozmetro.live"
MOST_BYTES = 1 << 20
"""Of one message."""
_MOST_WORDS = 4096


class _Start(BaseModel):
    type: Literal["start"]
    rate: Annotated[int, Field(ge=8_000, le=192_000)] = SPEECH_RATE
    tier: Annotated[str, Field(max_length=64)] = ""
    language: Annotated[str, Field(pattern="^([a-z]{2})?$")] = ""


class _Commit(BaseModel):
    type: Literal["commit"]


class _Cancel(BaseModel):
    type: Literal["cancel"]


_SAID: TypeAdapter[_Start | _Commit | _Cancel] = TypeAdapter(
    Annotated[_Start | _Commit | _Cancel, Field(discriminator="type")]
)


class LiveSession:
    """One page that is open.

    Args:
        socket: Accepted.
        watch: The server's eye on it, with its tiers.
        talks: Makes conversations.
        budget: What the page shows turns against.
        bounds: Of the connection.
    """

    def __init__(
        self, socket: WebSocket, watch: Watch, *, talks: Talks, budget: Budget, bounds: Bounds
    ) -> None:
        self._wire = Wire(socket, bounds)
        self._watch, self._talks, self._budget = watch, talks, budget
        self._line: Line | None = None
        self._resampler = Resampler(SPEECH_RATE, SPEECH_RATE)
        self._playing: tuple[str, int] | None = None

    async def run(self) -> None:
        """Serves it to the end."""
        wire, code = self._wire, 1000
        # Asking the tiers may wait for one that is being loaded.
        self._hello(await asyncio.to_thread(self._watch.tiers.states))
        try:
            await together(self._listen(), wire.write(), wire.broken())
        except OverError as error:
            self._watch.refused(error.code)
            self._tell("error", code=error.code.removeprefix(PREFIX))
            code = error.close
        except WebSocketDisconnect:
            pass
        finally:
            with suppress(TimeoutError, WebSocketDisconnect, RuntimeError):
                # The last words, to a page that reads.
                await asyncio.wait_for(wire.flush(), 2)
            await wire.close(code)
            await self._hang_up()

    def _hello(self, tiers: list[TierState]) -> None:
        budget = self._budget
        self._tell(
            "hello",
            budget={
                "p50_ms": budget.p50_ms, "p90_ms": budget.p90_ms, "p99_ms": budget.p99_ms,
                "slow_ms": budget.slow_ms,
            },
            tiers=[
                {"name": one.name, "residence": one.residence, "demoted": one.demoted}
                for one in tiers
            ],
        )  # fmt: skip

    async def _listen(self) -> None:
        while True:
            message = await self._wire.receive()
            try:
                await self._heed(message)
            except OverError:
                raise
            except VozmetroError as error:
                self._watch.refused(error.code, isinstance(error, BusyError))
                self._tell("error", code=error.code.removeprefix(PREFIX))

    async def _heed(self, message: str | bytes) -> None:
        if isinstance(message, bytes):
            if len(message) > MOST_BYTES or len(message) % 2:
                raise OverError("realtime_bad_request")
            if self._line is not None:
                samples = np.frombuffer(message, "<i2").astype(np.float32) / np.float32(32768)
                self._line.talk.feed(self._resampler(samples))
            return
        said = _parsed(message)
        if isinstance(said, _Start):
            await self._start(said)
        elif self._line is not None:
            if isinstance(said, _Commit):
                self._line.talk.commit()
            else:
                self._line.talk.cancel()

    async def _start(self, said: _Start) -> None:
        await self._hang_up()
        self._resampler = Resampler(said.rate, SPEECH_RATE)
        self._playing = None
        self._line = await Line.open(
            self._talks, self._watch.tiers, self._happens, language=said.language,
            ask=Ask(tier=said.tier), endpoint=True,
        )  # fmt: skip
        self._tell("ready")

    async def _hang_up(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            line.talk.cancel()
            await line.close()

    def _happens(self, line: Line, event: happened.Event) -> None:
        self._watch.happens(event)
        if line is not self._line:
            return
        match event:
            case happened.Audio():
                self._play(event)
            case happened.Partial() | happened.Transcript() | happened.ReplyText():
                name = {"Partial": "partial", "Transcript": "transcript", "ReplyText": "reply"}
                self._turn(name[type(event).__name__], event, text=event.text)
            case happened.SpeechStarted():
                self._turn("speech_started", event)
            case happened.SpeechStopped():
                self._turn("speech_stopped", event)
            case happened.TurnEnded():
                self._turn(
                    "ended", event, parts_ms=event.parts_ms, cancelled=event.cancelled,
                    failure=event.failure,
                )  # fmt: skip

    def _play(self, event: happened.Audio) -> None:
        if self._playing != (event.turn, event.rate):
            self._playing = (event.turn, event.rate)
            self._turn("audio", event, rate=event.rate)
        self._wire.send(pcm16(event.samples))

    def _turn(self, kind: str, event: happened.Event, **fields: object) -> None:
        self._tell(kind, turn=event.turn, at_ms=event.at_ns / 1e6, **fields)

    def _tell(self, kind: str, **fields: object) -> None:
        self._wire.send(json.dumps({"type": kind, **fields}))


def _parsed(message: str) -> Any:
    try:
        if len(message) > _MOST_WORDS:
            raise ValueError
        return _SAID.validate_json(message)
    except (ValidationError, ValueError, RecursionError) as error:
        raise OverError("realtime_bad_request") from error
