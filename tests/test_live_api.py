"""The live page's files and its socket, without a browser."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import numpy as np
import pytest
from live_helpers import VOICE_RATE, WAIT_S, Room, Voice, serving, speech
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from vozmetro.errors import BusyError
from vozmetro.i18n import LANGUAGES, catalogue
from vozmetro.pipeline.tiers import Ask
from vozmetro.quality.listen.guard import Access
from vozmetro.serve.app import Serving, build
from vozmetro.serve.line import Line, conversations
from vozmetro.serve.live import STATIC, routes
from vozmetro.serve.sound import pcm16
from vozmetro.serve.wire import Bounds

TOKEN = "correct-horse-battery"


@contextmanager
def live(room: Room, token: str = "", **options: Any) -> Iterator[tuple[str, Serving]]:
    state = Serving(room, Access(token=token))
    with serving(build(state, routes(state, **options))) as address:
        yield address, state
    assert state.active == 0, "a turn was not let go of"


def told(socket: ClientConnection, kind: str) -> tuple[dict[str, Any], list[Any]]:
    """Returns the next event of a kind, and all that came before it."""
    before: list[Any] = []
    while True:
        message = socket.recv(WAIT_S)
        event = json.loads(message) if isinstance(message, str) else message
        if isinstance(event, dict) and event["type"] == kind:
            return event, before
        before.append(event)


def begin(socket: ClientConnection, **fields: Any) -> None:
    told(socket, "hello")
    socket.send(json.dumps({"type": "start", **fields}))
    told(socket, "ready")


@pytest.mark.parametrize("rate", [16_000, 48_000])
def test_a_turn_whose_times_and_sounds_reach_the_page(rate: int) -> None:
    """At the server's own rate, and at that of a browser which cannot convert it."""
    said = speech(1).samples.repeat(rate // 16_000)
    room = Room()
    with live(room) as (address, state), connect(f"ws://{address}/live/ws") as socket:
        hello, _ = told(socket, "hello")
        assert hello["budget"]["p50_ms"] == 240
        assert [one["name"] for one in hello["tiers"]] == ["fast"]
        socket.send(json.dumps({"type": "start", "rate": rate, "tier": "fast"}))
        told(socket, "ready")
        for start in range(0, len(said), rate // 10):
            socket.send(pcm16(said[start : start + rate // 10]))
        ended, before = told(socket, "ended")
        metrics = state.metrics.text().decode()
    events = [one for one in before if isinstance(one, dict)]
    sound = b"".join(one for one in before if isinstance(one, bytes))
    kinds = list(dict.fromkeys(one["type"] for one in events))
    assert kinds == ["speech_started", "speech_stopped", "transcript", "reply", "audio"]
    assert {one["turn"] for one in events} == {ended["turn"]}
    # The reply goes on while its first words are spoken: in order is how each kind begins.
    first = {one["type"]: one["at_ms"] for one in reversed(events)}
    times = [first[kind] for kind in kinds]
    assert times == sorted(times)
    assert max(one["at_ms"] for one in events) <= ended["at_ms"]
    assert (ended["cancelled"], ended["failure"]) == (False, "")
    assert [ended["parts_ms"]] == room.told
    assert next(one for one in events if one["type"] == "audio")["rate"] == VOICE_RATE
    assert len(sound) / 2 == VOICE_RATE
    assert np.abs(np.frombuffer(sound, "<i2")).max() > 1000
    assert room.asked[0] == "fast"
    for part in ("endpoint", "stt", "reply", "tts_first_audio"):
        labels = f'stage="{part}",surface="live",tier="fast"'
        assert f"vozmetro_stage_seconds_count{{{labels}}} 1.0" in metrics
    assert 'vozmetro_requests_total{outcome="done",surface="live"} 1.0' in metrics


class Told:
    """A conversation that says when it was told to stop."""

    stopped = threading.Event()

    def __init__(self, *words: Any) -> None:
        self._talk = conversations(*words)
        self.feed, self.commit, self.close = self._talk.feed, self._talk.commit, self._talk.close

    def cancel(self) -> None:
        self._talk.cancel()
        self.stopped.set()


def test_a_conversation_that_nobody_waits_for_any_more_is_ended() -> None:
    begun, free, ended = threading.Event(), threading.Event(), threading.Event()

    def slowly(*words: Any) -> Any:
        begun.set()
        assert free.wait(WAIT_S)
        talk = Told(*words)
        close = talk.close
        talk.close = lambda: (close(), ended.set())
        return talk

    async def leave() -> None:
        opening = Line.open(slowly, Room(), lambda *_: None, ask=Ask(), endpoint=False)
        task = asyncio.create_task(opening)
        await asyncio.to_thread(begun.wait, WAIT_S)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    asyncio.run(leave())
    free.set()
    assert ended.wait(WAIT_S)


def test_the_page_commits_and_cancels() -> None:
    held = threading.Event()
    with (
        live(Room(voice=Voice(held=held)), talks=Told) as (address, _),
        connect(f"ws://{address}/live/ws") as socket,
    ):
        begin(socket)
        socket.send(pcm16(speech(1).samples[:14_000]))
        told(socket, "speech_started")
        socket.send('{"type": "commit"}')
        told(socket, "audio")
        socket.send('{"type": "cancel"}')
        assert Told.stopped.wait(WAIT_S)
        held.set()
        assert told(socket, "ended")[0]["cancelled"]


@pytest.mark.parametrize(
    "message",
    ["{", "[" * 4000, "7", '{"type": "dance"}', '{"type": "start", "rate": 1}', " " * 5000,
     '{"type": "start", "language": "Spanish"}', b"\x00", b"\x00" * ((1 << 20) + 2)],
    ids=lambda one: repr(one[:24]),
)  # fmt: skip
def test_what_the_page_never_says_ends_the_connection(message: str | bytes) -> None:
    with live(Room()) as (address, _), connect(f"ws://{address}/live/ws") as socket:
        told(socket, "hello")
        socket.send(message)
        assert told(socket, "error")[0]["code"] == "bad_request"
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(WAIT_S)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008


def test_audio_before_the_start_is_not_heard() -> None:
    room = Room()
    with live(room) as (address, _), connect(f"ws://{address}/live/ws") as socket:
        told(socket, "hello")
        socket.send(pcm16(speech(1).samples))
        for word in ("commit", "cancel"):
            socket.send(json.dumps({"type": word}))
        socket.send('{"type": "start"}')
        assert told(socket, "ready")[1] == []
    assert room.asked == []


def test_who_may_talk() -> None:
    with live(Room(), TOKEN, bounds=Bounds(connections=1)) as (address, state):
        url = f"ws://{address}/live/ws"
        for words in ([], ["vozmetro.token.wrong"], [f"vozmetro.token.{TOKEN}x"]):
            with connect(url, subprotocols=["vozmetro.live", *words]) as socket:
                with pytest.raises(ConnectionClosed) as closed:
                    socket.recv(WAIT_S)
                assert closed.value.rcvd is not None
                assert closed.value.rcvd.code == 4401
        words = ["vozmetro.live", f"vozmetro.token.{TOKEN}"]
        with pytest.raises(InvalidStatus):
            connect(url, subprotocols=words, origin="https://elsewhere.example")
        with connect(url, subprotocols=words, origin=f"http://{address}") as socket:
            assert socket.subprotocol == "vozmetro.live"
            told(socket, "hello")
            with connect(url, subprotocols=words) as second:
                with pytest.raises(ConnectionClosed) as closed:
                    second.recv(WAIT_S)
                assert closed.value.rcvd is not None
                assert closed.value.rcvd.code == 1013
        metrics = state.metrics.text().decode()
    assert 'vozmetro_errors_total{code="serve_token",surface="live"} 3.0' in metrics


def test_a_failing_turn_is_told_with_its_code() -> None:
    room = Room(failure=BusyError("server_busy"))
    with live(room) as (address, _), connect(f"ws://{address}/live/ws") as socket:
        begin(socket)
        socket.send(pcm16(speech(1).samples))
        assert told(socket, "ended")[0]["failure"] == "server_busy"


def test_the_pages_files_and_nothing_else() -> None:
    with (
        live(Room(), TOKEN) as (address, _),
        httpx.Client(base_url=f"http://{address}", trust_env=False) as web,
    ):
        answer = web.get("/live")
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; script-src 'self';")
        assert "unsafe" not in policy
        assert TOKEN not in answer.text
        assert "://" not in answer.text
        for name in STATIC:
            sent = web.get(f"/live/static/{name}")
            assert (sent.status_code, sent.headers["X-Content-Type-Options"]) == (200, "nosniff")
            assert "://" not in sent.text
        for lang in LANGUAGES:
            texts = web.get(f"/live/texts/{lang}").json()
            assert texts["title"] == catalogue(lang)["live.page.title"]
        for path in ("/live/static/index.html", "/live/static/..%2flive.py", "/live/texts/fr"):
            assert web.get(path).status_code == 404
        assert web.get("/live", headers={"Host": "rebound.example"}).status_code == 421


def test_every_text_of_the_page_is_in_the_catalogue_and_used() -> None:
    import re
    from importlib import resources

    place = resources.files("vozmetro.serve").joinpath("page")
    text = "".join(place.joinpath(one).read_text() for one in [*STATIC, "index.html"])
    known = {k.removeprefix("live.page.") for k in catalogue("en") if k.startswith("live.page.")}
    words = set(re.findall(r"[a-z][a-z0-9_]*", text))
    built = {f"part_{one}" for one in ("endpoint", "stt", "reply", "tts_first_audio", "total")}
    unused = {one for one in known - words - built if not one.startswith("error_")}
    assert unused == set()
    asked = set(re.findall(r'data-t="([a-z0-9_]+)"', text))
    asked |= set(re.findall(r'(?:state|remark)\((?:[^"()]*, )?"([a-z0-9_]+)"', text))
    assert asked
    assert asked <= known
