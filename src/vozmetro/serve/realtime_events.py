"""What a client of the realtime protocol may say: checked, bounded, in the words of both versions.

The fields are those of OpenAI's published types; what the pipeline cannot do is refused by name,
and what has no effect here (temperature, voices, tracing) is let pass.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from vozmetro.errors import InputError, VozmetroError

PREFIX = "realtime_"
"""Of the codes of this protocol among those of vozmetro."""
MOST_MESSAGE = 2 << 20
"""Bytes of one message: more than half a minute of audio as base64."""
MOST_TEXT = 8_000
"""Characters of a typed message."""
MOST_ITEMS = 400
"""Items that a conversation keeps; the oldest go."""

Modality = Literal["text", "audio"]
Id = Annotated[str, Field(min_length=1, max_length=64)]


class RefusedError(InputError):
    """An event that is answered with an `error` event.

    Args:
        code: Of the sentence; clients are told it without `realtime_`, as OpenAI names it.
        param: What of the event is wrong, as a path.
        event_id: What the client called the event.
        **fields: Of the sentence.
    """

    def __init__(
        self, code: str, param: str | None = None, event_id: str | None = None, **fields: object
    ) -> None:
        super().__init__(code, **fields)
        self.param, self.event_id = param, event_id

    def event(self) -> dict[str, Any]:
        """Returns the `error` event, without an id of its own."""
        return error_event(self, "invalid_request_error", self.param, self.event_id)


def error_event(
    error: VozmetroError, kind: str, param: str | None = None, event_id: str | None = None
) -> dict[str, Any]:
    """Returns the `error` event for what went wrong, without an id of its own."""
    detail = {
        "type": kind, "code": error.code.removeprefix(PREFIX), "message": str(error),
        "param": param, "event_id": event_id,
    }  # fmt: skip
    return {"type": "error", "error": detail}


class _Model(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Detection(_Model):
    """Who says that the user has finished: this server, whose endpointer is its own."""

    type: Literal["server_vad", "semantic_vad"] = "server_vad"
    create_response: bool | None = None
    interrupt_response: bool | None = None


class Transcription(_Model):
    """Of what the user says; its model is the tier's."""

    language: Annotated[str, Field(max_length=16)] | None = None


class AudioFormat(_Model):
    """Of input or output, now."""

    type: Literal["audio/pcm", "audio/pcmu", "audio/pcma"] = "audio/pcm"
    rate: int | None = None


BetaFormat = Literal["pcm16", "g711_ulaw", "g711_alaw"]


class AudioInput(_Model):
    """What comes in, now."""

    format: AudioFormat | None = None
    transcription: Transcription | None = None
    turn_detection: Detection | None = None


class AudioOutput(_Model):
    """What goes out, now."""

    format: AudioFormat | None = None
    voice: Any = None


class Audio(_Model):
    """Both ways, now."""

    input: AudioInput | None = None
    output: AudioOutput | None = None


class Session(_Model):
    """A change of the session: the fields of now and those of the beta."""

    type: Literal["realtime"] | None = None
    output_modalities: Annotated[list[Modality], Field(min_length=1, max_length=2)] | None = None
    modalities: Annotated[list[Modality], Field(min_length=1, max_length=2)] | None = None
    instructions: Annotated[str, Field(max_length=32_000)] | None = None
    audio: Audio | None = None
    input_audio_format: BetaFormat | None = None
    output_audio_format: BetaFormat | None = None
    input_audio_transcription: Transcription | None = None
    turn_detection: Detection | None = None
    voice: Any = None
    tools: list[Any] | None = None


class Content(_Model):
    """A part of a message."""

    type: Literal["input_text", "text", "output_text"]
    text: Annotated[str, Field(max_length=MOST_TEXT)]


class Item(_Model):
    """A message in the conversation; nothing else can be put into it."""

    id: Id | None = None
    type: Literal["message"]
    role: Literal["user", "assistant", "system"]
    content: Annotated[list[Content], Field(min_length=1, max_length=16)]

    @property
    def text(self) -> str:
        """All that it says."""
        return " ".join(part.text for part in self.content)


