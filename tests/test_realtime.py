"""The realtime protocol, spoken by the real `openai` client and by raw ones."""

from __future__ import annotations

import base64
import threading
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from live_helpers import Memory, Room, Voice, speech
from realtime_client import client, openai_client, realtime, spoken, typed

from vozmetro.errors import BusyError, MeasurementError
from vozmetro.serve.growing import Growing
from vozmetro.serve.sound import FORMATS, Resampler

WORDS = "turn on the light"

VOICE_TURN = [
    "session.created",
    "input_audio_buffer.speech_started",
    "input_audio_buffer.speech_stopped",
    "input_audio_buffer.committed",
    "conversation.item.input_audio_transcription.completed",
    "response.created",
    "response.output_item.added",
    "response.content_part.added",
    "{transcript}.delta",
    "{audio}.delta",
    "{audio}.done",
    "{transcript}.done",
    "response.content_part.done",
    "response.output_item.done",
    "response.done",
    "rate_limits.updated",
]


@pytest.mark.parametrize(
    ("version", "names", "item"),
    [
        (
            "ga",
            {"audio": "response.output_audio", "transcript": "response.output_audio_transcript"},
            ["conversation.item.added", "conversation.item.done"],
        ),
        (
            "beta",
            {"audio": "response.audio", "transcript": "response.audio_transcript"},
            ["conversation.item.created"],
        ),
    ],
)
def test_a_spoken_turn_with_the_real_client(
    version: str, names: dict[str, str], item: list[str]
) -> None:
    """Each event comes, in order, once, and is read as a type of the client's own."""
    room = Room()
    with realtime(room) as address:
        api = openai_client(address)
        entry = api.realtime if version == "ga" else api.beta.realtime
        seen: list[Any] = []
        with entry.connect(model="gpt-realtime") as connection:
            data = spoken()
            for start in range(0, len(data), 48_000):
                piece = base64.b64encode(data[start : start + 48_000]).decode()
                connection.input_audio_buffer.append(audio=piece)
            for event in connection:
                seen.append(event)
                if event.type == "rate_limits.updated":
                    break
    kinds = [one.type for one in seen]
    firsts = list(dict.fromkeys(kinds))
    wanted = [one.format(**names) for one in VOICE_TURN]
    assert [one for one in firsts if one in wanted] == wanted
    items = [one for one in firsts if one.startswith("conversation.item.") and "input" not in one]
    assert items == item
    assert not {one for one in kinds if one.startswith("error")}
    for one in seen:
        # Fields that the client's types do not have so, or that lack, would show here; the beta
        # knows no models but OpenAI's.
        plain = one.to_dict()
        plain.get("session", {}).pop("model", None)
        type(one).model_validate(plain)
    transcript = next(one for one in seen if one.type.endswith("transcription.completed"))
    assert transcript.transcript == WORDS
    told = "".join(one.delta for one in seen if one.type == f"{names['transcript']}.delta")
    assert told == f"You said: {WORDS}."
    audio = b"".join(
        base64.b64decode(one.delta) for one in seen if one.type == f"{names['audio']}.delta"
    )
    # Two pieces of text, half a second each; resampled to 24 kHz without a gap.
    assert len(audio) / 2 == pytest.approx(24_000, abs=2)
    done = next(one for one in seen if one.type == "response.done").response
    assert (done.status, len(done.output)) == ("completed", 1)
    assert len(room.told) == 1
    assert {"stt", "reply", "tts_first_audio"} <= set(room.told[0])


def test_typed_words_are_answered_as_text_through_the_same_pipeline() -> None:
    room = Room()
    with realtime(room) as address, openai_client(address).realtime.connect(model="fast") as it:
        it.session.update(session={"type": "realtime", "output_modalities": ["text"]})
        it.conversation.item.create(item=typed("¿Qué hora es?"))
        it.response.create()
        seen = []
        for event in it:
            seen.append(event)
            if event.type == "response.done":
                break
    assert next(one for one in seen if one.type == "response.output_text.done").text == (
        "You said: ¿Qué hora es?."
    )
    assert not [one for one in seen if "audio" in one.type]
    assert room.reply.asked == ["¿Qué hora es?"]
    # Nothing was heard and nothing spoken: it says nothing of the tier's latency.
    assert (room.told, set(room.asked)) == ([], {"fast"})


