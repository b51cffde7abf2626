"""OpenAI's audio over HTTP, asked by OpenAI's own client and by clients that behave badly."""

from __future__ import annotations

import asyncio
import base64
import http.client
import io
import itertools
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import av
import numpy as np
import openai
import pytest
import serve_helpers
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from serve_helpers import RATE, TIER, Running, holding, tone, until, wav
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from vozmetro.errors import InputError
from vozmetro.serve.segments import LONG_S, Span, cut
from vozmetro.serve.state import Limits
from vozmetro.serve.uploads import decode

TEXT = "one two three"
TOKEN = "a-token-of-some-length"


@pytest.fixture(scope="module")
def shared() -> Iterator[Running]:
    with Running() as running:
        yield running


def client(running: Running, token: str = "none", **more: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{running.base}/v1", api_key=token, max_retries=0, **more)


def ask(
    running: Running, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", running.http, timeout=20)
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body, given)
    answer = connection.getresponse()
    got = answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
    connection.close()
    return got


def speech(running: Running, **body: Any) -> tuple[int, dict[str, str], bytes]:
    told = json.dumps({"model": "tts-1", "voice": "alloy", **body}).encode()
    return ask(running, "POST", "/v1/audio/speech", told, content_type="application/json")


def form(fields: dict[str, str], file: bytes | None) -> tuple[bytes, str]:
    parts = [f'--b\r\ncontent-disposition: form-data; name="{k}"\r\n\r\n{v}\r\n'.encode()
             for k, v in fields.items()]  # fmt: skip
    if file is not None:
        head = b'--b\r\ncontent-disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
        parts.append(head + file + b"\r\n")
    return b"".join([*parts, b"--b--\r\n"]), "multipart/form-data; boundary=b"


def heard(running: Running, file: bytes | None, **fields: str) -> tuple[int, Any]:
    body, kind = form(fields, file)
    status, _, got = ask(running, "POST", "/v1/audio/transcriptions", body, content_type=kind)
    return status, json.loads(got)


def test_transcriptions_in_every_format(shared: Running) -> None:
    audio = client(shared).audio.transcriptions
    file = ("a.wav", wav(2.0, 44_100, channels=2))
    got = audio.create(model="whisper-1", file=file, language="es")
    assert got.text == "2.0 s in es"
    assert got._request_id
    assert audio.create(model=TIER, file=file).text == "2.0 s in any"
    text = audio.create(model="gpt-4o-transcribe", file=file, response_format="text")
    assert str(text) == "2.0 s in any\n"
    verbose = audio.create(
        model="whisper-1", file=file, response_format="verbose_json", language="es-MX",
        timestamp_granularities=["segment"],
    )  # fmt: skip
    assert (verbose.language, float(verbose.duration)) == ("es", 2.0)


def test_parts_with_their_place_in_time(shared: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [Span(1600, 17_600), Span(32_000, 64_000)]
    monkeypatch.setattr("vozmetro.serve.work.spans", lambda *_: parts)
    audio, file = client(shared).audio.transcriptions, ("a.wav", wav(4.0))
    verbose = audio.create(model="whisper-1", file=file, response_format="verbose_json")
    assert verbose.text == "1.0 s in any 2.0 s in any"
    assert [(one.start, one.end) for one in verbose.segments] == [(0.1, 1.1), (2.0, 4.0)]
    srt = audio.create(model="whisper-1", file=file, response_format="srt")
    assert str(srt).startswith("1\n00:00:00,100 --> 00:00:01,100\n1.0 s in any\n\n2\n")
    vtt = audio.create(model="whisper-1", file=file, response_format="vtt")
    assert str(vtt).startswith("WEBVTT\n\n00:00:00.100 --> 00:00:01.100\n1.0 s in any\n\n")


def test_a_long_recording_is_heard_in_parts_and_streamed(
    shared: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = [Span(0, 16_000), Span(16_000, 48_000)]
    monkeypatch.setattr("vozmetro.serve.work.spans", lambda *_: parts)
    audio = client(shared).audio.transcriptions
    stream = audio.create(model="whisper-1", file=("a.wav", wav(31.0)), stream=True)
    events = list(stream)
    assert [one.type for one in events] == [
        "transcript.text.delta", "transcript.text.delta", "transcript.text.done",
    ]  # fmt: skip
    whole = "1.0 s in any 2.0 s in any"
    assert "".join(one.delta for one in events[:2]) == events[2].text == whole


@pytest.mark.parametrize("kind", ["wav", "pcm", "flac", "opus", "mp3"])
def test_speech_in_every_format(shared: Running, kind: Any) -> None:
    said = client(shared).audio.speech.create(
        model="tts-1", voice="alloy", input=TEXT, response_format=kind
    )
    data = said.read()
    if kind == "pcm":
        samples, rate = np.frombuffer(data, "<i2") / 32768, 24_000
    elif kind == "flac":
        # A stream does not say how long it is, which libsndfile cannot read.
        with av.open(io.BytesIO(data)) as file:
            frames = [one.to_ndarray()[0] for one in file.decode(audio=0)]
        samples, rate = np.concatenate(frames) / 32768, RATE
    else:
        samples, rate = soundfile.read(io.BytesIO(data))
    assert rate == {"opus": 24_000, "pcm": 24_000}.get(kind, RATE)
    expected = np.concatenate([tone(n) for n in range(3)])
    if rate != RATE or kind == "mp3":
        # Coded with loss, or at another rate: as long, and the right tones in the right order.
        assert len(samples) / rate == pytest.approx(0.3, abs=0.1 if kind == "mp3" else 0.01)
        late = 0.05 if kind == "mp3" else 0.0  # LAME's delay: 1105 samples.
        for n in range(3):
            begin = 0.1 * n + 0.04 + late
            middle = samples[int(begin * rate) : int((begin + 0.05) * rate)]
            top = np.abs(np.fft.rfft(middle, rate)).argmax()
            assert top == pytest.approx(220 * (n + 1), abs=15)
    else:
        assert np.abs(samples - expected).max() <= 1 / 32767


def test_speech_is_sent_while_it_is_made(shared: Running) -> None:
    with (
        holding(shared.tts.free),
        client(shared).audio.speech.with_streaming_response.create(
            model="tts-1", voice="alloy", input=TEXT, response_format="pcm"
        ) as said,
    ):
        pieces = said.iter_bytes(100)
        assert len(next(pieces)) == 100
        shared.tts.free.set()
        rest = sum(map(len, pieces))
    assert 100 + rest == pytest.approx(0.3 * 24_000 * 2, abs=20)


def test_speech_as_events(shared: Running) -> None:
    status, headers, body = speech(shared, input=TEXT, response_format="pcm", stream_format="sse")
    assert (status, headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    events = [json.loads(line[6:]) for line in body.decode().splitlines() if line]
    assert events[-1]["type"] == "speech.audio.done"
    audio = b"".join(base64.b64decode(one["audio"]) for one in events[:-1])
    assert len(audio) == pytest.approx(0.3 * 24_000 * 2, abs=20)


def test_models(shared: Running) -> None:
    models = client(shared).models
    names = [one.id for one in models.list()]
    assert names[0] == TIER
    assert {"whisper-1", "tts-1", "gpt-4o-mini-transcribe"} <= set(names)
    assert models.retrieve(TIER).owned_by == "vozmetro"
    with pytest.raises(openai.NotFoundError) as caught:
        models.retrieve("gpt-9")
    assert caught.value.body["code"] == "serve_model"


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"model": "gpt-9"}, 404, "serve_model"),
        ({"response_format": "docx"}, 400, "serve_format"),
        ({"response_format": "srt", "stream": "true"}, 400, "serve_stream_format"),
        ({"language": "español de México"}, 400, "serve_language"),
        ({"timestamp_granularities[]": "word"}, 400, "serve_words"),
        ({f"f{n}": "x" for n in range(40)}, 400, "serve_form"),
        ({"prompt": "x" * 70_000}, 400, "serve_form"),
    ],
)
def test_bad_transcriptions(
    shared: Running, fields: dict[str, str], status: int, code: str
) -> None:
    got, body = heard(shared, wav(), **fields)
    assert (got, body["error"]["code"]) == (status, code)
    assert set(body["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    ("file", "status", "code"),
    [
        (None, 400, "serve_field"),
        (b"", 415, "serve_not_audio"),
        (b"RIFF\xff\xff\xff\xffWAVEfmt ", 415, "serve_not_audio"),
        (b"no sound at all" * 100, 415, "serve_not_audio"),
        (wav(0.05), 400, "serve_audio_short"),
        (wav(1.0, 16_000, channels=12), 415, "serve_not_audio"),
    ],
)
def test_bad_recordings(shared: Running, file: bytes | None, status: int, code: str) -> None:
    got, body = heard(shared, file, model="whisper-1")
    assert (got, body["error"]["code"]) == (status, code)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"input": TEXT, "speed": 2.0}, 400, "serve_speed"),
        ({"input": TEXT, "response_format": "aac"}, 400, "serve_format"),
        ({"input": "x" * 5000}, 400, "serve_text_long"),
        ({"input": " \n"}, 400, "serve_text_empty"),
        ({"input": 7}, 400, "serve_field"),
        ({}, 400, "serve_field"),
        ({"input": TEXT, "model": "../../etc"}, 404, "serve_model"),
    ],
)
def test_bad_speech(shared: Running, body: dict[str, Any], status: int, code: str) -> None:
    got, _, told = speech(shared, **body)
    assert (got, json.loads(told)["error"]["code"]) == (status, code)


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "code"),
    [
        ("POST", "/v1/audio/speech", {"content_type": "text/plain"}, 415, "serve_media"),
        ("POST", "/v1/audio/transcriptions", {"content_type": "text/plain"}, 415, "serve_media"),
        ("POST", "/v1/audio/transcriptions", {"content_type": "multipart/form-data"}, 400,
         "serve_form"),
        ("POST", "/v1/audio/speech", {"content_type": "application/json"}, 400, "serve_field"),
        ("GET", "/v1/audio/speech", {}, 405, "serve_method"),
        ("GET", "/nowhere", {}, 404, "serve_no_place"),
        ("GET", "/v1/models", {"host": "rebound.example"}, 421, "serve_wrong_host"),
        ("GET", "/v1/models", {"origin": "http://other.example"}, 403, "serve_wrong_origin"),
        ("GET", "/v1/models", {"sec_fetch_site": "cross-site"}, 403, "serve_wrong_origin"),
    ],
)  # fmt: skip
def test_what_the_server_does_not_take(
    shared: Running, method: str, path: str, headers: dict[str, str], status: int, code: str
) -> None:
    got, _, body = ask(shared, method, path, b"{", **headers)
    assert (got, json.loads(body)["error"]["code"]) == (status, code)


