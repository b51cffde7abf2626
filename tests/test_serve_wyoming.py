"""Wyoming, asked by the package's own client as Home Assistant asks, and by clients that do not."""

from __future__ import annotations

import asyncio
import gc
import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import openai
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from serve_helpers import RATE, TIER, Running, StreamingEars, holding, tone, until
from wyoming.asr import Transcribe
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.event import Event
from wyoming.info import Describe, Info, SelectProgram
from wyoming.ping import Ping
from wyoming.tts import (
    Synthesize,
    SynthesizeChunk,
    SynthesizeStart,
    SynthesizeStop,
    SynthesizeVoice,
)

from vozmetro.audio import synthetic_speech
from vozmetro.serve.pcm import Pcm
from vozmetro.serve.sentences import LONGEST, Sentences
from vozmetro.serve.state import Limits

SILENCE = b"\0" * 3200
UNTIL = ("transcript-stop", "error", "pong", "info")


@pytest.fixture(scope="module")
def shared() -> Iterator[Running]:
    with Running() as running:
        yield running


def talk(
    port: int, sent: Sequence[Any], last: Sequence[str] = UNTIL, count: int = 1
) -> list[Event]:
    """Sends events, and returns those that come, up to some of a kind or to the end."""

    async def run() -> list[Event]:
        got: list[Event] = []
        async with AsyncTcpClient("127.0.0.1", port, read_timeout=60) as client:
            for one in sent:
                await client.write_event(one if isinstance(one, Event) else one.event())
            while (event := await client.read_event()) is not None:
                got.append(event)
                if sum(one.type in last for one in got) == count:
                    break
        return got

    return asyncio.run(run())


def pcm(samples: np.ndarray, width: int) -> bytes:
    if width == 1:
        return np.rint(samples * 127 + 128).astype(np.uint8).tobytes()
    whole = np.rint(samples.astype(np.float64) * ((1 << (8 * width - 1)) - 1)).astype(np.int64)
    every = whole.astype("<i8").tobytes()
    return b"".join(every[n : n + width] for n in range(0, len(every), 8))


def said(
    seconds: float, rate: int = 16_000, width: int = 2, channels: int = 1, step: int = 1000
) -> list[Any]:
    """What Home Assistant sends of a recording, in chunks that cut through frames."""
    samples = synthetic_speech(seconds, rate=rate).samples
    data = pcm(np.repeat(samples, channels), width)
    kind = {"rate": rate, "width": width, "channels": channels}
    chunks = [AudioChunk(**kind, audio=data[n : n + step]) for n in range(0, len(data), step)]
    return [AudioStart(**kind), *chunks, AudioStop()]


def error(events: list[Event]) -> str:
    assert events[-1].type == "error"
    return str(events[-1].data["code"])


def test_what_it_is(shared: Running) -> None:
    [got] = talk(shared.wyoming, [Describe()])
    info = Info.from_event(got)
    [asr], [tts] = info.asr, info.tts
    assert asr.supports_transcript_streaming
    assert tts.supports_synthesize_streaming
    [model], [voice] = asr.models, tts.voices
    assert (model.name, model.languages, model.installed) == (TIER, ["es", "en"], True)
    assert "MIT" in str(model.description)
    assert (model.attribution.name, model.attribution.url) == (
        "who", "https://hub.example/who/whisper",
    )  # fmt: skip
    assert (voice.name, voice.languages) == (TIER, ["es"])
    assert "CC0-1.0" in str(voice.description)
    assert talk(shared.wyoming, [Ping("a")])[0].data["text"] == "a"


@pytest.mark.parametrize(
    ("rate", "width", "channels"),
    [(16_000, 2, 1), (16_000, 1, 1), (16_000, 3, 1), (16_000, 4, 1), (48_000, 2, 2), (8_000, 2, 1)],
)
def test_any_audio_is_heard(shared: Running, rate: int, width: int, channels: int) -> None:
    sent = [Transcribe(language="es-ES"), *said(2.0, rate, width, channels)]
    got = talk(shared.wyoming, sent)
    assert [one.type for one in got] == [
        "transcript-start", "transcript-chunk", "transcript", "transcript-stop",
    ]  # fmt: skip
    assert got[1].data["text"] == got[2].data["text"] == "2.0 s in es"
    heard = shared.stt.heard[-1].samples
    expected = synthetic_speech(2.0).samples
    if rate == 16_000:
        assert np.abs(heard - expected).max() < {1: 0.02}.get(width, 1e-4)


