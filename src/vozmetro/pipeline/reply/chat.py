"""Any chat endpoint that speaks as OpenAI's does: llama.cpp, vLLM, Ollama, or one far away.

`POST {url}/chat/completions` with `stream: true`; text is handed on as it comes. One connection is
kept open between turns. Nobody waiting any more closes it at once, which is how such servers learn
that they may stop.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from concurrent.futures import Future
from functools import cache
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from vozmetro.errors import InputError, MissingExtraError, ReplyError, VozmetroError
from vozmetro.pipeline.config import ChatConfig
from vozmetro.pipeline.protocols import Cancelled
from vozmetro.pipeline.reply.dialogue import Exchange

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

MOST_BYTES = 4 << 20
"""Bytes of an answer, protocol included; such a long one is a fault of the server."""
MOST_CHARACTERS = 2000
"""Of what the user said that is sent."""
_POLL_S = 0.02
_ERROR_BYTES = 4096

Put = Callable[["str | VozmetroError | None"], None]


class Chat:
    """Implements `Reply` and `Remembering`. For several threads at once.

    Args:
        config: Which endpoint.

    Raises:
        MissingExtraError: Without httpx.
        InputError: `chat_key_missing` where the variable with the key is not set.
    """

    def __init__(self, config: ChatConfig) -> None:
        try:
            import httpx
            import httpx_sse  # noqa: F401
        except ModuleNotFoundError as error:
            raise MissingExtraError("serve", str(error.name)) from error
        self._config = config
        self._key = os.environ.get(config.api_key_env, "") if config.api_key_env else ""
        if config.api_key_env and not _sendable(self._key):
            raise InputError("chat_key_missing", name=config.api_key_env)
        self._address = f"{config.url.rstrip('/')}/chat/completions"
        headers = {"Accept": "text/event-stream", "Accept-Encoding": "identity"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        self._client = httpx.AsyncClient(
            headers=headers,
            timeout=httpx.Timeout(config.timeout_s, pool=config.limit_s),
            transport=_bounded_transport(),
        )
        weakref.finalize(self, _run, self._client.aclose)

    def stream(self, text: str, language: str, cancelled: Cancelled) -> Iterator[str]:
        """See `Reply.stream`.

        Raises:
            ReplyError: `chat_unreachable`, `chat_timeout`, `chat_refused`, `chat_not_stream` or
                `chat_too_much`.
        """
        return self.answer((), text, language, cancelled)

    def answer(
        self, history: Sequence[Exchange], text: str, language: str, cancelled: Cancelled
    ) -> Iterator[str]:
        """See `Remembering.answer`; raises what `stream` does."""
        del language
        body = {
            "model": self._config.model,
            "messages": self._messages(history, text),
            "max_tokens": self._config.max_tokens,
            "stream": True,
        }
        pieces: SimpleQueue[str | VozmetroError | None] = SimpleQueue()
        task = _run(lambda: self._fetch(body, pieces.put))
        whole = False
        try:
            while not cancelled():
                try:
                    piece = pieces.get(timeout=_POLL_S)
                except Empty:
                    continue
                if piece is None:
                    whole = True
                    return
                if isinstance(piece, VozmetroError):
                    raise piece
                yield piece
        finally:
            if not whole:
                task.cancel()

    def _messages(self, history: Sequence[Exchange], text: str) -> list[dict[str, str]]:
        turns = self._config.turns
        messages = [{"role": "system", "content": self._config.system}]
        for past in history[-turns:] if turns else ():
            messages.append({"role": "user", "content": past.heard})
            messages.append({"role": "assistant", "content": past.said})
        messages.append({"role": "user", "content": text[:MOST_CHARACTERS]})
        return messages if self._config.system else messages[1:]

    async def _fetch(self, body: dict[str, Any], put: Put) -> None:
        """Asks, hands on each piece, then None, or what went wrong."""
        import httpx
        from httpx_sse import EventSource

        config = self._config
        try:
            async with (
                asyncio.timeout(config.limit_s),
                self._client.stream("POST", self._address, json=body) as response,
            ):
                await self._check(response)
                async for event in EventSource(response).aiter_sse():
                    if event.data == "[DONE]":
                        # Nobody waits any more, but what is left of the response is read: only
                        # then can its connection be used for the next turn.
                        put(None)
                        continue
                    if piece := self._piece(event.data):
                        put(piece)
            put(None)
        except VozmetroError as error:
            put(error)
        except (TimeoutError, httpx.TimeoutException) as error:
            # A server that does not even take the connection is not slow but away.
            if isinstance(error, httpx.ConnectTimeout):
                put(self._error("chat_unreachable", detail="timeout"))
            else:
                whole = isinstance(error, TimeoutError)
                limit = config.limit_s if whole else config.timeout_s
                put(self._error("chat_timeout", limit=f"{limit:g}"))
        except _TooMuchError:
            put(self._error("chat_too_much", limit=f"{MOST_BYTES >> 20} MiB"))
        except (httpx.HTTPError, httpx.StreamError, UnicodeError, OSError) as error:
            detail = str(error) or type(error).__name__
            put(self._error("chat_unreachable", detail=detail))
        except Exception as error:  # whatever else it is, somebody waits for the end
            put(self._error("chat_not_stream", detail=type(error).__name__))

    async def _check(self, response: httpx.Response) -> None:
        """Refuses what is no stream of events."""
        if response.status_code != 200:
            raw = b""
            async for chunk in response.aiter_raw():
                raw += chunk
                if len(raw) > _ERROR_BYTES:
                    break
            said = _said(raw[:_ERROR_BYTES].decode("utf-8", "replace"))
            raise self._error("chat_refused", status=response.status_code, detail=said)
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        packed = response.headers.get("content-encoding", "identity").lower()
        if kind != "text/event-stream" or packed != "identity":
            raise self._error("chat_not_stream", detail=f"{kind or '?'}, {packed}")

    def _piece(self, data: str) -> str:
        """Returns the text of one event; empty where it has none."""
        try:
            found = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise self._error("chat_not_stream", detail="JSON") from error
        if not isinstance(found, dict):
            raise self._error("chat_not_stream", detail=type(found).__name__)
        if found.get("error"):
            raise self._error("chat_refused", status=200, detail=_said(data))
        choices = found.get("choices")
        first = choices[0] if isinstance(choices, list) and choices else None
        delta = first.get("delta") if isinstance(first, dict) else None
        text = delta.get("content") if isinstance(delta, dict) else None
        # Half of a surrogate pair is no text.
        return text.encode("utf-8", "ignore").decode() if isinstance(text, str) else ""

    def _error(self, code: str, **fields: object) -> ReplyError:
        """Returns an error that names the endpoint and never the key."""
        told = {name: str(value) for name, value in fields.items()}
        if self._key:
            told = {name: value.replace(self._key, "***") for name, value in told.items()}
        short = {name: value[:300] for name, value in told.items()}
        return ReplyError(code, url=self._config.url, **short)


class _TooMuchError(Exception):
    """The answer is longer than any answer is."""


def _bounded_transport() -> httpx.AsyncBaseTransport:
    """Returns a transport whose responses end with an error after MOST_BYTES."""
    import httpx

    class Bounded(httpx.AsyncByteStream):
        def __init__(self, stream: httpx.AsyncByteStream) -> None:
            self._stream = stream

        async def __aiter__(self) -> AsyncIterator[bytes]:
            total = 0
            async for chunk in self._stream:
                total += len(chunk)
                if total > MOST_BYTES:
                    raise _TooMuchError
                yield chunk

        async def aclose(self) -> None:
            await self._stream.aclose()

    class Transport(httpx.AsyncHTTPTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            try:
                response = await super().handle_async_request(request)
            except (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError):
                # A server closes what has been idle for some seconds, perhaps at the moment at
                # which the next turn is sent: then nothing was begun, and it is sent anew, once.
                response = await super().handle_async_request(request)
            assert isinstance(response.stream, httpx.AsyncByteStream)  # noqa: S101
            response.stream = Bounded(response.stream)
            return response

    return Transport(limits=httpx.Limits(max_connections=16, keepalive_expiry=300))


def _said(text: str) -> str:
    """Returns a server's own message, wherever in its JSON it is."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if isinstance(found, dict):
        inner = found.get("error", found)
        if isinstance(inner, dict):
            inner = inner.get("message", inner)
        return str(inner)
    return text


def _sendable(key: str) -> bool:
    """Whether it can stand in a header."""
    return bool(key) and key.isascii() and key.isprintable() and key == key.strip()


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """The loop of all endpoints, on a thread of its own that ends with the process."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="vozmetro-chat", daemon=True).start()
    return loop


def _run(make: Callable[[], Coroutine[Any, Any, None]]) -> Future[None]:
    """Runs a coroutine on that loop; cancelling what is returned cancels it there."""
    return asyncio.run_coroutine_threadsafe(make(), _loop())