def test_what_fails_inside_is_not_told() -> None:
    with Running() as running:
        running.stt.failing = True
        status, body = heard(running, wav())
        assert (status, body["error"]["code"]) == (500, "serve_failed")
        assert "secret" not in json.dumps(body)
        assert running.metric("vozmetro_errors_total", surface="http", code="serve_failed") == 1
        running.stt.failing = False
        assert heard(running, wav())[0] == 200


def test_only_with_the_token() -> None:
    more = [Route("/more", lambda _: PlainTextResponse("more"))]
    with Running(token=TOKEN, routes=more) as running:
        with pytest.raises(openai.AuthenticationError):
            client(running, "wrong").models.list()
        assert client(running, TOKEN).models.list().data[0].id == TIER
        assert ask(running, "GET", "/metrics")[0] == 401
        assert ask(running, "GET", "/healthz")[0] == 200
        assert ask(running, "GET", "/more")[2] == b"more"
        assert ask(running, "GET", "/more", host="rebound.example")[0] == 421
        foreign = {"origin": "http://other.example", "authorization": f"Bearer {TOKEN}"}
        assert ask(running, "GET", "/v1/models", **foreign)[0] == 200


def test_a_websocket_among_the_routes_keeps_its_connection() -> None:
    async def talk(socket: WebSocket) -> None:
        await socket.accept()
        # Longer than a head may take: the limits of HTTP are none of a WebSocket's.
        await asyncio.sleep(0.5)
        await socket.send_text(await socket.receive_text())
        await socket.close()

    limits = Limits(header_s=0.2, write_s=0.2)
    with Running(routes=[WebSocketRoute("/talk", talk)], limits=limits) as running:
        address = f"ws://127.0.0.1:{running.http}/talk"
        with connect(address) as socket:
            socket.send("hola")
            assert socket.recv() == "hola"
        rebound = {"Host": "rebound.example"}
        with pytest.raises(InvalidStatus), connect(address, additional_headers=rebound):
            pass


