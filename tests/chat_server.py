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


def chunked(*events: bytes) -> bytes:
    """A response after which the connection stays open."""
    head = HEAD.replace(b"Connection: close", b"Transfer-Encoding: chunked")
    parts = b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in events)
    return head + parts + b"0\r\n\r\n"


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
    connections: int = 0


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
def chat_server(answer: Answer, most: int = 1) -> Iterator[ChatServer]:
    """Listens until it is left.

    Args:
        answer: To every request.
        most: Requests of one connection, which is closed then.
    """
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
        server.connections += 1
        seen = Seen()
        with connection:
            try:
                for _ in range(most):
                    seen = Seen()
                    read(connection, seen)
                    server.requests.append(seen)
                    answer(connection, seen)
            except OSError:
                seen.gone.set()

    def read(connection: socket.socket, seen: Seen) -> None:
        raw = b""
        while b"\r\n\r\n" not in raw:
            raw += received(connection)
        head, _, body = raw.partition(b"\r\n\r\n")
        seen.head = head.decode()
        length = int(seen.head.lower().split("content-length: ")[1].split("\r\n")[0])
        while len(body) < length:
            body += received(connection)
        seen.body = json.loads(body)

    def received(connection: socket.socket) -> bytes:
        found = connection.recv(4096)
        if not found:
            raise ConnectionError
        return found

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        # A thread in `accept` is not woken by `close`.
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join(5)
