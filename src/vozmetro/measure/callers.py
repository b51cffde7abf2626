"""How the worker calls each kind of subject, and what it looks at in the outputs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter_ns
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from vozmetro.audio import Waveform
from vozmetro.engines.base import (
    HOP_S,
    Graph,
    LanguageModel,
    Loaded,
    StreamingTranscriber,
    Synthesizer,
    Transcriber,
)
from vozmetro.errors import InputError
from vozmetro.measure import graph_inputs
from vozmetro.measure.graph_inputs import Resolved
from vozmetro.measure.workload import WorkItem
from vozmetro.units import NS_PER_MS

_LOOKED_AT = 65_536  # elements of an output that are looked at after each block, evenly spread
_CHECKED = 1_024  # the same after each run
_AUDIBLE = 1e-4


@dataclass(frozen=True)
class Outcome:
    """One call, timed.

    Attributes:
        end_ns: `perf_counter_ns` when the subject's clock stops.
        output: What came out.
        parts_ms: Parts of the latency by name, in ms.
        start_ns: When that clock started, where it was not with the call.
    """

    end_ns: int
    output: Any
    parts_ms: dict[str, float] = field(default_factory=dict)
    start_ns: int | None = None


@dataclass(frozen=True)
class Look:
    """What an output looks like.

    Attributes:
        text: Transcript, or the shapes of the outputs.
        digest: Equal for equal outputs.
        finite: False with NaN or infinity among the elements looked at.
        cache_bytes: Keys and values that a language model held in the end.
    """

    text: str
    digest: str
    finite: bool
    cache_bytes: int = 0


class Caller(Protocol):
    """Calls one kind of subject."""

    def prepare(self, item: WorkItem) -> tuple[Any, list[Resolved]]:
        """Returns the ready input for an item (untimed), and how graph inputs were resolved."""

    def call(self, ready: Any, start_ns: int) -> Outcome:
        """Runs the subject once; `start_ns` is when the caller's clock started."""

    def sane(self, output: Any) -> bool:
        """Whether an output is no NaN, infinity or silence: a check of microseconds."""

    def look(self, output: Any) -> Look:
        """Describes an output (untimed)."""

    def silenced(self, ready: Any) -> Any:
        """Returns the same input without content, to see whether the output changes with it."""


class GraphCaller:
    """Calls a plain graph."""

    def __init__(
        self, graph: Graph, shapes: Mapping[str, Sequence[int]], vocabulary: Mapping[str, int]
    ) -> None:
        self._graph = graph
        self._shapes = shapes
        self._vocabulary = vocabulary

    def prepare(self, item: WorkItem) -> tuple[Any, list[Resolved]]:
        """See `Caller.prepare`."""
        material = graph_inputs.Material(item.audio(), item.text, item.seed)
        return graph_inputs.build(self._graph.inputs, material, self._shapes, self._vocabulary)

    def call(self, ready: Any, start_ns: int) -> Outcome:
        """See `Caller.call`."""
        outputs = self._graph.run(ready)
        end_ns = perf_counter_ns()
        # A graph may also give sequences or maps, which are not looked at.
        return Outcome(end_ns, [one for one in outputs if isinstance(one, np.ndarray)])

    def sane(self, output: Any) -> bool:
        """See `Caller.sane`: of evenly spread elements of float outputs."""
        return all(
            bool(np.isfinite(_spread(array, _CHECKED)).all())
            for array in output
            if array.dtype.kind == "f"
        )

    def look(self, output: Any) -> Look:
        """See `Caller.look`."""
        digest = hashlib.blake2b(digest_size=12)
        finite = True
        for array in output:
            some = _spread(array, _LOOKED_AT)
            digest.update(str((array.shape, array.dtype)).encode())
            digest.update(str(some.tolist()).encode() if some.dtype == object else some.tobytes())
            if np.issubdtype(some.dtype, np.floating):
                finite = finite and bool(np.isfinite(some).all())
        shapes = ", ".join("x".join(map(str, array.shape)) or "scalar" for array in output)
        return Look(shapes, digest.hexdigest(), finite)

    def silenced(self, ready: Any) -> Any:
        """See `Caller.silenced`: zeros for float content, 1 for ids; lengths and masks stay."""
        changed = {}
        for spec in self._graph.inputs:
            array = ready[spec.name]
            rule = graph_inputs.rule_of(spec)
            content = rule in ("waveform", "log-mel", "fixed shape", "guess", "token ids")
            if content and np.issubdtype(array.dtype, np.floating):
                array = np.zeros_like(array)
            elif content and np.issubdtype(array.dtype, np.integer):
                array = np.ones_like(array)
            changed[spec.name] = array
        return changed