def test_a_manual_turn_is_transcribed_at_once_and_answered_only_when_asked() -> None:
    room = Room()
    with realtime(room) as address, client(address) as it:
        it.manual()
        it.say(spoken())
        it.send("input_audio_buffer.commit")
        committed = it.until("input_audio_buffer.committed")
        heard = it.until("conversation.item.input_audio_transcription.completed")
        assert (heard["transcript"], heard["item_id"]) == (WORDS, committed["item_id"])
        assert heard["usage"]["seconds"] == pytest.approx(speech().seconds, abs=0.01)
        it.send("conversation.item.retrieve", item_id=heard["item_id"])
        item = it.until("conversation.item.retrieved")["item"]
        assert item["content"][0]["transcript"] == WORDS
        assert room.reply.asked == []
        it.send("response.create", response={"metadata": {"topic": "light"}})
        done = it.until("response.done")["response"]
        assert done["status"] == "completed"
        assert done["metadata"] == {"topic": "light"}
        assert done["output"][0]["content"][0]["transcript"] == f"You said: {WORDS}."
        assert "response.output_audio.delta" in it.kinds()
        assert "input_audio_buffer.speech_started" not in it.kinds()
    assert room.reply.asked == [WORDS]


def test_commit_and_ask_in_one_breath() -> None:
    room = Room()
    with realtime(room) as address, client(address) as it:
        it.manual(output_modalities=["text"])
        for turn in range(2):
            it.say(spoken())
            it.send("input_audio_buffer.commit")
            it.send("response.create")
            done = it.until("response.done")["response"]
            assert done["output"][0]["content"] == [
                {"type": "output_text", "text": f"You said: {WORDS}."}
            ]
            assert len(room.reply.asked) == turn + 1


def test_speech_stops_the_answer() -> None:
    """Barge-in: the answer under way ends as cancelled, and nothing more of it is told."""
    held = threading.Event()
    room = Room(voice=Voice(held=held))
    with realtime(room) as address, client(address) as it:
        it.say(spoken())
        first = it.until("response.output_audio.delta")["response_id"]
        it.say(spoken())
        cancelled = it.until("response.done")["response"]
        held.set()
        assert (cancelled["id"], cancelled["status"]) == (first, "cancelled")
        assert cancelled["status_details"] == {"type": "cancelled", "reason": "turn_detected"}
        assert cancelled["output"][0]["status"] == "incomplete"
        mark = len(it.seen)
        again = it.until("response.done")["response"]
        assert again["status"] == "completed"
        told = [one.get("response_id") for one in it.seen[mark:] if "response_id" in one]
        assert set(told) == {again["id"]}
        it.send(
            "conversation.item.truncate", item_id=cancelled["output"][0]["id"], content_index=0,
            audio_end_ms=20,
        )  # fmt: skip
        assert it.until("conversation.item.truncated")["audio_end_ms"] == 20


def test_the_client_stops_the_answer() -> None:
    held = threading.Event()
    room = Room(voice=Voice(held=held))
    with realtime(room) as address, client(address) as it:
        it.send("conversation.item.create", item=typed("hello"))
        it.send("response.create")
        it.until("response.output_audio.delta")
        it.send("response.create", event_id="too-soon")
        error = it.refused()
        assert error["code"] == "conversation_already_has_active_response"
        assert error["event_id"] == "too-soon"
        it.send("response.cancel")
        done = it.until("response.done")["response"]
        assert done["status_details"] == {"type": "cancelled", "reason": "client_cancelled"}
        held.set()
        it.until("rate_limits.updated")
        it.send("response.cancel")
        assert it.refused()["code"] == "response_cancel_not_active"


def test_the_conversation_keeps_its_items() -> None:
    with realtime(Room()) as address, client(address) as it:
        for name in ("a", "b"):
            it.send("conversation.item.create", item=typed(name, id=name))
        assert it.until("conversation.item.done")["previous_item_id"] is None
        assert it.until("conversation.item.done")["previous_item_id"] == "a"
        it.send("conversation.item.create", item=typed("again", id="b"))
        assert it.refused()["code"] == "item_exists"
        it.send("conversation.item.delete", item_id="a")
        assert it.until("conversation.item.deleted")["item_id"] == "a"
        for kind in ("delete", "retrieve"):
            it.send(f"conversation.item.{kind}", item_id="a")
            assert it.refused()["code"] == "item_not_found"
        it.send("conversation.item.truncate", item_id="b", audio_end_ms=0)
        assert it.refused()["param"] == "item_id"


def test_what_was_said_before_is_what_the_items_say() -> None:
    room = Room(reply=Memory())

    def answer(response: dict[str, Any] | None = None) -> str:
        it.send("response.create", response=response)
        return it.until("response.done")["response"]["output"][0]["content"][0]["text"]

    with realtime(room) as address, client(address) as it:
        it.manual(output_modalities=["text"])
        it.send("conversation.item.create", item=typed("one", id="a"))
        assert answer() == "nothing"
        it.send("conversation.item.create", item=typed("two"))
        assert answer() == "one > nothing"
        # By voice, in the same conversation.
        it.say(spoken())
        it.send("input_audio_buffer.commit")
        assert answer() == "one > nothing | two > one > nothing"
        it.send("conversation.item.delete", item_id="a")
        it.send("conversation.item.create", item=typed("three"))
        assert answer().startswith("two > one > nothing | ")
        given = [typed("x"), typed("y", role="assistant"), typed("z")]
        given[1]["content"][0]["type"] = "output_text"
        assert answer({"conversation": "none", "input": given}) == "x > y"
        assert room.reply.asked == []