def test_health_and_metrics() -> None:
    with Running() as running:
        assert ask(running, "GET", "/healthz")[2] == b'{"status":"ok"}'
        heard(running, wav())
        speech(running, input=TEXT)
        running.tiers.finished(TIER, {"stt": 100.0, "endpoint": 300.0})
        text = ask(running, "GET", "/metrics")[2].decode()
        for line in (
            f'vozmetro_stage_seconds_count{{stage="stt",surface="http",tier="{TIER}"}} 1.0',
            f'stage="tts_first_audio",surface="http",tier="{TIER}"}} 1.0',
            'vozmetro_requests_total{outcome="done",surface="http"} 2.0',
            f'vozmetro_tier_turns{{tier="{TIER}"}} 1.0',
            'le="0.24"',
        ):
            assert line in text
        running.serving.drain()
        assert ask(running, "GET", "/healthz")[:1] == (503,)
        status, headers, body = speech(running, input=TEXT)
        assert (status, json.loads(body)["error"]["code"]) == (503, "serve_draining")
        assert headers["retry-after"] == "1"


def test_too_many_are_told_so_and_the_others_served() -> None:
    with Running(limits=Limits(active=2)) as running, ThreadPoolExecutor(2) as pool:
        with holding(running.stt.free):
            working = [pool.submit(heard, running, wav(n + 1.0)) for n in range(2)]
            until(lambda: running.serving.active == 2)
            with pytest.raises(openai.RateLimitError) as caught:
                client(running).audio.speech.create(model="tts-1", voice="a", input=TEXT)
            assert caught.value.response.headers["retry-after"] == "1"
        assert [one.result()[1]["text"] for one in working] == ["1.0 s in any", "2.0 s in any"]
        running.idle()
        assert running.metric("vozmetro_busy_total", surface="http") == 1
        assert heard(running, wav())[0] == 200