class Reference(_Model):
    """An item by its id, in the input of a response."""

    type: Literal["item_reference"]
    id: Id


class Response(_Model):
    """What is asked of a response: the fields of now and those of the beta."""

    output_modalities: Annotated[list[Modality], Field(min_length=1, max_length=2)] | None = None
    modalities: Annotated[list[Modality], Field(min_length=1, max_length=2)] | None = None
    input: (
        Annotated[
            list[Annotated[Item | Reference, Field(discriminator="type")]], Field(max_length=64)
        ]
        | None
    ) = None
    conversation: Annotated[str, Field(max_length=64)] | None = None
    metadata: (
        Annotated[
            dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]],
            Field(max_length=16),
        ]
        | None
    ) = None
    tools: list[Any] | None = None


class _Event(_Model):
    event_id: Annotated[str, Field(max_length=512)] | None = None


class SessionUpdate(_Event):
    """Changes the session."""

    type: Literal["session.update"]
    session: Session


class Append(_Event):
    """More audio of the user, in base64."""

    type: Literal["input_audio_buffer.append"]
    audio: str

    def decoded(self, width: int) -> bytes:
        """Returns the bytes: whole samples of `width` bytes.

        Raises:
            RefusedError: It is no base64, or not whole samples.
        """
        try:
            data = base64.b64decode(self.audio, validate=True)
        except (binascii.Error, ValueError) as error:
            raise RefusedError("realtime_invalid_base64", "audio") from error
        if len(data) % width:
            raise RefusedError("realtime_invalid_audio", "audio", width=width)
        return data


class Commit(_Event):
    """The user has finished."""

    type: Literal["input_audio_buffer.commit"]


class Clear(_Event):
    """Forgets the audio that was not committed."""

    type: Literal["input_audio_buffer.clear"]


class ItemCreate(_Event):
    """Puts a message into the conversation."""

    type: Literal["conversation.item.create"]
    item: Item
    previous_item_id: Id | None = None


class ItemDelete(_Event):
    """Takes a message out of the conversation."""

    type: Literal["conversation.item.delete"]
    item_id: Id


class ItemRetrieve(_Event):
    """Asks for a message."""

    type: Literal["conversation.item.retrieve"]
    item_id: Id


class ItemTruncate(_Event):
    """Says how much of an answer was heard."""

    type: Literal["conversation.item.truncate"]
    item_id: Id
    content_index: int = 0
    audio_end_ms: Annotated[int, Field(ge=0)]


class ResponseCreate(_Event):
    """Asks for an answer."""

    type: Literal["response.create"]
    response: Response | None = None


class ResponseCancel(_Event):
    """Stops the answer."""

    type: Literal["response.cancel"]
    response_id: Id | None = None


Client = (
    SessionUpdate | Append | Commit | Clear | ItemCreate | ItemDelete | ItemRetrieve
    | ItemTruncate | ResponseCreate | ResponseCancel
)  # fmt: skip
_CLIENT: TypeAdapter[Client] = TypeAdapter(Annotated[Client, Field(discriminator="type")])


def parse(text: str) -> Client:
    """Returns a client's event.

    Raises:
        RefusedError: It is none, with what is wrong with it.
    """
    if len(text) > MOST_MESSAGE:
        raise RefusedError("realtime_message_too_large", limit=MOST_MESSAGE)
    try:
        sent = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RefusedError("realtime_invalid_json") from error
    if not isinstance(sent, dict):
        raise RefusedError("realtime_invalid_json")
    name = sent.get("event_id")
    name = name[:512] if isinstance(name, str) else None
    try:
        return _CLIENT.validate_python(sent)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        # The union puts the event's type before the path.
        path = ".".join(str(part) for part in first["loc"][1:] if part not in ("message",))
        if first["type"].startswith("union_tag") and not path:
            raise RefusedError("realtime_unknown_event", "type", name) from error
        detail = str(first["msg"])[:300]
        raise RefusedError("realtime_invalid_value", path or None, name, detail=detail) from error
    except RecursionError as error:
        raise RefusedError("realtime_invalid_json", event_id=name) from error
