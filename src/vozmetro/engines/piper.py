"""Piper voices through piper-tts (GPL-3.0-or-later, hence an optional extra)."""

from __future__ import annotations

import json
from collections.abc import Iterator

from vozmetro.audio import Samples
from vozmetro.engines.base import Engine, LoadRequest
from vozmetro.engines.onnx_graph import session_options


class Piper:
    """Implements `Synthesizer`: one chunk of audio a sentence, as stock piper-tts gives it."""

    def __init__(self, request: LoadRequest) -> None:
        import onnxruntime as ort
        from piper import PiperVoice
        from piper.config import PiperConfig

        config_path = request.path.with_name(request.path.name + ".json")
        config = json.loads(config_path.read_text(encoding="utf-8"))
        # PiperVoice.load takes every core; the same voice on our own session obeys `threads`.
        session = ort.InferenceSession(
            str(request.path),
            session_options(request.threads, request.options),
            providers=["CPUExecutionProvider"],
        )
        self._voice = PiperVoice(session=session, config=PiperConfig.from_dict(config))
        self.sample_rate = int(self._voice.config.sample_rate)

    def stream(self, text: str) -> Iterator[Samples]:
        """See `Synthesizer.stream`."""
        for chunk in self._voice.synthesize(text):
            yield chunk.audio_float_array


ENGINE = Engine(
    name="piper",
    task="tts",
    extra="piper",
    package="piper-tts",
    modules=("piper", "onnxruntime"),
    load=Piper,
    defaults={"provider": "CPUExecutionProvider"},
)
