"""One Wyoming connection: events in, events out, with bounds on all of them."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, suppress
from typing import Any, cast

from wyoming.asr import (
    Transcribe,
    Transcript,
    TranscriptChunk,
    TranscriptStart,
    TranscriptStop,
)
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.error import Error
from wyoming.event import Event, async_read_event, async_write_event
from wyoming.info import Describe, SelectProgram
from wyoming.ping import Ping, Pong
from wyoming.server import AsyncEventHandler
from wyoming.tts import (
    Synthesize,
    SynthesizeChunk,
    SynthesizeStart,
    SynthesizeStop,
    SynthesizeStopped,
)

from vozmetro.audio import Samples
from vozmetro.errors import InputError
from vozmetro.serve.jobs import GoneError
from vozmetro.serve.live_work import Hearing, Reading
from vozmetro.serve.pcm import Pcm
from vozmetro.serve.problems import tell
from vozmetro.serve.sound import pcm16
from vozmetro.serve.speech import check_text
from vozmetro.serve.state import Limits, Serving
from vozmetro.serve.work import Order, Tally, counted, primary
from vozmetro.serve.wyoming_info import info, tier_named

_CHUNK_BYTES = 16_384
_LINGER_S = 1.0
Piece = tuple[int, bytes]


class Handler(AsyncEventHandler):
    """Events are read while an answer is made: a client that leaves ends it.

    An error is told and ends the connection: clients such as Home Assistant wait for an answer, or
    for the end.
    """

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, serving: Serving
    ) -> None:
        super().__init__(reader, writer)
        self._serving, self._limits = serving, serving.limits
        self._bounded = cast(asyncio.StreamReader, Bounded(reader, self._limits))
        self._asked = Transcribe()
        self._program: str = ""
        self._whole = False  # The text comes at once.
        self._closing = False  # All that belongs to the request has come.
        self._pcm: Pcm | None = None
        self._hearing: Hearing | None = None
        self._reading: Reading[Piece] | None = None
        self._characters = 0
        self._held = ExitStack()
        self._tally = Tally()
        self._order = Order("", "wyoming")
        self._answer: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Serves the client until it leaves, or until an error."""
        failure: Exception | None = None
        try:
            await self._events()
        except (GoneError, ConnectionError):
            pass
        except Exception as error:
            failure = error
        finally:
            await self._drop(failure)

    async def _events(self) -> None:
        while True:
            reading = asyncio.ensure_future(self._read())
            try:
                await self._either(reading)
                event = reading.result() if reading.done() else await reading
            finally:
                reading.cancel()
            if event is None or not await self.handle_event(event):
                return

    async def _either(self, reading: asyncio.Future[Event | None]) -> None:
        """Waits for an event; what fails meanwhile in the answer is raised here."""
        while not reading.done():
            answering = self._answer is not None
            waited: set[asyncio.Future[Any]] = {reading}
            waited |= {self._answer} if self._answer is not None else set()
            done, _ = await asyncio.wait(
                waited, timeout=self._limits.idle_s, return_when="FIRST_COMPLETED"
            )
            if self._answer is not None and self._answer in done:
                finished, self._answer = self._answer, None
                finished.result()
            if not done and not answering:
                raise InputError("serve_idle", limit=self._limits.idle_s)

    async def _read(self) -> Event | None:
        """Returns the next event; None where the client has left.

        Raises:
            InputError: `serve_event` or `serve_event_large`.
        """
        try:
            event = await async_read_event(self._bounded)
        except (InputError, ConnectionError):
            raise
        except asyncio.IncompleteReadError as error:
            raise GoneError from error
        except Exception as error:
            # Whatever the package's parser makes of it, it is the fault of what was sent.
            raise InputError("serve_event") from error
        if event is None:
            if self.reader.at_eof():
                return None
            raise InputError("serve_event")
        if not isinstance(event.type, str) or not isinstance(event.data, dict):
            raise InputError("serve_event")
        return event

    async def handle_event(self, event: Event) -> bool:
        """Does what an event asks for; one that is not known is left out, as the protocol has it.

        Raises:
            VozmetroError: It cannot be done.
        """
        handlers = {
            "describe": self._describe, "ping": self._ping, "select-program": self._select,
            "transcribe": self._transcribe, "audio-start": self._audio_start,
            "audio-chunk": self._audio_chunk, "audio-stop": self._audio_stop,
            "synthesize": self._synthesize, "synthesize-start": self._synthesize_start,
            "synthesize-chunk": self._synthesize_chunk, "synthesize-stop": self._synthesize_stop,
        }  # fmt: skip
        handler = handlers.get(event.type)
        if handler is None:
            return True
        try:
            await handler(event)
        except (KeyError, TypeError, AttributeError) as error:
            # Fields that are missing, or of another kind than the package expects.
            raise InputError("serve_event") from error
        return True

    async def write_event(self, event: Event) -> None:
        """Sends an event.

        Raises:
            GoneError: The client does not take it.
        """
        try:
            await asyncio.wait_for(async_write_event(event, self.writer), self._limits.write_s)
        except (TimeoutError, OSError) as error:
            self.writer.transport.abort()
            raise GoneError from error

    async def _describe(self, event: Event) -> None:
        Describe.from_event(event)
        await self.write_event(info(self._serving).event())

    async def _ping(self, event: Event) -> None:
        await self.write_event(Pong(text=Ping.from_event(event).text).event())

    async def _select(self, event: Event) -> None:
        self._program = self._tier(SelectProgram.from_event(event).name)

    async def _transcribe(self, event: Event) -> None:
        self._asked = Transcribe.from_event(event)
        self._tier(self._asked.name)
        _language(self._asked.language)

    async def _audio_start(self, event: Event) -> None:
        start = AudioStart.from_event(event)
        await self._answered()
        if self._hearing is not None or self._reading is not None:
            raise InputError("serve_event")
        self._pcm = Pcm(start.rate, start.width, start.channels)
        asked, self._asked = self._asked, Transcribe()
        self._begin("transcription", asked.name, _language(asked.language))
        self._hearing = Hearing(self._serving, self._order)

    async def _audio_chunk(self, event: Event) -> None:
        if self._hearing is None:
            await self._audio_start(event)
        chunk = AudioChunk.from_event(event)
        if self._pcm is None or self._hearing is None:
            return
        if self._pcm.kind != (chunk.rate, chunk.width, chunk.channels):
            raise InputError("serve_pcm_changed")
        self._hearing.feed(self._pcm.add(chunk.audio))
        if self._pcm.seconds > self._limits.audio_s:
            raise InputError("serve_audio_long", limit=self._limits.audio_s)

    async def _audio_stop(self, event: Event) -> None:
        AudioStop.from_event(event)
        if self._hearing is None or self._pcm is None or self._closing:
            return
        self._hearing.feed(self._pcm.end())
        self._hearing.end()
        self._closing = True
        self._answer = asyncio.ensure_future(self._tell_transcript(self._hearing))

    async def _tell_transcript(self, hearing: Hearing) -> None:
        text = "".join(await hearing.job.all())
        language = self._order.language or None
        await self.write_event(TranscriptStart(language=language).event())
        await self.write_event(TranscriptChunk(text).event())
        # The whole as well, for clients that know nothing of pieces.
        await self.write_event(Transcript(text, language=language).event())
        await self.write_event(TranscriptStop().event())
        self._hearing = self._pcm = None
        self._end()

    async def _synthesize(self, event: Event) -> None:
        if self._reading is not None and not self._closing:
            # The whole text again, for servers that know nothing of pieces.
            return
        asked = Synthesize.from_event(event)
        _plain(asked.text_format)
        text = _text(asked.text)
        check_text(text, self._serving)
        await self._start_reading(asked.voice, whole=True)
        self._feed(text)
        if self._reading is not None:
            self._reading.end()
            self._closing = True

    async def _synthesize_start(self, event: Event) -> None:
        asked = SynthesizeStart.from_event(event)
        _plain(asked.text_format)
        await self._start_reading(asked.voice, whole=False)

    async def _synthesize_chunk(self, event: Event) -> None:
        self._feed(_text(SynthesizeChunk.from_event(event).text))

    async def _synthesize_stop(self, event: Event) -> None:
        SynthesizeStop.from_event(event)
        if self._reading is not None:
            self._reading.end()
            self._closing = True

    async def _start_reading(self, voice: Any, *, whole: bool) -> None:
        await self._answered()
        if self._hearing is not None or self._reading is not None:
            raise InputError("serve_event")
        self._begin("speech", getattr(voice, "name", None), "")
        self._characters, self._whole = 0, whole
        self._reading = Reading(self._serving, self._order, Raw())
        self._answer = asyncio.ensure_future(self._tell_audio(self._reading))

    def _feed(self, text: str) -> None:
        if self._reading is None:
            return
        self._characters += len(text)
        if self._characters > self._limits.text:
            raise InputError("serve_text_long", n=self._characters, limit=self._limits.text)
        self._reading.feed(text)

    async def _tell_audio(self, reading: Reading[Piece]) -> None:
        rate = 0
        while (piece := await reading.job.first()) is not None:
            if not rate:
                rate = piece[0]
                await self.write_event(AudioStart(rate=rate, width=2, channels=1).event())
            for at in range(0, len(piece[1]), _CHUNK_BYTES):
                part = piece[1][at : at + _CHUNK_BYTES]
                chunk = AudioChunk(rate=rate, width=2, channels=1, audio=part)
                await self.write_event(chunk.event())
        await self.write_event(AudioStop().event())
        if not self._whole:
            await self.write_event(SynthesizeStopped().event())
        self._reading = None
        self._end()

    async def _answered(self) -> None:
        """Waits for the answer that is being given, if there is one that will end by itself."""
        if self._answer is not None and self._closing:
            finished, self._answer = self._answer, None
            await finished

    def _begin(self, what: str, name: object, language: str) -> None:
        self._closing = False
        tier = self._tier(name) or self._program
        turn = self._held.enter_context(self._serving.request())
        self._order = Order(turn, "wyoming", tier, language)
        self._tally = self._held.enter_context(counted(self._serving, self._order, what=what))

    def _end(self, outcome: str = "done") -> None:
        self._tally.outcome = outcome
        self._held.close()
        self._order = Order("", "wyoming")

    async def _drop(self, failure: Exception | None) -> None:
        """Ends what runs, tells the error if there is one, and closes the connection."""
        for work in (self._hearing, self._reading):
            if work is not None:
                work.cancel()
        if self._answer is not None:
            self._answer.cancel()
            await asyncio.gather(self._answer, return_exceptions=True)
        if failure is not None:
            known = tell(self._serving, "wyoming", failure, self._order.turn)
            with suppress(GoneError):
                await self.write_event(Error(text=str(known), code=known.code).event())
        self._end("gone" if failure is None else "failed")
        await leave(self.reader, self.writer)

    def _tier(self, name: object) -> str:
        tier = tier_named(name, self._serving)
        if tier is None:
            known = ", ".join(self._serving.tiers.names)
            raise InputError("serve_model", name=str(name)[:80], known=known)
        return tier


