"""Several users talk to `vozmetro serve` at once: who waits how long, is anything lost or mixed?

    python benchmarks/load.py [--clients 8] [--minutes 3] [--corpus en-ivr] [--language en]
                              [--subject whisper-base-onnx-int8+piper-joe-onnx] [--verify 30]

Starts the server as a user does, and speaks to its realtime protocol at the pace of speech, 20 ms a
message. One user alone says every utterance first; what was then heard, and how long the answer
was, is what the others are held against:

- lost: an utterance with no transcript, or an answer with no audio or with words and no audio;
- mixed: a transcript that is nearer to what somebody else says than to the user's own words, an
  answer whose words are not its transcript, or one whose length is not that of its words;
- of some answers (`--verify`) the audio is transcribed and held against the words.

Prints P50, P90 and P99 of the post-endpoint latency (`speech_stopped` to the first audio) and of
voice to voice (end of speech, as the recording has it, to the first audio), both as the client sees
them, what was refused as busy, and the slope of the server's memory after its first fifth, with a
95 % interval. Exit code 1 where something was lost, mixed, or ended in another error than busy.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import difflib
import json
import random
import re
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import psutil
import soxr
from scipy import stats
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from vozmetro import audio
from vozmetro.audio import SPEECH_RATE, Waveform
from vozmetro.engines import registry
from vozmetro.engines.base import LoadRequest
from vozmetro.measure.subject import resolve_subject
from vozmetro.speech.corpus import load_corpus
from vozmetro.speech.ends import speech_end

RATE = 24_000
FRAME_S = 0.02
PATIENCE_S, TURN_S = 4.0, 60.0
"""Seconds of quiet that follow an utterance until it counts as not heard; and for its answer."""
BUSY = {"server_busy", "serve_draining", "busy", "tier_busy", "gate_busy", "audio_behind"}
ROOM = 10 ** (-70 / 20)
LENGTH = 0.4
"""Share by which the answer's length may differ: a voice never says it twice alike."""


@dataclass(frozen=True)
class Utterance:
    """Something to say.

    Attributes:
        name: Id in the corpus.
        pcm: 16-bit at 24 kHz.
        end_s: Where the speech ends.
    """

    name: str
    pcm: bytes
    end_s: float


@dataclass
class Turn:
    """What came of it."""

    said: Utterance
    texts: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    audio: bytearray = field(default_factory=bytearray)
    errors: list[str] = field(default_factory=list)
    stopped_s: float = 0.0
    first_s: float = 0.0
    end_s: float = 0.0
    done: bool = False
    busy: bool = False

    @property
    def text(self) -> str:
        """All words that were heard."""
        return " ".join(self.texts)

    @property
    def seconds(self) -> float:
        """Length of the answer."""
        return len(self.audio) / 2 / RATE


