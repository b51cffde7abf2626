"""Parts of a model that speaks: what is timed of each, and how their graphs are called.

The thinker, or any language model alone, is called as a language model. The other parts of
Qwen3-Omni take no text; their ports are described where they are written (`models.convert`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from time import perf_counter_ns
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vozmetro.engines.base import LoadRequest, TensorSpec
from vozmetro.engines.onnx_graph import CPU, open_session, tensor_spec
from vozmetro.measure.callers import Outcome

LANGUAGE_PARTS = ("text", "model", "thinker")
"""Components that are called with a prompt, as language models."""
FRAME_S = 0.08
"""Sound in one frame of the codec of Qwen3-Omni, in seconds."""
CODES = 15
"""Codes that the code predictor adds to the talker's one, one step each."""
LISTENED_S = (1.0, 3.0)
"""Audio that the encoder is timed with, in seconds."""
_FRAMES_PER_S = 100  # log-mel frames
_SPOKEN_TOKENS = 64  # what the talker has seen before the token that is timed
_CACHE = re.compile(r"past_key_values\.")


@dataclass(frozen=True)
class Call:
    """One call of a graph.

    Attributes:
        sizes: Dynamic sizes by their symbol (`frames`, `sequence`).
        past: Tokens in its caches before the call.
        values: Integer inputs that must hold one number.
    """

    sizes: Mapping[str, int]
    past: int = 0
    values: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Stage:
    """What is timed of a component in one sample.

    Attributes:
        name: `<component> · <what>`, equal at all depths.
        seconds: Audio that goes in or comes out, in seconds; 0 for none.
        calls: Calls that follow one another.
    """

    name: str
    seconds: float
    calls: tuple[Call, ...]

    def as_json(self) -> dict[str, Any]:
        """Returns the message for the worker."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Stage:
        """Reads `as_json` back."""
        return cls(data["name"], data["seconds"], tuple(Call(**one) for one in data["calls"]))


def stages(component: str) -> list[Stage]:
    """Returns what is timed of a component that is no language model.

    Raises:
        KeyError: No such component is known.
    """
    # Of a frame, the first step sees the talker's state and its code; each other one, one code.
    steps = [Call({"sequence": 2}, 0, {"step": 0})]
    steps += [Call({"sequence": 1}, 1 + step, {"step": step}) for step in range(1, CODES)]
    listening = [
        Stage(
            f"audio_encoder · {seconds:g} s",
            seconds,
            (Call({"frames": round(seconds * _FRAMES_PER_S)}),),
        )
        for seconds in LISTENED_S
    ]
    known = {
        "audio_encoder": listening,
        "talker": [Stage("talker · token", 0.0, (Call({"sequence": 1}, _SPOKEN_TOKENS),))],
        "code_predictor": [Stage(f"code_predictor · {CODES} steps", FRAME_S, tuple(steps))],
        "code2wav": [Stage("code2wav · frame", FRAME_S, (Call({"frames": 1}),))],
    }
    return known[component]


class BoundGraph:
    """A graph whose inputs and outputs stay where they are; caches are written in place.

    Args:
        request: The graph, and its device among the options.
        vocabulary: Rows of the table that an input of ids indexes, by input name.
    """

    def __init__(self, request: LoadRequest, vocabulary: Mapping[str, int]) -> None:
        self._session = open_session(request.path, request.threads, request.options)
        self._device = request.options.get("provider", CPU)
        self._vocabulary = vocabulary
        self._inputs = [tensor_spec(node) for node in self._session.get_inputs()]
        self._outputs = [tensor_spec(node) for node in self._session.get_outputs()]

    def bind(self, stage: Stage, seed: int) -> list[Any]:
        """Returns a binding for each call of a stage, its inputs filled with seeded noise."""
        random = np.random.default_rng(seed)
        room = max(call.past + call.sizes.get("sequence", 0) for call in stage.calls)
        caches = self._caches(room, random) if room else {}
        return [self._bound(call, caches, random) for call in stage.calls]

    def run(self, bindings: Sequence[Any], start_ns: int) -> Outcome:
        """Runs a stage once. The output is every output of the last call."""
        for binding in bindings:
            self._session.run_with_iobinding(binding)
        end_ns = perf_counter_ns()
        found = [
            value.numpy()
            for value, spec in zip(bindings[-1].get_outputs(), self._outputs, strict=True)
            if not spec.name.startswith("present.")
        ]
        return Outcome(end_ns, found)

    def _caches(self, room: int, random: np.random.Generator) -> dict[str, Any]:
        import onnxruntime as ort

        found = {}
        for spec in self._inputs:
            if _CACHE.match(spec.name):
                sizes = [size if isinstance(size, int) else room for size in spec.shape]
                values = random.standard_normal(sizes).astype(spec.dtype)
                found[spec.name] = ort.OrtValue.ortvalue_from_numpy(values, self._device, 0)
        return found

    def _bound(self, call: Call, caches: Mapping[str, Any], random: np.random.Generator) -> Any:
        binding = self._session.io_binding()
        for spec in self._inputs:
            if spec.name in caches:
                binding.bind_ortvalue_input(spec.name, caches[spec.name])
            else:
                binding.bind_cpu_input(spec.name, self._filled(spec, call, random))
        for spec in self._outputs:
            past = spec.name.replace("present.", "past_key_values.")
            if past in caches:
                binding.bind_ortvalue_output(spec.name, caches[past])
            else:
                binding.bind_output(spec.name, CPU, 0)
        return binding

    def _filled(self, spec: TensorSpec, call: Call, random: np.random.Generator) -> NDArray[Any]:
        sizes = dict(call.sizes)
        sizes["total_sequence"] = call.past + call.sizes.get("sequence", 0)
        shape = [size if isinstance(size, int) else sizes.get(size, 1) for size in spec.shape]
        if spec.name in call.values:
            return np.full(shape, call.values[spec.name], spec.dtype)
        if "mask" in spec.name:
            return np.ones(shape, spec.dtype)
        if "float" in spec.dtype:
            return random.standard_normal(shape).astype(spec.dtype)
        return random.integers(0, self._vocabulary.get(spec.name, 100), shape).astype(spec.dtype)
