"""An answer as the realtime protocol tells it: created, item, part, pieces, done."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from vozmetro.audio import Samples
from vozmetro.serve.realtime_settings import Settings, modalities
from vozmetro.serve.sound import Resampler

Send = Callable[[dict[str, Any]], None]

_BETA = {
    "response.output_audio.delta": "response.audio.delta",
    "response.output_audio.done": "response.audio.done",
    "response.output_audio_transcript.delta": "response.audio_transcript.delta",
    "response.output_audio_transcript.done": "response.audio_transcript.done",
    "response.output_text.delta": "response.text.delta",
    "response.output_text.done": "response.text.done",
}
_DELTA_SECONDS = 0.4
"""Audio in one event: a slow reader, or one who interrupts, waits for one event at most."""


def new_id(kind: str) -> str:
    """Returns an id as OpenAI's look: `item_` and 24 characters that nobody can guess."""
    return f"{kind}_{uuid4().hex[:24]}"


class Answer:
    """One response, on its way.

    Args:
        send: Where events go.
        beta: Whether they are named as in the beta.
        settings: Of the session.
        aloud: Whether it is spoken.
        conversation: Id of the conversation that it belongs to; None for one of its own.
        metadata: What the client attached to it.

    Attributes:
        id: Of the response.
        item: Id of the message that it becomes.
        text: What it has said so far.
        audio_ms: Length of the audio that was sent.
        begun: Something of it was told.
        done: Nothing follows.
    """

    def __init__(
        self,
        send: Send,
        beta: bool,
        settings: Settings,
        *,
        aloud: bool,
        conversation: str | None,
        metadata: dict[str, str] | None = None,
    ) -> None:
        self.id, self.item = new_id("resp"), new_id("item")
        self.aloud, self.text, self.audio_ms, self.done = aloud, "", 0.0, False
        self._send, self._beta, self._settings = send, beta, settings
        self._conversation, self._metadata = conversation, metadata
        self.begun = False
        self._resampler: tuple[int, Resampler] | None = None
        send({"type": "response.created", "response": self._told("in_progress")})

    def say(self, text: str, previous: str | None) -> None:
        """Tells a piece of what is answered."""
        self._begin(previous)
        self.text += text
        kind = "output_audio_transcript" if self.aloud else "output_text"
        self._part(f"response.{kind}.delta", delta=text)

    def play(self, samples: Samples, rate: int, previous: str | None) -> None:
        """Tells a piece of how it sounds, float32 [T] at `rate` Hz."""
        self._begin(previous)
        if self._resampler is None or self._resampler[0] != rate:
            self._flush()
            self._resampler = (rate, Resampler(rate, self._settings.spoken.rate))
        self._audio(self._resampler[1](samples))

    def finish(self, status: str = "completed", reason: str = "", failure: str = "") -> None:
        """Ends it: `completed`, `cancelled` for a reason, or `failed` with an error's code."""
        if self.done:
            return
        self.done = True
        if status == "completed":
            self._flush()
        if self.begun:
            self._close(status)
        details: dict[str, Any] | None = None
        if reason:
            details = {"type": status, "reason": reason}
        elif failure:
            details = {"type": status, "error": {"type": "server_error", "code": failure}}
        self._send({"type": "response.done", "response": self._told(status, details)})

    def message(self, status: str) -> dict[str, Any]:
        """Returns the message that it becomes."""
        content = [self._content()] if status != "in_progress" else []
        return {
            "id": self.item, "object": "realtime.item", "type": "message", "status": status,
            "role": "assistant", "content": content,
        }  # fmt: skip

    def _begin(self, previous: str | None) -> None:
        if self.begun:
            return
        self.begun = True
        item = self.message("in_progress")
        self._tell("response.output_item.added", item=item)
        if self._conversation:
            name = "created" if self._beta else "added"
            self._send(
                {"type": f"conversation.item.{name}", "previous_item_id": previous, "item": item}
            )
        part = {"type": "audio", "transcript": ""} if self.aloud else {"type": "text", "text": ""}
        self._part("response.content_part.added", part=part)

    def _close(self, status: str) -> None:
        if self.aloud:
            self._part("response.output_audio.done")
            self._part("response.output_audio_transcript.done", transcript=self.text)
            part = {"type": "audio", "transcript": self.text}
        else:
            self._part("response.output_text.done", text=self.text)
            part = {"type": "text", "text": self.text}
        self._part("response.content_part.done", part=part)
        item = self.message("completed" if status == "completed" else "incomplete")
        self._tell("response.output_item.done", item=item)
        if self._conversation and not self._beta:
            self._send({"type": "conversation.item.done", "item": item})

    def _content(self) -> dict[str, str]:
        prefix = "" if self._beta else "output_"
        if self.aloud:
            return {"type": f"{prefix}audio", "transcript": self.text}
        return {"type": f"{prefix}text", "text": self.text}

    def _flush(self) -> None:
        if self._resampler is not None:
            import numpy as np

            self._audio(self._resampler[1](np.empty(0, np.float32), last=True))

    def _audio(self, samples: Samples) -> None:
        form = self._settings.spoken
        step = int(form.rate * _DELTA_SECONDS)
        for start in range(0, len(samples), step):
            piece = samples[start : start + step]
            self.audio_ms += 1000 * len(piece) / form.rate
            coded = base64.b64encode(form.encode(piece)).decode()
            self._part("response.output_audio.delta", delta=coded)

    def _part(self, name: str, **fields: object) -> None:
        self._tell(name, item_id=self.item, content_index=0, **fields)

    def _tell(self, name: str, **fields: object) -> None:
        name = _BETA.get(name, name) if self._beta else name
        self._send({"type": name, "response_id": self.id, "output_index": 0, **fields})

    def _told(self, status: str, details: dict[str, Any] | None = None) -> dict[str, Any]:
        over = status != "in_progress"
        output = []
        if over and self.begun:
            output = [self.message("completed" if status == "completed" else "incomplete")]
        told: dict[str, Any] = {
            "object": "realtime.response", "id": self.id, "status": status,
            "status_details": details, "output": output, "conversation_id": self._conversation,
            "metadata": self._metadata, "max_output_tokens": "inf",
        }  # fmt: skip
        told["usage"] = _NO_TOKENS if over else None
        form = self._settings.spoken
        if self._beta:
            told["modalities"] = modalities(self.aloud, True)
            told["output_audio_format"] = form.beta
            told["voice"] = self._settings.voice
        else:
            told["output_modalities"] = modalities(self.aloud, False)
            told["audio"] = {"output": {"format": {"type": form.name}, "voice": None}}
        return told


_NO_TOKENS = {
    "total_tokens": 0, "input_tokens": 0, "output_tokens": 0,
    "input_token_details": {"text_tokens": 0, "audio_tokens": 0, "cached_tokens": 0},
    "output_token_details": {"text_tokens": 0, "audio_tokens": 0},
}  # fmt: skip
"""Nobody pays by the token here."""