class TranscriberCaller:
    """Calls speech to text."""

    def __init__(self, engine: Transcriber) -> None:
        self._engine = engine
        self._streams = getattr(engine, "streams", False)

    def prepare(self, item: WorkItem) -> tuple[Any, list[Resolved]]:
        """See `Caller.prepare`."""
        return (item.audio(), item.language), []

    def call(self, ready: Any, start_ns: int) -> Outcome:
        """See `Caller.call`.

        An engine that transcribes while one speaks gets the audio in pieces, as the pipeline gives
        it; its clock starts when the last one is there.
        """
        if self._streams:
            return self._streamed(*ready)
        text = self._engine.transcribe(*ready)
        return Outcome(perf_counter_ns(), text)

    def _streamed(self, audio: Waveform, language: str) -> Outcome:
        stream = cast(StreamingTranscriber, self._engine).open_stream(language)
        size = round(HOP_S * audio.rate)
        for start in range(0, len(audio.samples), size):
            stream.feed(audio.samples[start : start + size])
            if start + size < len(audio.samples):
                stream.partial()
        start_ns = perf_counter_ns()
        text = stream.finish()
        return Outcome(perf_counter_ns(), text, start_ns=start_ns)

    def sane(self, output: Any) -> bool:
        """See `Caller.sane`. Any text is; an empty one is noted apart."""
        return True

    def look(self, output: Any) -> Look:
        """See `Caller.look`."""
        return Look(str(output), str(output), True)

    def silenced(self, ready: Any) -> Any:
        """See `Caller.silenced`: the same length of silence."""
        audio, language = ready
        return Waveform(np.zeros_like(audio.samples), audio.rate), language


class SynthesizerCaller:
    """Calls text to speech; the clock stops with the last sample of audio."""

    def __init__(self, engine: Synthesizer) -> None:
        self._engine = engine

    def prepare(self, item: WorkItem) -> tuple[Any, list[Resolved]]:
        """See `Caller.prepare`.

        Raises:
            InputError: `needs_text`.
        """
        if not item.text:
            raise InputError("needs_text", item=item.id)
        return item.text, []

    def call(self, ready: Any, start_ns: int) -> Outcome:
        """See `Caller.call`. The output is every chunk of audio."""
        first_ns = 0
        chunks = []
        for chunk in self._engine.stream(ready):
            if not first_ns and len(chunk):
                first_ns = perf_counter_ns()
            chunks.append(chunk)
        end_ns = perf_counter_ns()
        first = ((first_ns or end_ns) - start_ns) / NS_PER_MS
        return Outcome(end_ns, chunks, {"first_audio": first})

    def sane(self, output: Any) -> bool:
        """See `Caller.sane`: whether it can be heard."""
        return any(len(chunk) for chunk in output) and all(map(_audible, filter(len, output)))

    def look(self, output: Any) -> Look:
        """See `Caller.look`. Voices draw noise, so that only the length is compared."""
        seconds = sum(map(len, output)) / self._engine.sample_rate
        return Look(f"{seconds:.2f} s", f"{seconds:.3f}", self.sane(output))

    def silenced(self, ready: Any) -> Any:
        """See `Caller.silenced`: the text's first letter."""
        return ready[0]

    def write(self, output: Any, path: Path) -> float:
        """Writes an output as a 16-bit WAV; returns its length in seconds."""
        import soundfile

        samples = np.concatenate(output)
        soundfile.write(path, samples, self._engine.sample_rate, subtype="PCM_16")
        return len(samples) / self._engine.sample_rate


class CascadeCaller:
    """Speech to text, then text to speech; the clock stops at the first audio out."""

    def __init__(self, transcriber: Transcriber, synthesizer: Synthesizer) -> None:
        self._listen = TranscriberCaller(transcriber)
        self._synthesizer = synthesizer

    def prepare(self, item: WorkItem) -> tuple[Any, list[Resolved]]:
        """See `Caller.prepare`."""
        return self._listen.prepare(item)

    def call(self, ready: Any, start_ns: int) -> Outcome:
        """See `Caller.call`. The output is the text and the first audio.

        A turn in which no word is heard has no audio and ends there.
        """
        heard = self._listen.call(ready, start_ns)
        # Of one that transcribes while one speaks, from its last piece on.
        ended_ns = heard.start_ns or start_ns
        chunks = self._synthesizer.stream(heard.output) if heard.output else iter(())
        first = next((chunk for chunk in chunks if len(chunk)), None)
        end_ns = perf_counter_ns()
        parts = {
            "stt": (heard.end_ns - ended_ns) / NS_PER_MS,
            "tts_first_audio": (end_ns - heard.end_ns) / NS_PER_MS,
        }
        return Outcome(end_ns, (heard.output, first), parts, start_ns=heard.start_ns)

    def sane(self, output: Any) -> bool:
        """See `Caller.sane`: words have audio that can be heard; no words are noted apart."""
        text, first = output
        return not text or (first is not None and _audible(first))

    def look(self, output: Any) -> Look:
        """See `Caller.look`."""
        return Look(output[0], output[0], self.sane(output))

    def silenced(self, ready: Any) -> Any:
        """See `Caller.silenced`."""
        return self._listen.silenced(ready)


