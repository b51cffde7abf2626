"""Whisper through faster-whisper (CTranslate2), as a user would install it."""

from __future__ import annotations

from vozmetro.audio import Waveform
from vozmetro.engines.base import Engine, LoadRequest

# Greedy, one pass, text only: the settings that a voice assistant would choose for speed.
_DEFAULTS = {"compute_type": "int8", "beam_size": "1", "temperature": "0"}


class FasterWhisper:
    """Implements `Transcriber`."""

    def __init__(self, request: LoadRequest) -> None:
        from faster_whisper import WhisperModel

        options = {**_DEFAULTS, **request.options}
        self._beam_size = int(options["beam_size"])
        self._temperature = float(options["temperature"])
        self._model = WhisperModel(
            str(request.path),
            device="cpu",
            compute_type=options["compute_type"],
            cpu_threads=request.threads,
            num_workers=1,
            local_files_only=True,
        )

    def transcribe(self, audio: Waveform, language: str) -> str:
        """See `Transcriber.transcribe`. English-only models ignore the language."""
        segments, _ = self._model.transcribe(
            audio.samples,
            language=(language or None) if self._model.model.is_multilingual else "en",
            beam_size=self._beam_size,
            temperature=self._temperature,
            without_timestamps=True,
            condition_on_previous_text=False,
        )
        return " ".join(segment.text.strip() for segment in segments).strip()


ENGINE = Engine(
    name="faster-whisper",
    task="stt",
    extra="whisper",
    package="faster-whisper",
    modules=("faster_whisper",),
    load=FasterWhisper,
    defaults=_DEFAULTS,
)
