"""A session of the realtime protocol: what a client asks for, done."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vozmetro.audio import SPEECH_RATE
from vozmetro.pipeline import protocols as happened
from vozmetro.pipeline.reply.dialogue import Exchange
from vozmetro.pipeline.tiers import Ask, Tiers
from vozmetro.serve import realtime_events as said
from vozmetro.serve.answering import WishedTiers, Wishes
from vozmetro.serve.line import Line, Talks
from vozmetro.serve.realtime_events import RefusedError
from vozmetro.serve.realtime_floor import Floor, Turn
from vozmetro.serve.realtime_items import exchanges
from vozmetro.serve.realtime_response import Answer, Send, new_id
from vozmetro.serve.realtime_settings import Settings
from vozmetro.serve.sound import Resampler

LEAST_COMMIT_MS = 100
"""Less audio than this cannot be committed, as with OpenAI."""
MOST_CLOSING = 4
"""Conversations of a session that may still be ending when it begins another."""
_HUSH = np.zeros(SPEECH_RATE // 10, np.float32)


class Session:
    """The protocol without its transport. Its methods are called one after the other.

    Args:
        tiers: Who answers.
        talks: Makes conversations.
        settings: To begin with.
        beta: Whether the client speaks the beta of the protocol.
        send: Takes events for the client; does not wait.
        post: Takes the events of conversations, on the loop, to be handed to `happens` in turn.
        limits: Returns the `rate_limits` to tell.
    """

    def __init__(
        self,
        tiers: Tiers,
        talks: Talks,
        settings: Settings,
        *,
        beta: bool,
        send: Send,
        post: Callable[[Line, happened.Event], None],
        limits: Callable[[], list[dict[str, Any]]],
    ) -> None:
        self._tiers, self._talks, self._settings, self._beta = tiers, talks, settings, beta
        self._send, self._post = send, post
        self._wishes = Wishes(aloud=settings.aloud, always=settings.answers)
        self._floor = Floor(
            send=send,
            beta=beta,
            settings=lambda: self._settings,
            wishes=self._wishes,
            heard_ms=lambda: self._heard_ms,
            limits=limits,
        )
        self._resampler = Resampler(settings.heard.rate, SPEECH_RATE)
        self._voice: Line | None = None
        self._typed: Line | None = None
        self._typed_answer: Answer | None = None
        self._heard_ms = self._committed_ms = 0.0
        self._told: dict[str, Any] = {}
        self._closing: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Stops everything."""
        self._drop(self._voice)
        self._drop(self._typed)
        if self._closing:
            await asyncio.gather(*self._closing, return_exceptions=True)

    def greet(self, name: str, expires: int) -> None:
        """Tells the client of its session.

        Args:
            name: Id of the session.
            expires: When it ends, in seconds since 1970.
        """
        self._told = {"id": name, "expires_at": expires}
        self._send({"type": "session.created", "session": self._session()})

    def _session(self) -> dict[str, Any]:
        return {**self._told, **self._settings.told(self._beta)}

    # What the client says

    async def says(self, event: said.Client) -> None:
        """Does what a client asks for.

        Raises:
            RefusedError: It cannot be done.
            VozmetroError: As the pipeline raises it.
        """
        match event:
            case said.SessionUpdate():
                self._update(event)
            case said.Append():
                await self._append(event)
            case said.Commit():
                await self._commit()
            case said.Clear():
                self._forget_audio()
                self._send({"type": "input_audio_buffer.cleared"})
            case said.ResponseCreate():
                await self._respond(event.response)
            case said.ResponseCancel():
                self._cancel(event)
            case _:
                self._item(event)
                self._wishes.past = self._floor.items.past()

    def _update(self, event: said.SessionUpdate) -> None:
        before, self._settings = self._settings, self._settings.changed(event.session)
        now = self._settings
        if (now.endpoint, now.language, now.heard) != (
            before.endpoint, before.language, before.heard,
        ):  # fmt: skip
            self._forget_audio()
        self._wishes.always(now.answers)
        if self._floor.answer is None:
            self._wishes.aloud = now.aloud
        self._send({"type": "session.updated", "session": self._session()})

    def _forget_audio(self) -> None:
        """Begins a new conversation with the next sound."""
        self._floor.forget()
        self._drop(self._voice)
        self._voice = None
        self._resampler = Resampler(self._settings.heard.rate, SPEECH_RATE)
        self._committed_ms = self._heard_ms

    async def _append(self, event: said.Append) -> None:
        form = self._settings.heard
        samples = form.decode(event.decoded(form.width))
        voice = await self._listening()
        voice.talk.feed(self._resampler(samples))
        self._heard_ms += 1000 * len(samples) / form.rate

    async def _commit(self) -> None:
        if self._heard_ms - self._committed_ms < LEAST_COMMIT_MS:
            raise RefusedError("realtime_input_audio_buffer_commit_empty", ms=LEAST_COMMIT_MS)
        voice = await self._listening()
        voice.talk.feed(self._resampler(np.empty(0, np.float32), last=True))
        if not self._settings.endpoint:
            self._floor.committed(self._committed_ms)
        # Else the endpointer, which knows whether there was any speech, will say so.
        self._committed_ms = self._heard_ms
        voice.talk.commit()

    async def _listening(self) -> Line:
        if self._voice is None:
            self._voice = await self._open(
                WishedTiers(self._tiers, self._wishes), self._settings.endpoint
            )
        return self._voice

    async def _open(self, tiers: Tiers, endpoint: bool) -> Line:
        while len(self._closing) >= MOST_CLOSING:
            # Whoever asks and cancels all the time waits for what is still being stopped.
            await asyncio.wait(self._closing, return_when=asyncio.FIRST_COMPLETED)
        ask, language = Ask(tier=self._settings.tier), self._settings.language
        return await Line.open(
            self._talks, tiers, self._post, language=language, ask=ask, endpoint=endpoint
        )

    def _drop(self, line: Line | None) -> None:
        """Ends a conversation; it may be in the middle of something, so nobody waits for it."""
        if line is not None:
            line.talk.cancel()
            task = asyncio.create_task(line.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    def _item(self, event: said.Client) -> None:
        items = self._floor.items
        match event:
            case said.ItemCreate():
                self._put(event)
            case said.ItemDelete():
                items.remove(event.item_id)
                self._send({"type": "conversation.item.deleted", "item_id": event.item_id})
            case said.ItemRetrieve():
                item = items.get(event.item_id)
                self._send({"type": "conversation.item.retrieved", "item": item})
            case said.ItemTruncate():
                items.truncate(event.item_id, event.content_index, event.audio_end_ms)
                self._send(
                    {
                        "type": "conversation.item.truncated", "item_id": event.item_id,
                        "content_index": 0, "audio_end_ms": event.audio_end_ms,
                    }
                )  # fmt: skip

    def _put(self, event: said.ItemCreate) -> None:
        sent = event.item
        kind = "input_text"
        if sent.role == "assistant":
            kind = "text" if self._beta else "output_text"
        item = {
            "id": sent.id or new_id("item"), "object": "realtime.item", "type": "message",
            "status": "completed", "role": sent.role,
            "content": [{"type": kind, "text": part.text} for part in sent.content],
        }  # fmt: skip
        self._floor.put(item, sent.text, event.previous_item_id)

    # Answers

    async def _respond(self, wish: said.Response | None) -> None:
        floor = self._floor
        if floor.answer is not None:
            raise RefusedError(
                "realtime_conversation_already_has_active_response", id=floor.answer.id
            )
        aloud = self._settings.for_response(wish)
        kept = wish is None or wish.conversation != "none"
        metadata = wish.metadata if wish else None
        messages = _messages(wish)
        turn: Turn | None = None
        if messages is None:
            past = floor.items.past()
            turn, text = floor.unanswered()
        else:
            past = exchanges(messages)
            text = next((said for role, said in reversed(messages) if role == "user"), "")
        if turn is None and not text:
            raise RefusedError("realtime_conversation_empty")
        floor.begin(aloud, to=turn, kept=kept, metadata=metadata)
        if turn is None:
            await self._type(text, past)
        else:
            self._wishes.aloud = aloud
            self._wishes.ask()

    async def _type(self, text: str, past: Sequence[Exchange]) -> None:
        """Answers a text, through the pipeline."""
        answer = self._floor.answer
        wishes = Wishes(aloud=answer is None or answer.aloud)
        wishes.past = past
        line = await self._open(WishedTiers(self._tiers, wishes, text), False)
        self._typed, self._typed_answer = line, answer
        # A turn needs some sound to be one.
        line.talk.feed(_HUSH)
        line.talk.commit()

    def _cancel(self, event: said.ResponseCancel) -> None:
        answer = self._floor.answer
        if answer is None or event.response_id not in (None, answer.id):
            raise RefusedError("realtime_response_cancel_not_active")
        if answer is not self._typed_answer and self._voice is not None:
            self._voice.talk.cancel()
        self._floor.stop("client_cancelled")
        self._hang_up()

    def _hang_up(self) -> None:
        """Ends what answers a text, once its answer is not wanted any more."""
        if self._typed is not None and self._floor.answer is not self._typed_answer:
            self._drop(self._typed)
            self._typed = self._typed_answer = None

    async def happens(self, line: Line, event: happened.Event) -> None:
        """Tells what happened in a conversation."""
        if line.closed:
            return
        floor = self._floor
        if line is self._voice:
            late = floor.happens(event)
            if floor.answer is None:
                self._wishes.aloud = self._settings.aloud
                # The next answer may begin before its words have come to this thread.
                self._wishes.past = floor.items.past()
            self._hang_up()
            if late is not None:
                await self._type(late, floor.items.past())
        elif line is self._typed:
            if isinstance(event, happened.TurnEnded):
                floor.ended(event)
                self._hang_up()
            else:
                floor.pieces(event)


def _messages(wish: said.Response | None) -> list[tuple[str, str]] | None:
    """Returns roles and texts of a response's own input; None where it has none."""
    if wish is None or wish.input is None:
        return None
    return [(one.role, one.text) for one in wish.input if isinstance(one, said.Item)]
