"""Clients of the realtime protocol: raw ones that read in order, and the real `openai` one."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from live_helpers import WAIT_S, Room, pcm, serving, speech
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from vozmetro.quality.listen.guard import Access
from vozmetro.serve.app import Serving, build
from vozmetro.serve.realtime import routes


@contextmanager
def realtime(room: Room, token: str = "", **options: Any) -> Iterator[str]:
    state = Serving(room, Access(token=token))
    with serving(build(state, routes(state, **options))) as address:
        yield address
    assert state.active == 0, "a turn was not let go of"


class Client:
    """A raw client that reads what it is told, in order."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.seen: list[dict[str, Any]] = []

    def send(self, kind: str, **fields: Any) -> None:
        self.socket.send(json.dumps({"type": kind, **fields}))

    def next(self) -> dict[str, Any]:
        told = json.loads(self.socket.recv(WAIT_S))
        self.seen.append(told)
        return told

    def until(self, kind: str, errors: bool = False) -> dict[str, Any]:
        while True:
            told = self.next()
            if told["type"] == kind:
                return told
            assert errors or told["type"] != "error", told

    def refused(self) -> dict[str, Any]:
        told = self.next()
        assert told["type"] == "error", told
        return told["error"]

    def until_error(self, code: str) -> None:
        while (told := self.next())["type"] != "error":
            pass
        assert told["error"]["code"] == code

    def kinds(self) -> list[str]:
        return [one["type"] for one in self.seen]

    def say(self, data: bytes, step: int = 48_000) -> None:
        for start in range(0, len(data), step):
            piece = base64.b64encode(data[start : start + step]).decode()
            self.send("input_audio_buffer.append", audio=piece)

    def manual(self, **session: Any) -> None:
        audio = {"input": {"turn_detection": None}}
        self.send("session.update", session={"type": "realtime", "audio": audio, **session})
        self.until("session.updated")


def typed(text: str, **fields: str) -> dict[str, Any]:
    content = [{"type": "input_text", "text": text}]
    return {"type": "message", "role": "user", "content": content, **fields}


@contextmanager
def client(address: str, **options: Any) -> Iterator[Client]:
    with connect(f"ws://{address}/v1/realtime", **options) as socket:
        raw = Client(socket)
        assert raw.next()["type"] == "session.created"
        yield raw


def spoken() -> bytes:
    said = speech()
    return pcm(said.samples, said.rate)


def openai_client(address: str, key: str = "none") -> Any:
    import openai

    base = f"{address}/v1"
    return openai.OpenAI(api_key=key, base_url=f"http://{base}", websocket_base_url=f"ws://{base}")


def talking() -> int:
    """Threads of conversations and their answers."""
    return sum(one.name in ("conversation", "answer") for one in threading.enumerate())


def closed(it: Client) -> tuple[list[str], int | None]:
    """What comes until the server closes: codes of errors, and the code of the closing."""
    codes = []
    try:
        while True:
            told = it.next()
            codes += [told["error"]["code"]] if told["type"] == "error" else []
    except ConnectionClosed as error:
        return codes, error.rcvd.code if error.rcvd else None