def test_eight_at_once_get_each_their_own() -> None:
    with Running() as running, ThreadPoolExecutor(8) as pool:
        lengths = [0.5 + 0.1 * n for n in range(8)]
        answers = pool.map(lambda s: heard(running, wav(s)), lengths)
        assert [body["text"] for _, body in answers] == [f"{s:.1f} s in any" for s in lengths]
        said = list(pool.map(lambda n: speech(running, input="w " * n, response_format="wav"),
                             range(1, 9)))  # fmt: skip
        assert [len(body) - 44 for _, _, body in said] == [4410 * n for n in range(1, 9)]


def test_bodies_are_bounded() -> None:
    with Running(limits=Limits(body_bytes=100_000, audio_s=1.5)) as running:
        assert heard(running, wav(2.0))[1]["error"]["code"] == "serve_audio_long"
        body, kind = form({}, wav(10.0))
        got = ask(running, "POST", "/v1/audio/transcriptions", body, content_type=kind)
        assert (got[0], json.loads(got[2])["error"]["code"]) == (413, "serve_body_large")
        # Without a length in advance.
        connection = http.client.HTTPConnection("127.0.0.1", running.http, timeout=20)
        pieces = iter([body[n : n + 60_000] for n in range(0, 180_000, 60_000)])
        path, headers = "/v1/audio/transcriptions", {"content-type": kind}
        try:
            connection.request("POST", path, pieces, headers, encode_chunked=True)
        except ConnectionError:
            pass
        else:
            assert connection.getresponse().status == 413
        connection.close()
        assert heard(running, wav(1.0))[0] == 200


def test_a_small_file_that_unpacks_to_hours() -> None:
    with io.BytesIO() as file:
        soundfile.write(file, np.zeros(16_000 * 60, np.float32), 16_000, format="FLAC")
        file.seek(0)
        with pytest.raises(InputError) as caught:
            decode(file, Limits(audio_s=30))
    assert caught.value.code == "serve_audio_long"