class Bounded:
    """Reads no more than it may of a stream; what the package's parser reads from."""

    def __init__(self, reader: asyncio.StreamReader, limits: Limits) -> None:
        self._reader, self._most = reader, limits.event_bytes

    async def readline(self) -> bytes:
        """Returns a line.

        Raises:
            InputError: `serve_event_large`.
        """
        try:
            return await self._reader.readline()
        except ValueError as error:
            raise InputError("serve_event_large", limit=self._most) from error

    async def readexactly(self, n: int) -> bytes:
        """Returns `n` bytes.

        Raises:
            InputError: `serve_event_large`.
        """
        if n > self._most:
            raise InputError("serve_event_large", limit=self._most)
        return await self._reader.readexactly(n)


class Raw:
    """Implements `Encoder`: 16-bit PCM beside its rate (Hz)."""

    def begin(self, rate: int) -> None:
        """See `Encoder`."""
        self._rate = rate

    def add(self, samples: Samples) -> Piece | None:
        """See `Encoder`."""
        return self._rate, pcm16(samples)

    def end(self) -> Piece | None:
        """See `Encoder`. Tells the rate even where there was nothing to say."""
        return self._rate, b""


async def leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Closes a connection so that what was written last is read.

    Whoever closes while there is something unread resets the connection, and what was on its way to
    the client is lost.
    """
    with suppress(OSError, TimeoutError, RuntimeError, ValueError):
        async with asyncio.timeout(_LINGER_S):
            if writer.can_write_eof() and not reader.at_eof():
                writer.write_eof()
                while await reader.read(1 << 16):
                    pass
            writer.close()
            await writer.wait_closed()
    writer.transport.abort()


def _language(given: object) -> str:
    return primary(given if isinstance(given, str) else "")


def _plain(text_format: object) -> None:
    if text_format not in (None, "text"):
        raise InputError("serve_ssml")


def _text(given: object) -> str:
    if not isinstance(given, str):
        raise InputError("serve_event")
    return given
