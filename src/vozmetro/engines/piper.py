"""Piper voices through piper-tts (GPL-3.0-or-later, hence an optional extra)."""

from __future__ import annotations

import json
from collections.abc import Iterator

from vozmetro.audio import Samples
from vozmetro.engines.base import Engine, LoadRequest
from vozmetro.engines.onnx_graph import CPU, open_session


class Piper:
    """Implements `Synthesizer`: one chunk of audio a sentence, as stock piper-tts gives it."""

    def __init__(self, request: LoadRequest) -> None:
        from piper import PiperVoice
        from piper.config import PiperConfig

        config_path = request.path.with_name(request.path.name + ".json")
        config = json.loads(config_path.read_text(encoding="utf-8"))
        # PiperVoice.load takes every core; the same voice on our own session obeys `threads`.
        session = open_session(request.path, request.threads, request.options)
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
    defaults={"provider": CPU},
)