def raw(running: Running, data: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", running.http), timeout=20)
    connection.sendall(data)
    return connection


def endless(running: Running, text: str = "*") -> socket.socket:
    body = json.dumps({"model": "tts-1", "input": text, "response_format": "pcm"})
    head = "POST /v1/audio/speech HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json"
    return raw(running, f"{head}\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode())


def test_a_client_that_is_killed_ends_its_work() -> None:
    with Running() as running:
        connection = endless(running)
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")
        connection.close()
        assert running.tts.closed.wait(15)
        running.idle()
        assert running.metric("vozmetro_requests_total", surface="http", outcome="gone") == 1
        # While it waits for its turn: what it wanted is never begun.
        body, kind = form({}, wav())
        head = f"POST /v1/audio/transcriptions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: {kind}"
        request = f"{head}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body
        with holding(running.stt.free):
            first = raw(running, request)
            assert running.stt.asked.wait(15)
            second = raw(running, request)
            until(lambda: running.tiers.gate.load == 2)
            second.close()
            until(lambda: running.serving.active == 1)
        assert first.recv(1000).startswith(b"HTTP/1.1 200")
        first.close()
        until(lambda: running.tiers.gate.load == 0)
        assert len(running.stt.heard) == 1


def test_slow_readers_and_slow_heads_are_cut_off() -> None:
    with Running(limits=Limits(write_s=0.3, header_s=0.3)) as running:
        reader = endless(running)
        assert running.tts.closed.wait(15)
        running.idle()
        head = raw(running, b"GET /healthz HTTP/1.1\r\nho")
        assert head.recv(10) == b""
        nothing = raw(running, b"")
        assert nothing.recv(10) == b""
        for connection in (reader, head, nothing):
            connection.close()
        assert ask(running, "GET", "/healthz")[0] == 200


@pytest.mark.parametrize(
    "data",
    [b"\x00\xff\x16\x03\x01" * 50, b"GET / HTTP/9.9\r\n\r\n", b"GET /" + b"a" * 40_000 + b" HTTP",
     b"POST /v1/audio/speech HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n"],
)  # fmt: skip
def test_malformed_requests(shared: Running, data: bytes) -> None:
    connection = raw(shared, data)
    assert connection.recv(100).split(b" ")[1] in (b"400", b"421")
    connection.close()
    assert ask(shared, "GET", "/healthz")[0] == 200


def started(go: Path, ports: tuple[int, int] = (0, 0)) -> tuple[Any, int, int]:
    words = [sys.executable, serve_helpers.__file__, str(go), *map(str, ports)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    http_port, wyoming_port = map(int, process.stdout.readline().split())
    return process, http_port, wyoming_port


class There:
    """A server in another process, for what asks `Running`s."""

    def __init__(self, port: int) -> None:
        self.http = port


def test_sigterm_finishes_what_runs_and_begins_nothing(tmp_path: Path) -> None:
    go = tmp_path / "go"
    process, port, _ = started(go)
    there: Any = There(port)
    connection = endless(there, TEXT)
    data = connection.recv(4096)
    assert data.startswith(b"HTTP/1.1 200")
    process.send_signal(signal.SIGTERM)
    until(lambda: ask(there, "GET", "/healthz")[0] == 503)
    assert speech(there, input=TEXT)[0] == 503
    go.touch()
    while piece := connection.recv(4096):
        data += piece
    connection.close()
    assert data.endswith(b"0\r\n\r\n"), "the answer was cut off"
    assert process.wait(20) == 0
    process.stdout.close()


def test_killed_and_started_again(tmp_path: Path) -> None:
    go = tmp_path / "go"
    process, port, wyoming = started(go)
    connection = endless(There(port), TEXT)  # type: ignore[arg-type]
    assert connection.recv(4096).startswith(b"HTTP/1.1 200")
    process.kill()
    process.wait(20)
    process.stdout.close()
    while connection.recv(4096):
        pass
    connection.close()
    go.touch()
    process, again, _ = started(go, (port, wyoming))
    assert again == port
    status, _, audio = speech(There(port), input=TEXT, response_format="wav")  # type: ignore[arg-type]
    assert (status, len(audio)) == (200, 44 + 2 * 4410)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    process.stdout.close()


@given(st.lists(st.booleans(), max_size=400), st.integers(0, 511))
def test_cuts_hold_all_speech_in_order(speech: list[bool], short: int) -> None:
    total = max(0, len(speech) * 512 - short)
    found = cut(speech, 512, total)
    for before, after in itertools.pairwise(found):
        assert before.end <= after.start
    for one in found:
        assert 0 <= one.start < one.end <= total
        assert one.end - one.start <= LONG_S * 16_000
    covered = np.zeros(total + 512, bool)
    for one in found:
        covered[one.start : one.end] = True
    for index, spoken in enumerate(speech):
        if spoken:
            assert covered[index * 512 : min(total, (index + 1) * 512)].all()