@pytest.mark.parametrize("law", ["audio/pcmu", "audio/pcma"])
def test_the_telephones_formats(law: str) -> None:
    form = next(one for one in FORMATS if one.name == law)
    said = speech()
    room = Room()
    with realtime(room) as address, client(address) as it:
        audio = {"input": {"format": {"type": law}}, "output": {"format": {"type": law}}}
        it.send("session.update", session={"type": "realtime", "audio": audio})
        told = it.until("session.updated")["session"]["audio"]
        assert (told["input"]["format"]["type"], told["output"]["format"]["type"]) == (law, law)
        it.say(form.encode(Resampler(said.rate, 8_000)(said.samples, last=True)), 16_000)
        it.until("response.done")
        sent = b"".join(
            base64.b64decode(one["delta"])
            for one in it.seen
            if one["type"] == "response.output_audio.delta"
        )
    assert len(sent) == pytest.approx(8_000, abs=2)
    assert np.abs(form.decode(sent)).max() > 0.05


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.beta)
def test_formats_there_and_back(form: Any) -> None:
    samples = np.sin(np.arange(4_000) / 20).astype(np.float32) * np.float32(0.9)
    back = form.decode(form.encode(samples))
    # G.711 keeps about 13 bits near zero and 1/32 of the value at the top.
    assert np.abs(back - samples).max() < (0.03 if form.width == 1 else 1e-4)
    assert np.abs(form.decode(form.encode(np.float32([2, -2])))).max() <= 1


def test_a_failing_turn_says_why() -> None:
    room = Room(failure=BusyError("server_busy"))
    with realtime(room) as address, client(address) as it:
        it.say(spoken())
        assert it.refused()["code"] == "server_busy"
        it.send("conversation.item.create", item=typed("hello"))
        it.send("response.create")
        done = it.until("response.done")["response"]
        assert done["status"] == "failed"
        assert done["status_details"]["error"]["code"] == "server_busy"
        it.manual()
        it.say(spoken())
        # Once, although every sound fails; and what cannot be heard cannot be committed.
        assert it.refused()["code"] == "server_busy"
        it.send("input_audio_buffer.commit", event_id="mine")
        error = it.refused()
        assert (error["code"], error["event_id"]) == ("not_heard", "mine")
        assert "server_busy" in error["message"]
        room.failure = None
        it.say(spoken())
        it.send("input_audio_buffer.commit")
        it.send("response.create")
        assert it.until("response.done")["response"]["status"] == "completed"


def test_a_failure_of_the_engine_ends_its_turn_alone() -> None:
    room = Room()
    room.ears.failure = MeasurementError("worker_died", detail="x")
    with realtime(room) as address, client(address) as it:
        it.say(spoken())
        it.until_error("worker_died")
        room.ears.failure = None
        it.send("input_audio_buffer.clear")
        # The rest of what was said may have been another turn, and have failed as well.
        it.until("input_audio_buffer.cleared", errors=True)
        it.say(spoken())
        assert it.until("response.done")["response"]["status"] == "completed"


def test_eight_at_once_get_their_own_answers() -> None:
    room = Room(voice=Voice(pieces=1))
    with realtime(room) as address, ExitStack() as stack:
        clients = [stack.enter_context(client(address)) for _ in range(8)]
        for turn in range(3):
            for number, it in enumerate(clients):
                it.send("conversation.item.create", item=typed(f"{number}-{turn}"))
                it.send("response.create")
            for number, it in enumerate(clients):
                done = it.until("response.done")["response"]
                said = done["output"][0]["content"][0]["transcript"]
                assert (done["status"], said) == ("completed", f"You said: {number}-{turn}.")


@given(st.lists(st.lists(st.sampled_from("ab"), max_size=6), max_size=6))
def test_growing_words_are_told_once_and_never_taken_back(guesses: list[list[str]]) -> None:
    growing = Growing()
    told = "".join(growing.guess(" ".join(words)) for words in guesses[:-1])
    final = guesses[-1] if guesses else []
    told += growing.known(" ".join(final))
    # Either the pieces add up to the final words, or a wrong guess was told and nothing followed.
    whole = " ".join(final)
    early = told.split()
    agreed = [words[: len(early)] for words in guesses]
    assert told == whole or agreed.count(early) >= 2
