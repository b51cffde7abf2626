"""The realtime protocol's bounds: what is refused, what ends a session, and who may have one."""

from __future__ import annotations

import json
import socket
import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from live_helpers import WAIT_S, Room, Voice, serving
from realtime_client import Client, client, closed, openai_client, realtime, spoken, talking, typed
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from vozmetro.errors import BusyError
from vozmetro.serve.app import Serving, build
from vozmetro.serve.realtime import routes
from vozmetro.serve.realtime_events import MOST_MESSAGE, RefusedError, parse
from vozmetro.serve.wire import USUAL_BYTES, Bounds, Bucket

TOKEN = "correct-horse-battery"

REFUSED = [
    ("{", "invalid_json", None),
    ("[]", "invalid_json", None),
    ("[" * 200_000, "invalid_json", None),
    ('{"type": "session.destroy"}', "unknown_event", "type"),
    ('{"type": "input_audio_buffer.append"}', "invalid_value", "audio"),
    ('{"type": "input_audio_buffer.append", "audio": 7}', "invalid_value", "audio"),
    ('{"type": "input_audio_buffer.append", "audio": "****"}', "invalid_base64", "audio"),
    ('{"type": "input_audio_buffer.append", "audio": "\\u00f1"}', "invalid_base64", "audio"),
    ('{"type": "input_audio_buffer.append", "audio": "AAAA"}', "invalid_audio", "audio"),
    ('{"type": "input_audio_buffer.commit"}', "input_audio_buffer_commit_empty", None),
    ('{"type": "response.create"}', "conversation_empty", None),
    ('{"type": "response.cancel"}', "response_cancel_not_active", None),
    (
        '{"type": "session.update", "session": {"type": "realtime", "tools": [{"name": "f"}]}}',
        "unsupported_value",
        "session.tools",
    ),
    (
        '{"type": "session.update", "session": {"turn_detection": {"type": "server_vad",'
        ' "interrupt_response": false}}}',
        "unsupported_value",
        "session.turn_detection.interrupt_response",
    ),
    (
        '{"type": "session.update", "session": {"audio": {"input": {"format": {"type":'
        ' "audio/pcm", "rate": 16000}}}}}',
        "invalid_value",
        "session.audio.input.format.rate",
    ),
    (
        '{"type": "session.update", "session": {"type": "transcription"}}',
        "invalid_value",
        "session.type",
    ),
    (
        '{"type": "conversation.item.create", "item": {"type": "message", "role": "user",'
        ' "content": [{"type": "input_text", "text": "\\ud800"}]}}',
        "invalid_value",
        "item.content.0.text",
    ),
    (
        '{"type": "conversation.item.create", "item": {"type": "function_call_output"}}',
        "invalid_value",
        "item.type",
    ),
]


def test_what_cannot_be_done_is_refused_and_the_session_goes_on() -> None:
    with realtime(Room()) as address, client(address, max_size=None) as it:
        for text, code, param in REFUSED:
            it.socket.send(text)
            error = it.refused()
            assert (error["code"], error["param"]) == (code, param), text[:100]
            assert error["message"]
            assert error["type"] == "invalid_request_error"
        it.socket.send(b"\x00" * 100)
        assert it.refused()["code"] == "invalid_json"
        it.socket.send(" " * (MOST_MESSAGE + 1))
        assert it.refused()["code"] == "message_too_large"
        it.send("input_audio_buffer.clear")
        it.until("input_audio_buffer.cleared")


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["type", "session", "item", "audio", "response", "content", "input", "format"]
            ),
            inner,
            max_size=4,
        ),
        max_leaves=12,
    ),
    st.sampled_from(
        ["session.update", "conversation.item.create", "response.create",
         "input_audio_buffer.append", "conversation.item.truncate"]
    ),
)  # fmt: skip
def test_any_json_is_an_event_or_refused(value: Any, kind: str) -> None:
    for sent in (value, {**value, "type": kind} if isinstance(value, dict) else [value]):
        try:
            parse(json.dumps(sent))
        except RefusedError as error:
            assert json.dumps(error.event())


def test_more_audio_than_can_be_heard_is_refused_as_busy() -> None:
    """Feeding never waits: past its bound it says so, and the session stays."""
    room = Room()
    busy = BusyError("server_busy")

    class Deaf:
        def __init__(self, tiers, listener, language, ask, endpoint) -> None:
            self.fed = 0

        def feed(self, samples) -> None:
            self.fed += len(samples)
            if self.fed > 16_000:
                raise busy

        def commit(self) -> None: ...
        def cancel(self) -> None: ...
        def close(self) -> None: ...

    with realtime(room, talks=Deaf) as address, client(address) as it:
        it.say(spoken())
        error = it.refused()
        assert (error["type"], error["code"]) == ("server_error", "server_busy")
        assert error["message"] == str(busy)


def test_a_flood_ends_the_session() -> None:
    bounds = Bounds(per_second=1, burst=20)
    with realtime(Room(), bounds=bounds) as address, client(address, max_queue=None) as it:
        with pytest.raises(ConnectionClosed):
            for _ in range(100_000):
                it.send("input_audio_buffer.clear")
        codes, code = closed(it)
    assert (codes, code) == (["rate_limit_exceeded"], 1008)


def test_long_messages_count_as_several() -> None:
    """A second of 16 KiB messages is as much as half a second of 8 KiB ones."""
    bucket = Bucket(Bounds(per_second=10, burst=100), lambda: 0.0)
    assert [bucket.take(2 * USUAL_BYTES) for _ in range(34)] == [True] * 33 + [False]
    assert bucket.left() == (1, 9.9)