def test_an_end_that_is_told_again_is_no_other_end(shared: Running) -> None:
    sent = [Transcribe(language="es"), *said(2.0), AudioStop(), AudioStop(), Ping("last")]
    got = talk(shared.wyoming, sent, ["transcript-stop"])
    told = [one.data["text"] for one in got if one.type == "transcript"]
    assert told == ["2.0 s in es"]


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_full_scale(width: int) -> None:
    low = {1: b"\0"}.get(width, b"\0" * (width - 1) + b"\x80")
    assert Pcm(16_000, width, 1).add(low * 4).tolist() == [-1.0] * 4


def test_one_connection_many_requests(shared: Running) -> None:
    sent = [
        SelectProgram(TIER), *said(1.0), Transcribe(name="whisper", language="en"), *said(1.5),
        Synthesize("one two"), *said(0.05),
    ]  # fmt: skip
    got = talk(shared.wyoming, sent, ["transcript-stop"], 3)
    assert [one.data["text"] for one in got if one.type == "transcript"] == [
        "1.0 s in any", "1.5 s in en", "",
    ]  # fmt: skip
    assert sum(one.type == "audio-stop" for one in got) == 1


def test_an_engine_that_streams_hears_while_one_speaks() -> None:
    with Running(StreamingEars()) as running:
        samples = synthetic_speech(2.0).samples

        async def run() -> str:
            async with AsyncTcpClient("127.0.0.1", running.wyoming, read_timeout=20) as client:
                data = pcm(samples, 2)
                await client.write_event(AudioStart(16_000, 2, 1).event())
                half = AudioChunk(16_000, 2, 1, data[: len(data) // 2])
                await client.write_event(half.event())
                await asyncio.to_thread(until, lambda: running.stt.partials == 1)
                rest = AudioChunk(16_000, 2, 1, data[len(data) // 2 :])
                await client.write_event(rest.event())
                await client.write_event(AudioStop().event())
                while (event := await client.read_event()) is not None:
                    if event.type == "transcript":
                        return str(event.data["text"])
            raise AssertionError

        assert asyncio.run(run()) == "2.0 s in any"
        assert np.abs(running.stt.heard[0].samples - samples).max() < 1e-4


def audio_of(events: list[Event]) -> np.ndarray:
    data = b"".join(one.payload or b"" for one in events if one.type == "audio-chunk")
    return np.frombuffer(data, "<i2") / 32767


def test_speech(shared: Running) -> None:
    voice = SynthesizeVoice(name=TIER)
    got = talk(shared.wyoming, [Synthesize("one two three", voice)], ["audio-stop"])
    assert got[0].type == "audio-start"
    assert got[0].data["rate"] == RATE
    expected = np.concatenate([tone(n) for n in range(3)])
    assert np.abs(audio_of(got) - expected).max() < 1e-4


def test_speech_of_a_text_that_comes_in_pieces() -> None:
    with Running() as running:

        async def run() -> list[str]:
            async with AsyncTcpClient("127.0.0.1", running.wyoming, read_timeout=20) as client:
                await client.write_event(SynthesizeStart().event())
                for text in ("Hola, ", "buenos dí", "as. ¿Qué "):
                    await client.write_event(SynthesizeChunk(text).event())
                # The first sentence is spoken while the second is still being written.
                got = []
                while "audio-chunk" not in got:
                    event = await client.read_event()
                    assert event is not None
                    got.append(event.type)
                await client.write_event(SynthesizeChunk("tal?").event())
                # The whole as well, as Home Assistant sends it: it is not spoken twice.
                await client.write_event(Synthesize("Hola, buenos días. ¿Qué tal?").event())
                await client.write_event(SynthesizeStop().event())
                while got[-1] != "synthesize-stopped":
                    event = await client.read_event()
                    assert event is not None
                    got.append(event.type)
                return got

        kinds = asyncio.run(run())
        assert [kind for kind in kinds if kind != "audio-chunk"] == [
            "audio-start", "audio-stop", "synthesize-stopped",
        ]  # fmt: skip
        assert running.tts.spoken == ["Hola, buenos días.", "¿Qué tal?"]


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ([Transcribe(name="gpt-9")], "serve_model"),
        ([Transcribe(language="¿?")], "serve_language"),
        ([AudioStart(16_000, 2, 0)], "serve_pcm"),
        ([AudioStart(1, 2, 1)], "serve_pcm"),
        ([AudioStart(16_000, 5, 1)], "serve_pcm"),
        ([AudioStart(16_000, 2, 1), AudioChunk(8_000, 2, 1, b"")], "serve_pcm_changed"),
        ([AudioStart(16_000, 2, 1), AudioStart(16_000, 2, 1)], "serve_event"),
        ([Synthesize("<speak/>", text_format="ssml")], "serve_ssml"),
        ([Synthesize("x" * 5000)], "serve_text_long"),
        ([Synthesize(" ")], "serve_text_empty"),
        ([SynthesizeStart(), *[SynthesizeChunk("x" * 1000)] * 5], "serve_text_long"),
        ([Event("synthesize", {"text": 7})], "serve_event"),
        ([Event("synthesize", {"text": "a", "voice": {"name": 7}})], "serve_model"),
        ([Event("audio-start", {"rate": "16000", "width": 2, "channels": 1})], "serve_pcm"),
        ([Event("audio-start", {})], "serve_event"),
        ([Event("transcribe", {"name": ["a"]})], "serve_model"),
    ],
)
def test_what_cannot_be_done_is_told(shared: Running, sent: list[Any], code: str) -> None:
    got = talk(shared.wyoming, sent, ["error"])
    assert error(got) == code
    shared.idle()


def raw(port: int, data: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=20)
    connection.sendall(data)
    return connection


def answer(port: int, data: bytes) -> bytes:
    """Sends bytes; returns what comes until the server closes."""
    connection = raw(port, data)
    got = b""
    while piece := connection.recv(4096):
        got += piece
    connection.close()
    return got


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x00\xff\xfe\n", "serve_event"),
        (b"GET / HTTP/1.1\r\n\r\n", "serve_event"),
        (b"[]\n", "serve_event"),
        (b"7\n", "serve_event"),
        (b"{}\n", "serve_event"),
        (b'{"type": ["a"]}\n', "serve_event"),
        (b'{"type": "ping", "data": 7}\n', "serve_event"),
        (b'{"type": "ping", "data_length": "7"}\n', "serve_event"),
        (b'{"type": "ping", "data_length": 1}\n7', "serve_event"),
        (b'{"type": "ping", "data_length": 3}\n{"a', "serve_event"),
        (b"[" * 20_000 + b"\n", "serve_event"),
        (b'{"type": "ping", "data_length": 1000000000000}\n', "serve_event_large"),
        (b'{"type": "audio-chunk", "payload_length": 1000000000000}\n', "serve_event_large"),
        (b'{"type": "audio-chunk", "payload_length": 2000000}\n' + b"a" * 2_000_000,
         "serve_event_large"),
        (b"a" * 200_000, "serve_event_large"),
    ],
)  # fmt: skip
def test_malformed_and_oversized_events(shared: Running, data: bytes, code: str) -> None:
    lines = answer(shared.wyoming, data).splitlines()
    assert json.loads(lines[0])["type"] == "error"
    assert code.encode() in lines[1]
    assert talk(shared.wyoming, [Ping("still there")])[0].data["text"] == "still there"


