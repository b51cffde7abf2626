"""From the words of `pipeline.toml` to engines that are loaded and warm."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any, cast
from weakref import WeakValueDictionary

from vozmetro.audio import SPEECH_RATE, Samples, synthetic_speech
from vozmetro.engines import registry
from vozmetro.engines.base import HOP_S, LanguageModel, LoadRequest, Synthesizer, Transcriber
from vozmetro.engines.options import on_device
from vozmetro.errors import InputError, ModelError
from vozmetro.models.catalogue import Task
from vozmetro.models.resolve import ModelRef, resolve
from vozmetro.pipeline.config import (
    ChatConfig,
    EchoConfig,
    LocalConfig,
    PipelineConfig,
    ReplyConfig,
    TemplateConfig,
    TierConfig,
)
from vozmetro.pipeline.gate import Gate
from vozmetro.pipeline.hearing import open_stream
from vozmetro.pipeline.protocols import Reply
from vozmetro.pipeline.router import Router
from vozmetro.pipeline.tiers import Stages

CASCADE = "+"
WARM_SECONDS = 1.5
"""Audio that speech to text hears first."""
_GREETINGS = {"es": "Hola, buenos días.", "en": "Hello, good morning."}


class Loader:
    """Loads tiers; what two tiers share is loaded once. For several threads at once.

    A model stays in memory as long as a tier that is loaded uses it, and no longer.

    Args:
        threads: Threads of each model.
        gate: Where language models wait for other inferences; None for nowhere.
    """

    def __init__(self, threads: int, gate: Gate | None = None) -> None:
        self._threads, self._gate = threads, gate
        self._found: dict[str, ModelRef] = {}
        self._loaded: WeakValueDictionary[str, Any] = WeakValueDictionary()
        self._lock = Lock()

    def __call__(self, tier: TierConfig) -> Stages:
        """Returns a tier's stages after one real inference of each.

        Raises:
            VozmetroError: A model cannot be found, or loaded, or is of another kind.
        """
        return self.stages(tier.stt, tier.tts, self.reply(tier.reply), tier.name, tier.language)

    def footprint(self, tier: TierConfig) -> Mapping[str, int]:
        """Returns the bytes that each of a tier's models is expected to need.

        Raises:
            InputError: `tier_model`, for a model of another kind; and what `resolve` raises.
        """
        wanted: list[tuple[str, Task]] = [(tier.stt, "stt"), (tier.tts, "tts")]
        if isinstance(tier.reply, LocalConfig):
            wanted.append((tier.reply.model, "lm"))
        found = [self._model(words, task) for words, task in wanted]
        return {model.name: model.inspection.expected_ram for model in found}

    def stages(self, stt: str, tts: str, reply: Reply, tier: str, language: str) -> Stages:
        """Returns stages after one real inference of speech to text and of text to speech."""
        hears = cast(Transcriber, self._engine(stt, "stt"))
        speaks = cast(Synthesizer, self._engine(tts, "tts"))
        voice = synthetic_speech(WARM_SECONDS, rate=SPEECH_RATE)
        hears.transcribe(voice, language)
        _listen(hears, voice.samples, language)
        for _ in speaks.stream(_GREETINGS.get(language, _GREETINGS["en"])):
            pass
        return Stages(tier, hears, reply, speaks, language)

    def reply(self, config: ReplyConfig) -> Reply:
        """Returns who answers, loaded and warm.

        Raises:
            VozmetroError: As for a tier.
        """
        if isinstance(config, EchoConfig):
            from vozmetro.pipeline.reply.echo import Echo

            return Echo()
        if isinstance(config, TemplateConfig):
            from vozmetro.pipeline.reply.template import Template

            return Template(config)
        if isinstance(config, ChatConfig):
            from vozmetro.pipeline.reply.chat import Chat

            return Chat(config)
        return self._local(config)

    def _local(self, config: LocalConfig) -> Reply:
        from vozmetro.engines.language_model import tokenizer
        from vozmetro.pipeline.reply.local import Local

        found = self._model(config.model, "lm")
        words = tokenizer(found.path)
        if words is None:
            raise ModelError("lm_no_tokenizer", path=found.path)
        # Room for all that is ever read, at once: only what is used of it takes memory.
        engine = self._engine(config.model, "lm", max_length=str(config.context))
        model = cast(LanguageModel, engine)
        reply = Local(model, words, config, found.path, getattr(model, "limit", None))
        for _ in zip(range(2), reply.stream(_GREETINGS["en"], "en", lambda: False), strict=False):
            pass
        # Not while it is loaded: that fails on nothing but the model itself.
        reply.gate = self._gate
        return reply

    def _model(self, words: str, task: Task) -> ModelRef:
        """Returns a model by its name, looked up and verified once."""
        with self._lock:
            model = self._found.get(words)
        if model is None:
            model = on_device(resolve(words), "cpu")
            with self._lock:
                self._found[words] = model
        if model.task != task:
            raise InputError("tier_model", name=words, task=model.task, wanted=task)
        return model

    def _engine(self, words: str, task: Task, **defaults: str) -> Any:
        """Returns an engine with its model, loaded now unless a tier has it already."""
        model = self._model(words, task)
        key = f"{model.name} {sorted(defaults.items())}"
        with self._lock:
            held = self._loaded.get(key)
        if held is not None:
            return held
        engine = registry.find(model.engine)
        registry.import_modules(engine)
        model = replace(model, options={**defaults, **model.options})
        loaded: Any = engine.load(LoadRequest(model.path, self._threads, model.options))
        with self._lock:
            self._loaded[key] = loaded
        return loaded


def _listen(engine: Transcriber, samples: Samples, language: str) -> None:
    """Hears something as conversations do: in pieces, looked at in between."""
    stream = open_stream(engine, language)
    size = round(HOP_S * SPEECH_RATE)
    for start in range(0, len(samples), size):
        stream.feed(samples[start : start + size])
        stream.partial()
    stream.finish()


def load_stages(words: str, reply: Reply, threads: int, tier: str, language: str) -> Stages:
    """Returns the engines of a cascade, loaded and warm.

    Args:
        words: `STT+TTS`, as `vozmetro bench` takes it.
        reply: Who answers.
        threads: Threads of each model.
        tier: What to call it.
        language: ISO 639-1 that speech to text is told; empty where it detects it.

    Raises:
        InputError: `cascade_parts` for what is not two models; `tier_model`.
        VozmetroError: What finding and loading models raises.
    """
    parts = split_cascade(words)
    if parts is None:
        raise InputError("cascade_parts", name=words, tasks=words)
    return Loader(threads).stages(*parts, reply, tier, language)


def split_cascade(words: str) -> tuple[str, str] | None:
    """Returns both names of `STT+TTS`; None for what is one model, or more than two."""
    parts = [part.strip() for part in words.split(CASCADE)]
    if len(parts) != 2 or not all(parts) or Path(words).exists():
        return None
    return parts[0], parts[1]


def open_router(config: PipelineConfig, threads: int, gate: Gate | None = None) -> Router:
    """Returns a router on real models and the real clock; nothing is loaded yet.

    Args:
        config: Tiers and rules.
        threads: Threads of each model where the file does not say.
        gate: Where inferences wait for each other.

    Raises:
        VozmetroError: A tier's model cannot be found or can never fit.
    """
    gate = gate or Gate()
    loader = Loader(config.threads or threads, gate)
    return Router(config, loader, loader.footprint, time.monotonic, gate)