def test_who_asks_and_cancels_all_the_time_is_served_in_turn() -> None:
    held = threading.Event()
    with realtime(Room(voice=Voice(held=held))) as address, client(address) as it:
        it.send("conversation.item.create", item=typed("hello"))
        for _ in range(4):
            it.send("response.create")
            it.until("response.created")
            it.send("response.cancel")
            it.until("response.done")
        assert talking() <= 2 * 4
        # What comes next may have to wait for those.
        it.send("response.create")
        held.set()
        assert it.until("response.done")["response"]["status"] == "completed"


def test_answers_that_were_cancelled_give_their_places_back() -> None:
    held = threading.Event()
    state = Serving(Room(voice=Voice(held=held)))
    with serving(build(state, routes(state))) as address, client(address) as it:
        it.send("conversation.item.create", item=typed("hello"))
        for _ in range(3):
            it.send("response.create")
            it.until("response.created")
            it.send("response.cancel")
            it.until("response.done")
        held.set()
        # The connection goes on: what is freed is freed by the ends of the turns.
        for _ in range(200):
            if state.active == 0:
                break
            threading.Event().wait(0.05)
        assert state.active == 0


@pytest.mark.parametrize(
    ("bounds", "code"),
    [(Bounds(idle_s=0.05), "session_idle"), (Bounds(session_s=0.05), "session_expired")],
)
def test_a_session_does_not_last_for_ever(bounds: Bounds, code: str) -> None:
    with realtime(Room(), bounds=bounds) as address, client(address) as it:
        assert closed(it) == ([code], 1001)


def test_a_client_that_does_not_read_is_dropped_and_others_are_served() -> None:
    """What waits for it is bounded; the pipeline never waits for it."""
    host = socket.socket()
    # So that the kernel keeps little of what the client does not read.
    host.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    bounds = Bounds(unsent_bytes=1 << 20)
    with realtime(Room(voice=Voice(pieces=800)), bounds=bounds) as address:
        name, port = address.split(":")
        host.connect((name, int(port)))
        with connect(f"ws://{address}/v1/realtime", sock=host, max_queue=1) as slow:
            raw = Client(slow)
            raw.next()
            raw.send("conversation.item.create", item=typed("tell me a long story"))
            raw.send("response.create")
            with client(address) as other:
                other.manual(output_modalities=["text"])
                other.send("conversation.item.create", item=typed("tell me one too"))
                other.send("response.create")
                assert other.until("response.done")["response"]["status"] == "completed"
            with pytest.raises(ConnectionClosed):
                while raw.next()["type"] != "response.done":
                    pass


def test_clients_that_vanish_leave_nothing_behind() -> None:
    held = threading.Event()
    room = Room(voice=Voice(held=held))
    with realtime(room, bounds=Bounds(connections=1)) as address:
        with client(address) as it:
            it.say(spoken())
            it.until("response.output_audio.delta")
            with pytest.raises(InvalidStatus) as refused:
                connect(f"ws://{address}/v1/realtime")
            assert refused.value.response.status_code == 429
            it.socket.socket.close()
        held.set()
        # The only place is free again once the first session's threads have ended.
        for _ in range(200):
            try:
                with client(address):
                    break
            except InvalidStatus:
                threading.Event().wait(0.05)
        else:
            pytest.fail("the place was not given back")
    assert talking() == 0


def test_who_may_connect() -> None:
    with realtime(Room(), token=TOKEN) as address:
        url = f"ws://{address}/v1/realtime"
        for options in (
            {},
            {"additional_headers": {"Authorization": "Bearer wrong"}},
            {"subprotocols": ["realtime", "openai-insecure-api-key.wrong"]},
        ):
            with pytest.raises(InvalidStatus) as refused:
                connect(url, **options)
            assert refused.value.response.status_code == 401
        with pytest.raises(InvalidStatus):
            connect(f"{url}?token={TOKEN}")
        with openai_client(address, TOKEN).realtime.connect(model="fast") as it:
            assert it.recv().type == "session.created"
        page = ["realtime", f"openai-insecure-api-key.{TOKEN}", "openai-beta.realtime-v1"]
        with connect(url, subprotocols=page, origin="https://elsewhere.example") as socket:
            assert socket.subprotocol == "realtime"
            assert "modalities" in json.loads(socket.recv(WAIT_S))["session"]
    with realtime(Room()) as address:
        url = f"ws://{address}/v1/realtime"
        with pytest.raises(InvalidStatus) as refused:
            connect(url, origin="https://elsewhere.example")
        assert refused.value.response.status_code == 403
        with connect(url, origin=f"http://{address}") as socket:
            assert json.loads(socket.recv(WAIT_S))["type"] == "session.created"


def test_a_server_that_stops_lets_a_turn_end_and_takes_no_other_client() -> None:
    held = threading.Event()
    state = Serving(Room(voice=Voice(held=held)))
    with serving(build(state, routes(state))) as address, client(address) as it:
        it.say(spoken())
        it.until("response.output_audio.delta")
        state.drain()
        assert state.active == 1
        with pytest.raises(InvalidStatus) as refused:
            connect(f"ws://{address}/v1/realtime")
        assert refused.value.response.status_code == 503
        held.set()
        assert it.until("response.done")["response"]["status"] == "completed"
        assert state.active == 0