def test_what_is_not_known_is_left_out(shared: Running) -> None:
    got = talk(shared.wyoming, [Event("detect", {"names": ["a"]}), AudioStop(), Ping()])
    assert [one.type for one in got] == ["pong"]


def test_what_fails_inside_is_not_told() -> None:
    with Running() as running:
        running.stt.failing = True
        got = talk(running.wyoming, said(1.0), ["error"])
        assert error(got) == "serve_failed"
        assert "secret" not in str(got[-1].data)
        running.stt.failing = False
        assert talk(running.wyoming, said(1.0))[2].data["text"] == "1.0 s in any"


def test_busy_full_and_draining() -> None:
    with Running(limits=Limits(active=1, connections=2)) as running:
        with holding(running.stt.free):
            first = raw(running.wyoming, events(said(1.0)))
            assert running.stt.asked.wait(15)
            assert error(talk(running.wyoming, [Synthesize("a")])) == "server_busy"
            second = raw(running.wyoming, b"")
            until(lambda: error(talk(running.wyoming, [])) == "server_busy")
        got = b""
        while b"1.0 s in any" not in got:
            piece = first.recv(4096)
            assert piece
            got += piece
        first.close()
        second.close()
        assert running.metric("vozmetro_busy_total", surface="wyoming") >= 2
        running.serving.drain()
        until(lambda: error(talk(running.wyoming, [Synthesize("a")])) == "serve_draining")


def test_who_has_not_left_yet_is_let_go_when_the_server_stops() -> None:
    with Running(limits=Limits(connections=2)) as running:
        quiet, failed, refused = (raw(running.wyoming, data) for data in (b"", b"{}\n", b""))
        # The server has told them its error, and waits for them to close.
        for one, code in ((failed, b"serve_event"), (refused, b"server_busy")):
            got = b""
            while piece := one.recv(4096):
                got += piece
            assert code in got
    # A connection that the server left open is an error of this test.
    gc.collect()
    for one in (quiet, failed, refused):
        one.close()


def events(sent: Sequence[Any]) -> bytes:
    data = b""
    for one in sent:
        event = one.event()
        told = json.dumps(event.data).encode()
        head = {"type": event.type, "data_length": len(told)}
        if event.payload:
            head["payload_length"] = len(event.payload)
        data += json.dumps(head).encode() + b"\n" + told + (event.payload or b"")
    return data


