"""A small chat server on loopback: sends the bytes it is told to, and says what it saw."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


def event(text: str) -> bytes:
    """One event of a streamed answer."""
    data = {"choices": [{"index": 0, "delta": {"content": text}}]}
    return b"data: " + json.dumps(data).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


@dataclass
class Seen:
    """One request: its head and body; `gone` once the client has closed the connection."""

    head: str = ""
    body: dict[str, Any] = field(default_factory=dict)
    gone: threading.Event = field(default_factory=threading.Event)


@dataclass
class ChatServer:
    """Where it listens, and what was asked of it."""

    url: str
    requests: list[Seen] = field(default_factory=list)


Answer = Callable[[socket.socket, Seen], None]
"""Writes an answer to the connection."""


def sends(*chunks: bytes) -> Answer:
    def answer(connection: socket.socket, _: Seen) -> None:
        for chunk in chunks:
            connection.sendall(chunk)

    return answer


def sends_and_waits(*chunks: bytes) -> Answer:
    """Keeps silent after them until the client goes."""

    def answer(connection: socket.socket, seen: Seen) -> None:
        sends(*chunks)(connection, seen)
        while connection.recv(4096):
            pass
        seen.gone.set()

    return answer


@contextmanager
def chat_server(answer: Answer) -> Iterator[ChatServer]:
    listening = socket.create_server(("127.0.0.1", 0))
    server = ChatServer(f"http://127.0.0.1:{listening.getsockname()[1]}/v1")

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=handle, args=(connection,), daemon=True).start()

    def handle(connection: socket.socket) -> None:
        seen = Seen()
        with connection:
            try:
                raw = b""
                while b"\r\n\r\n" not in raw:
                    raw += connection.recv(4096)
                head, _, body = raw.partition(b"\r\n\r\n")
                seen.head = head.decode()
                length = int(seen.head.lower().split("content-length: ")[1].split("\r\n")[0])
                while len(body) < length:
                    body += connection.recv(4096)
                seen.body = json.loads(body)
                server.requests.append(seen)
                answer(connection, seen)
            except OSError:
                seen.gone.set()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        # A thread in `accept` is not woken by `close`.
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join(5)