@dataclass(frozen=True)
class Generated:
    """What a language model gave for a prompt.

    Attributes:
        tokens: Their numbers, the likeliest each time.
        first: Evenly spread logits that the first one was chosen from.
        last: All the logits that the last one was chosen from.
        cache_bytes: Keys and values held in the end.
    """

    tokens: list[int]
    first: NDArray[np.float32]
    last: NDArray[np.float32]
    cache_bytes: int


class LanguageModelCaller:
    """Calls a language model; the clock stops with the choice of the first token.

    The tokens after it are timed together, as the mean of each: they come one by one anyway, and a
    clock around every single one would hold up those of small models.
    """

    def __init__(self, engine: LanguageModel) -> None:
        self._engine = engine

    def prepare(self, item: WorkItem) -> tuple[Any, list[Resolved]]:
        """See `Caller.prepare`: seeded random ids; their order means nothing to the model's speed.

        Raises:
            InputError: `no_prompt` for an item that is not one.
        """
        if not item.tokens:
            raise InputError("no_prompt", item=item.id)
        random = np.random.default_rng(item.seed)
        ids = random.integers(0, self._engine.vocabulary, item.tokens, dtype=np.int64)
        shape = [1, item.tokens]
        return (ids, item.new_tokens), [Resolved("input_ids", "int64", shape, "prompt tokens")]

    def call(self, ready: Any, start_ns: int) -> Outcome:
        """See `Caller.call`. The output is a `Generated`."""
        ids, new_tokens = ready
        engine = self._engine
        logits = engine.prefill(ids)
        token = int(logits.argmax())
        end_ns = perf_counter_ns()
        # An engine may write the next logits over these.
        first = np.array(_spread(logits, _LOOKED_AT))
        tokens = [token]
        begin_ns = perf_counter_ns()
        for _ in range(new_tokens - 1):
            logits = engine.decode(token)
            token = int(logits.argmax())
            tokens.append(token)
        parts = {"first_token": (end_ns - start_ns) / NS_PER_MS}
        if new_tokens > 1:
            parts["per_token"] = (perf_counter_ns() - begin_ns) / NS_PER_MS / (new_tokens - 1)
        return Outcome(end_ns, Generated(tokens, first, logits, engine.cache_bytes), parts)

    def sane(self, output: Any) -> bool:
        """See `Caller.sane`: of evenly spread logits before the first and the last token."""
        return all(
            bool(np.isfinite(_spread(one, _CHECKED)).all()) for one in (output.first, output.last)
        )

    def look(self, output: Any) -> Look:
        """See `Caller.look`. Compared by the logits: random weights may like one token always."""
        some = [_spread(one, _LOOKED_AT) for one in (output.first, output.last)]
        digest = hashlib.blake2b(b"".join(one.tobytes() for one in some), digest_size=12)
        finite = all(bool(np.isfinite(one).all()) for one in some)
        text = " ".join(map(str, output.tokens))
        return Look(text, digest.hexdigest(), finite, output.cache_bytes)

    def silenced(self, ready: Any) -> Any:
        """See `Caller.silenced`: the same token all along."""
        ids, new_tokens = ready
        return np.zeros_like(ids), new_tokens


def make(
    kind: str,
    loaded: Sequence[Loaded],
    shapes: Mapping[str, Sequence[int]],
    vocabulary: Mapping[str, int],
    hangover_s: float | None = None,
) -> Caller:
    """Returns the caller for a subject's kind and its loaded engines, in order.

    With a hangover (seconds), a cascade is called in whole turns.
    """
    engines: Any = list(loaded)
    if hangover_s is not None:
        from vozmetro.measure.turns import TurnCaller

        return TurnCaller(engines[0], engines[1], hangover_s)
    if kind == "graph":
        return GraphCaller(engines[0], shapes, vocabulary)
    if kind == "stt":
        return TranscriberCaller(engines[0])
    if kind == "tts":
        return SynthesizerCaller(engines[0])
    if kind == "lm":
        return LanguageModelCaller(engines[0])
    return CascadeCaller(engines[0], engines[1])


def _audible(chunk: NDArray[Any]) -> bool:
    """Whether audio is finite and above -80 dB of full scale somewhere."""
    some = _spread(chunk, _LOOKED_AT)
    return bool(np.isfinite(some).all()) and float(np.abs(some).max()) > _AUDIBLE


def _spread(array: NDArray[Any], most: int) -> NDArray[Any]:
    """At most that many elements, evenly spread, as a contiguous vector."""
    flat = np.ravel(array)
    return np.ascontiguousarray(flat[:: max(1, -(-flat.size // most))])