def prepared(corpus: str, limit: int) -> list[Utterance]:
    """Returns utterances of 1.5 to 6 s, spread over the corpus."""
    found = [one for name in corpus.split(",") for one in load_corpus(name)
             if 1.5 <= one.seconds <= 6]  # fmt: skip
    places = np.linspace(0, len(found) - 1, min(limit, len(found))).round().astype(int)
    ready = []
    for place in dict.fromkeys(places.tolist()):
        wave = audio.read(found[place].path)
        samples = soxr.resample(wave.samples, SPEECH_RATE, RATE, quality="HQ")
        data = (np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()
        ready.append(Utterance(found[place].id, data, speech_end(wave)))
    return ready


class User:
    """One connection, and one utterance after another."""

    def __init__(self, socket: Any, seed: int) -> None:
        self._socket = socket
        self._quiet = np.random.default_rng(seed)
        self._turn: Turn | None = None
        self._reader = asyncio.create_task(self._read())

    async def say(self, said: Utterance) -> Turn:
        """Speaks, waits for the answer, and returns what came."""
        self._turn = turn = Turn(said)
        size = 2 * round(FRAME_S * RATE)
        begin = time.perf_counter()
        turn.end_s = begin + said.end_s
        at, last = 0, len(said.pcm) / 2 / RATE + PATIENCE_S
        while not turn.done and not self._reader.done():
            frame = said.pcm[at : at + size] if at < len(said.pcm) else self._room(size // 2)
            at += size
            due = begin + at / 2 / RATE
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            piece = base64.b64encode(frame).decode()
            await self._send("input_audio_buffer.append", audio=piece)
            waited = time.perf_counter() - begin
            if waited > (last + TURN_S if turn.stopped_s else last):
                break
        return turn

    def _room(self, samples: int) -> bytes:
        noise = self._quiet.standard_normal(samples) * ROOM * 32767
        return noise.round().astype("<i2").tobytes()

    async def _send(self, kind: str, **fields: Any) -> None:
        await self._socket.send(json.dumps({"type": kind, **fields}))

    async def _read(self) -> None:
        async for message in self._socket:
            event, turn = json.loads(message), self._turn
            if turn is not None:
                self._take(event, turn)

    def _take(self, event: dict[str, Any], turn: Turn) -> None:
        now = time.perf_counter()
        match event["type"]:
            case "input_audio_buffer.speech_stopped":
                turn.stopped_s = turn.stopped_s or now
            case "conversation.item.input_audio_transcription.completed":
                turn.texts.append(event["transcript"])
                if not event["transcript"].strip():
                    turn.done = True
            case "response.output_audio.delta":
                turn.first_s = turn.first_s or now
                turn.audio += base64.b64decode(event["delta"])
            case "response.output_audio_transcript.done":
                turn.answers.append(event["transcript"])
            case "response.done":
                status = event["response"]["status"]
                if status == "failed":
                    error = event["response"]["status_details"]["error"]
                    turn.errors.append(str(error.get("code")))
                # Who is cut off goes on, and is answered again.
                turn.done = status != "cancelled"
            case "error" | "conversation.item.input_audio_transcription.failed":
                turn.errors.append(str(event["error"].get("code")))
                turn.done = True
        turn.busy = any(code in BUSY for code in turn.errors)

    def end(self) -> None:
        """Reads no more."""
        self._reader.cancel()


class Server:
    """`vozmetro serve`, as a user starts it."""

    def __init__(self, subject: str, language: str, threads: int | None) -> None:
        words = [sys.executable, "-m", "vozmetro", "serve", subject, "--port", "0", "--no-wyoming",
                 "--language", language, "--lang", "en"]  # fmt: skip
        words += ["--threads", str(threads)] if threads else []
        # Its log is a line a stage.
        self.process = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if found := re.search(r"http://(\S+?)/v1", line):
                self.address = found[1]
                break
        else:
            raise SystemExit("the server did not start")

    def rss(self) -> int:
        """Bytes of memory."""
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def stop(self) -> None:
        """Ends it as a service manager does."""
        self.process.terminate()
        self.process.wait(60)


async def user(
    address: str, queue: list[Utterance], turns: list[Turn], until_s: float, seed: int
) -> int:
    """Talks until the time is up; returns how often it was turned away."""
    away, order = 0, random.Random(seed)
    while time.perf_counter() < until_s:
        try:
            async with connect(f"ws://{address}/v1/realtime", max_size=None) as socket:
                one = User(socket, seed)
                await asyncio.sleep(order.random() * 2)
                while time.perf_counter() < until_s:
                    turn = await one.say(queue[order.randrange(len(queue))])
                    turns.append(turn)
                    if turn.errors and not turn.busy:
                        break
                    await asyncio.sleep(order.random())
                one.end()
        except InvalidStatus as error:
            if error.response.status_code not in (429, 503):
                raise
            away += 1
            await asyncio.sleep(1 + order.random())
    return away


async def alone(address: str, said: list[Utterance]) -> list[Turn]:
    """One user says everything, once."""
    async with connect(f"ws://{address}/v1/realtime", max_size=None) as socket:
        one = User(socket, 0)
        found = [await one.say(utterance) for utterance in said]
        one.end()
        return found


async def crowd(
    server: Server, options: argparse.Namespace, queue: list[Utterance]
) -> tuple[list[Turn], list[tuple[float, int]], int]:
    """All users at once; returns their turns, the memory over time, and who was turned away."""
    turns: list[Turn] = []
    begin = time.perf_counter()
    until = begin + 60 * options.minutes
    memory: list[tuple[float, int]] = []

    async def watch() -> None:
        while True:
            memory.append((time.perf_counter() - begin, server.rss()))
            await asyncio.sleep(2)

    watching = asyncio.create_task(watch())
    users = (user(server.address, queue, turns, until, number + 1)
             for number in range(options.clients))  # fmt: skip
    away = sum(await asyncio.gather(*users))
    watching.cancel()
    return turns, memory, away


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def alike(one: str, other: str) -> float:
    """Share of words in common, in their order."""
    return difflib.SequenceMatcher(None, words(one), words(other)).ratio()


def faults(turns: list[Turn], known: dict[str, Turn]) -> Counter[str]:
    """What was lost or mixed, by kind."""
    found: Counter[str] = Counter()
    for turn in turns:
        if turn.busy:
            continue
        found.update(turn.errors)
        own = known[turn.said.name]
        mine = alike(turn.text, own.text)
        nearest = max((one for one in known.values() if one is not own),
                      key=lambda one: alike(turn.text, one.text))  # fmt: skip
        if not turn.text:
            found["lost: no transcript"] += 1
        elif mine < 0.5 and alike(turn.text, nearest.text) > mine:
            found["mixed: another's words"] += 1
        if turn.text and not turn.audio:
            found["lost: no audio"] += 1
        if any(one.strip() not in turn.texts for one in turn.answers):
            found["mixed: answer to other words"] += 1
        same = turn.text == own.text and len(turn.texts) == 1
        if same and abs(turn.seconds - own.seconds) > LENGTH * own.seconds + 0.2:
            found["mixed: another's length"] += 1
    return found


def heard_back(turns: list[Turn], count: int, subject: str, language: str) -> Counter[str]:
    """Transcribes some answers, and holds them against their words."""
    part = resolve_subject(subject).models[0]
    engine = registry.find(part.engine)
    registry.import_modules(engine)
    listener: Any = engine.load(LoadRequest(part.path, 2, {**engine.defaults, **part.options}))
    fit = [one for one in turns if len(one.texts) == 1 and len(words(one.text)) >= 3 and one.audio]
    random.Random(0).shuffle(fit)
    found: Counter[str] = Counter()
    for turn in fit[:count]:
        spoken = np.frombuffer(bytes(turn.audio), "<i2").astype(np.float32) / 32768
        wave = Waveform(soxr.resample(spoken, RATE, SPEECH_RATE), SPEECH_RATE)
        text = listener.transcribe(wave, language)
        found["as said" if alike(text, turn.text) >= 0.5 else "otherwise"] += 1
        if alike(text, turn.text) < 0.5:
            print(f"  said {turn.text!r}, heard back {text!r}")
    return found


def spread(name: str, seconds: list[float]) -> None:
    p50, p90, p99 = np.quantile(np.array(seconds) * 1e3, [0.5, 0.9, 0.99])
    print(f"{name:16} P50 {p50:6.0f}  P90 {p90:6.0f}  P99 {p99:6.0f} ms  ({len(seconds)} turns)")


def latencies(turns: list[Turn]) -> None:
    """Prints both clocks, of turns that were not cut off."""
    whole = [one for one in turns if one.first_s and one.stopped_s >= one.end_s]
    cut = sum(0 < one.stopped_s < one.end_s for one in turns)
    spread("post-endpoint", [one.first_s - one.stopped_s for one in whole])
    spread("voice to voice", [one.first_s - one.end_s for one in whole])
    print(f"cut off: {cut} of {len(turns)}")


def slope(memory: list[tuple[float, int]]) -> None:
    """Prints the growth of the server's memory."""
    times, sizes = np.array(memory, float).T
    late = times >= times[-1] / 5
    fit = stats.theilslopes(sizes[late] / 1e6, times[late] / 3600)
    print(f"RAM {sizes[0] / 1e6:.0f} MB at first, {sizes.max() / 1e6:.0f} at most, "
          f"{sizes[-1] / 1e6:.0f} at last; slope {fit[0]:+.1f} MB an hour "
          f"[{fit[2]:+.1f}, {fit[3]:+.1f}] over {times[late][-1] / 60 - times[late][0] / 60:.0f}"
          " min")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--corpus", default="en-ivr")
    parser.add_argument("--language", default="en")
    parser.add_argument("--limit", type=int, default=20, help="different utterances")
    parser.add_argument("--subject", default="whisper-base-onnx-int8+piper-joe-onnx")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--verify", type=int, default=30, help="answers to transcribe")
    options = parser.parse_args()
    queue = prepared(options.corpus, options.limit)
    server = Server(options.subject, options.language, options.threads)
    try:
        first = asyncio.run(alone(server.address, queue))
        print(f"one user, {len(first)} utterances")
        latencies(first)
        known = {one.said.name: one for one in first if one.text and one.audio}
        turns, memory, away = asyncio.run(
            crowd(server, options, [one.said for one in known.values()])
        )
    finally:
        server.stop()
    print(f"{options.clients} users, {options.minutes:g} min, {len(turns)} turns")
    latencies(turns)
    busy = Counter(code for one in turns if one.busy for code in one.errors)
    print(f"busy: {sum(one.busy for one in turns)} turns {dict(busy) or ''}, "
          f"{away} connections")  # fmt: skip
    slope(memory)
    wrong = faults(turns, known)
    back = heard_back(turns, options.verify, options.subject, options.language)
    print(f"answers transcribed: {dict(back)}")
    print(f"lost or mixed: {dict(wrong) or 'none'}; server ended with {server.process.returncode}")
    raise SystemExit(1 if wrong or server.process.returncode else 0)


if __name__ == "__main__":
    main()