def test_those_who_leave_and_those_who_hang() -> None:
    with Running(limits=Limits(idle_s=0.3, write_s=0.3, audio_s=2)) as running:
        # Left in the middle of an answer.
        gone = raw(running.wyoming, events([Synthesize("*")]))
        assert gone.recv(10)
        gone.close()
        assert running.tts.closed.wait(15)
        running.idle()
        # Left in the middle of an utterance.
        half = raw(running.wyoming, events(said(1.0)[:-1]))
        until(lambda: running.serving.active == 1)
        half.close()
        running.idle()
        assert running.metric("vozmetro_requests_total", surface="wyoming", outcome="gone") == 2
        # Says nothing; says nothing more in the middle of an utterance, of an event.
        assert b"serve_idle" in answer(running.wyoming, b"")
        assert b"serve_idle" in answer(running.wyoming, events(said(1.0)[:-1]))
        assert b"serve_idle" in answer(running.wyoming, b'{"type": "ping", "data_le')
        assert error(talk(running.wyoming, said(3.0))) == "serve_audio_long"
        # Does not read.
        running.tts.closed.clear()
        deaf = raw(running.wyoming, events([Synthesize("*")]))
        assert running.tts.closed.wait(15)
        running.idle()
        deaf.close()
        assert talk(running.wyoming, said(1.0))[2].data["text"] == "1.0 s in any"


@given(st.text(st.sampled_from("ab.,?¡ \n…"), max_size=900), st.integers(1, 40))
@example("a" * 700, 7)
def test_sentences_lose_nothing_and_stay_short(text: str, size: int) -> None:
    sentences = Sentences()
    found = [
        one for n in range(0, len(text), size) for one in sentences.add(text[n : n + size])
    ] + sentences.end()
    assert "".join("".join(found).split()) == "".join(text.split())
    assert all(one.strip() == one != "" for one in found)
    assert all(len(one) <= LONGEST for one in found)


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (["Son 3.5 grados. ", "Bien."], ["Son 3.5 grados.", "Bien."]),
        (["¿Qué? ", "¡Sí! «No.» ", "Ya"], ["¿Qué?", "¡Sí!", "«No.»", "Ya"]),
        (["uno\ndos"], ["uno", "dos"]),
        ([], []),
    ],
)
def test_sentences(pieces: list[str], expected: list[str]) -> None:
    sentences = Sentences()
    found = [one for piece in pieces for one in sentences.add(piece)]
    assert found + sentences.end() == expected


@pytest.mark.slow
def test_real_models_behind_both_servers() -> None:
    """What is spoken by the voice over one server is understood over the other."""
    text = "Turn on the light in the kitchen."
    words = ["-m", "vozmetro", "serve", "whisper-base-onnx-int8+piper-joe", "--port", "0"]
    words += ["--wyoming-port", "0", "--language", "en", "--lang", "en"]
    process = subprocess.Popen(
        [sys.executable, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    printed = "".join(iter(process.stdout.readline, "Ctrl-C stops it, after what runs has ended; "
                           "a second one stops it at once.\n"))  # fmt: skip
    base = re.search(r"http://\S+", printed)
    port = re.search(r"tcp://127\.0\.0\.1:(\d+)", printed)
    assert base is not None
    assert port is not None
    client = openai.OpenAI(base_url=base[0], api_key="none")
    spoken = client.audio.speech.create(model="tts-1", voice="alloy", input=text)
    heard = client.audio.transcriptions.create(model="whisper-1", file=("a.mp3", spoken.read()))
    assert heard.text.lower() == text.lower()
    timed = client.audio.transcriptions.create(
        model="whisper-1", file=("a.mp3", spoken.read()), response_format="verbose_json"
    )
    assert timed.text.lower() == text.lower()
    [info] = talk(int(port[1]), [Describe()])
    assert Info.from_event(info).asr[0].models[0].languages == ["en"]
    audio = talk(int(port[1]), [Synthesize(text)], ["audio-stop"])
    sent = [one for one in audio if one.type in ("audio-start", "audio-chunk", "audio-stop")]
    got = talk(int(port[1]), sent)
    told = [one.data["text"] for one in got if one.type == "transcript"]
    # The voice never says it twice alike.
    assert [one.lower() for one in told] == [text.lower()]
    process.send_signal(signal.SIGTERM)
    rest, logged = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "Stopped." in rest
    # The MP3 decoder has words of its own.
    lines = [json.loads(line) for line in logged.splitlines() if "libmpg123" not in line]
    turns = {line["turn"] for line in lines if line["event"] == "stage"}
    assert len(turns) == 5
    assert {line["outcome"] for line in lines if line["event"] == "request"} == {"done"}
