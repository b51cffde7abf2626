"""Small studies, and a way to ask the listening page's server without a network."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import soundfile

from vozmetro.audio import synthetic_speech
from vozmetro.quality.listen.create import Made, Wish, create
from vozmetro.quality.listen.guard import Access, Guard
from vozmetro.quality.listen.plan import Trial, trials
from vozmetro.quality.listen.server import create_app
from vozmetro.quality.listen.store import Store
from vozmetro.quality.listen.study import Study, digest


def sounds(folder: Path, items: Sequence[str], seed: int, seconds: float = 0.5, rate: int = 16_000):
    """Writes one stand-in for speech per item, at a level of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, item in enumerate(items):
        samples = synthetic_speech(seconds, seed + number, rate).samples
        level = 0.1 + 0.8 * np.random.default_rng(seed + number).random()
        soundfile.write(folder / f"{item}.wav", samples * np.float32(level), rate)
    return folder


def study_in(
    folder: Path,
    wish: Wish | None = None,
    *,
    systems: Sequence[str] = ("good", "bad"),
    items: int = 4,
    reference: bool = False,
    seconds: float = 0.5,
) -> Made:
    names = [f"s{n}" for n in range(items)]
    made = [
        (name, sounds(folder / "in" / name, names, 100 * n, seconds))
        for n, name in enumerate(systems)
    ]
    original = sounds(folder / "in" / "ref", names, 900, seconds) if reference else None
    return create(made, folder / "study", wish, original)


@dataclass
class Reply:
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> str:
        return next((value for key, value in self.headers if key == name), "")


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Client:
    """Asks an ASGI application as a browser would, cookies included."""

    app: Guard
    cookies: dict[str, str] = field(default_factory=dict)
    host: str = "127.0.0.1:8765"

    def ask(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        pieces: Sequence[bytes] | None = None,
    ) -> Reply:
        target, _, query = path.partition("?")
        sent = {"host": self.host, **(headers or {})}
        if method == "POST":
            sent.setdefault("content-type", "application/json")
        if self.cookies:
            sent.setdefault("cookie", "; ".join(f"{k}={v}" for k, v in self.cookies.items()))
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method,
            "scheme": "http", "path": unquote(target), "raw_path": target.encode(errors="replace"),
            "query_string": query.encode(errors="replace"), "root_path": "",
            "headers": [(k.encode(), v.encode("latin-1", "replace")) for k, v in sent.items()],
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8765), "state": {},
        }  # fmt: skip
        chunks = list(pieces if pieces is not None else [body])
        reply = Reply(0, [], b"")

        async def receive() -> dict[str, Any]:
            if chunks:
                return {"type": "http.request", "body": chunks.pop(0), "more_body": bool(chunks)}
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                reply.status = message["status"]
                pairs = message["headers"]
                reply.headers = [(k.decode("latin-1"), v.decode("latin-1")) for k, v in pairs]
            else:
                reply.body += message.get("body", b"")

        asyncio.run(self.app(scope, receive, send))  # type: ignore[arg-type]
        for key, value in reply.headers:
            if key == "set-cookie":
                name, _, rest = value.partition("=")
                self.cookies[name] = rest.partition(";")[0].strip('"')
        return reply

    def get(self, path: str, **more: Any) -> Reply:
        return self.ask("GET", path, **more)

    def post(self, path: str, value: Any, **more: Any) -> Reply:
        return self.ask("POST", path, json.dumps(value).encode(), **more)


JOIN = {
    "consent": True, "lang": "es", "name": "Ana", "first_language": "es", "hearing": "normal",
}  # fmt: skip


class Desk:
    """A study with its server, a clock to turn, and listeners who answer by a rule."""

    def __init__(self, made: Made, access: Access | None = None) -> None:
        self.made, self.study, self.folder = made, made.study, made.folder
        self.clock = Clock()
        self.store = Store(self.folder, digest(self.study))
        self.app = create_app(self.study, self.folder, self.store, access, self.clock)

    def client(self) -> Client:
        return Client(self.app)

    def joined(self) -> Client:
        client = self.client()
        assert client.post("/api/join", JOIN).status == 200
        return client

    def ready(self) -> Client:
        client = self.joined()
        assert client.post("/api/setup", {"device": "speakers", "tones": []}).status == 200
        return client

    def hear(self, client: Client, trial: dict[str, Any], think: float = 2.0) -> None:
        """Fetches the clips of a trial, and lets as much time pass as they last."""
        clips = [*trial["clips"], *([trial["reference"]] if trial["reference"] else [])]
        for clip in clips:
            assert client.get(f"/api/clip/{clip['id']}").status == 200
        self.clock.now += sum(clip["seconds"] for clip in clips) + think


def rating(study: Study, trial: Trial, position: int, value: int) -> dict[str, Any]:
    """A request that answers everything of a trial with one value."""
    n = len(trial.clips) if study.method == "mushra" else 1
    return {
        "position": position,
        "answers": {scale: [value] * n for scale in study.scales},
        "plays": [1] * (len(trial.clips) + bool(trial.reference)),
    }


def plan(study: Study, listener: int) -> tuple[Trial, ...]:
    return trials(study, listener)
