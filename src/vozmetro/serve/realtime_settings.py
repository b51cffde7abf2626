"""What holds in a realtime session, and how it is told to the client."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from vozmetro.serve.realtime_events import RefusedError, Response, Session
from vozmetro.serve.sound import FORMATS, PCM, Format

_LANGUAGE = re.compile(r"([A-Za-z]{2})(?:[-_][A-Za-z0-9]{1,8})*")


@dataclass(frozen=True)
class Settings:
    """A session.

    Attributes:
        model: Name of the tier that answers, or of the default one.
        tier: The same where the client asked for it; empty to let the rules choose.
        aloud: Whether answers are spoken, or text only.
        heard: Format of the user's audio.
        spoken: Format of the answers' audio.
        endpoint: Whether this server says when the user has finished.
        answers: Whether it then answers without being asked to.
        transcribes: Whether the client is told what the user said.
        language: ISO 639-1 of what the user says, empty for the tier's own.
        instructions: As the client gave them; who answers is configured in this server.
        voice: As the client gave it; the voice is the tier's.
    """

    model: str
    tier: str = ""
    aloud: bool = True
    heard: Format = PCM
    spoken: Format = PCM
    endpoint: bool = True
    answers: bool = True
    transcribes: bool = True
    language: str = ""
    instructions: str = ""
    voice: Any = None

    def changed(self, sent: Session) -> Settings:
        """Returns the session after a change; what was not sent stays as it is.

        Raises:
            RefusedError: It asks for what this server cannot do.
        """
        no_tools(sent.tools, "session.tools")
        new = self
        modalities = sent.output_modalities or sent.modalities
        if modalities:
            new = replace(new, aloud="audio" in modalities)
        if sent.instructions is not None:
            new = replace(new, instructions=sent.instructions)
        if sent.input_audio_format:
            new = replace(new, heard=_format(sent.input_audio_format))
        if sent.output_audio_format:
            new = replace(new, spoken=_format(sent.output_audio_format))
        if sent.voice is not None:
            new = replace(new, voice=sent.voice)
        new = new._listening(
            sent, "session.turn_detection", sent.turn_detection, sent.input_audio_transcription,
            "input_audio_transcription",
        )  # fmt: skip
        return new._audio(sent)

    def _audio(self, sent: Session) -> Settings:
        new = self
        coming = sent.audio.input if sent.audio else None
        going = sent.audio.output if sent.audio else None
        if coming:
            if coming.format:
                rate = coming.format.rate
                new = replace(new, heard=_format(coming.format.type, rate, "input"))
            new = new._listening(
                coming, "session.audio.input.turn_detection", coming.turn_detection,
                coming.transcription, "transcription",
            )  # fmt: skip
        if going:
            if going.format:
                rate = going.format.rate
                new = replace(new, spoken=_format(going.format.type, rate, "output"))
            if going.voice is not None:
                new = replace(new, voice=going.voice)
        return new

    def _listening(
        self, sent: Any, path: str, detection: Any, transcription: Any, field: str
    ) -> Settings:
        """Reads the two settings that may be null, which is not the same as not sent."""
        new = self
        if "turn_detection" in sent.model_fields_set:
            if detection is not None and detection.interrupt_response is False:
                raise RefusedError(
                    "realtime_unsupported_value", f"{path}.interrupt_response",
                    what="interrupt_response: false",
                )  # fmt: skip
            answers = detection is not None and detection.create_response is not False
            new = replace(new, endpoint=detection is not None, answers=answers)
        if field in sent.model_fields_set:
            new = replace(new, transcribes=transcription is not None)
            said = transcription.language if transcription is not None else None
            if said:
                found = _LANGUAGE.fullmatch(said)
                if not found:
                    raise RefusedError(
                        "realtime_invalid_value", f"session.{field}.language",
                        detail="an ISO 639-1 code such as es",
                    )  # fmt: skip
                new = replace(new, language=found[1].lower())
        return new

    def told(self, beta: bool) -> dict[str, Any]:
        """Returns the session as the client's version of the protocol has it."""
        detection = None
        if self.endpoint:
            detection = {
                "type": "server_vad", "create_response": self.answers, "interrupt_response": True,
            }  # fmt: skip
        transcription = None
        if self.transcribes:
            transcription = {"model": self.model, "language": self.language or None}
        common = {
            "object": "realtime.session", "model": self.model, "instructions": self.instructions,
            "tools": [], "tool_choice": "none",
        }  # fmt: skip
        if beta:
            return {
                **common, "modalities": modalities(self.aloud, beta),
                "voice": self.voice, "input_audio_format": self.heard.beta,
                "output_audio_format": self.spoken.beta,
                "input_audio_transcription": transcription, "turn_detection": detection,
                "max_response_output_tokens": "inf",
            }  # fmt: skip
        audio = {
            "input": {
                "format": _told(self.heard), "transcription": transcription,
                "noise_reduction": None, "turn_detection": detection,
            },
            "output": {"format": _told(self.spoken), "voice": self.voice, "speed": 1.0},
        }  # fmt: skip
        return {
            **common, "type": "realtime", "output_modalities": modalities(self.aloud, beta),
            "audio": audio, "max_output_tokens": "inf",
        }  # fmt: skip

    def for_response(self, sent: Response | None) -> bool:
        """Returns whether a response that was asked for is to be spoken.

        Raises:
            RefusedError: It asks for what this server cannot do.
        """
        if sent is None:
            return self.aloud
        no_tools(sent.tools, "response.tools")
        wanted = sent.output_modalities or sent.modalities
        return "audio" in wanted if wanted else self.aloud


def modalities(aloud: bool, beta: bool) -> list[str]:
    """Returns the modalities of an answer: the beta names the text of a spoken one too."""
    if not aloud:
        return ["text"]
    return ["audio", "text"] if beta else ["audio"]


def no_tools(tools: list[Any] | None, path: str) -> None:
    """Refuses tools, which nobody here would call."""
    if tools:
        raise RefusedError("realtime_unsupported_value", path, what="tools")


def _told(form: Format) -> dict[str, Any]:
    return {"type": form.name, "rate": form.rate} if form is PCM else {"type": form.name}


def _format(name: str, rate: int | None = None, way: str = "") -> Format:
    found = next(form for form in FORMATS if name in (form.name, form.beta))
    if rate is not None and rate != found.rate:
        raise RefusedError(
            "realtime_invalid_value", f"session.audio.{way}.format.rate",
            detail=f"{name} comes at {found.rate} Hz",
        )  # fmt: skip
    return found
