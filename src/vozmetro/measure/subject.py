"""From the words that name a subject to what a worker loads and a record describes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vozmetro.engines.onnx_graph import CUDA
from vozmetro.engines.options import on_device
from vozmetro.errors import InputError
from vozmetro.measure.records import Clock, Device, FileInfo, Kind, Subject
from vozmetro.models import slim
from vozmetro.models.resolve import ModelRef, resolve

CASCADE = "+"
_CLOCKS: dict[Kind, Clock] = {"cascade": "post-endpoint", "lm": "time-to-first-token"}


@dataclass(frozen=True)
class Target:
    """A named subject, resolved and verified.

    Attributes:
        name: The user's words.
        kind: As in `Subject`.
        models: One model, or speech to text and text to speech for a cascade.
    """

    name: str
    kind: Kind
    models: tuple[ModelRef, ...]

    @property
    def clock(self) -> Clock:
        """What a latency of this subject spans."""
        if self.kind == "stt" and self.models[0].options.get("context") == "stream":
            return "post-endpoint"
        return _CLOCKS.get(self.kind, "per-inference")

    @property
    def device(self) -> Device:
        """Where its models run: on the GPU where any of them does."""
        return "cuda" if any(m.options.get("provider") == CUDA for m in self.models) else "cpu"

    @property
    def weight_bytes(self) -> int:
        """Bytes of weights of all its models."""
        return sum(model.inspection.weight_bytes for model in self.models)

    @property
    def languages(self) -> tuple[str, ...]:
        """Languages that the subject listens to or speaks; empty for any."""
        return self.models[0].languages

    @property
    def expected_ram(self) -> int:
        """Bytes that loading all its models is expected to need."""
        return sum(model.inspection.expected_ram for model in self.models)

    def record(
        self,
        labels: Sequence[str],
        defaults: Sequence[dict[str, str]],
        input_dtypes: dict[str, str],
        claimed: float | None,
    ) -> Subject:
        """Returns the record, with what the worker told about engines and inputs."""
        inspections = [model.inspection for model in self.models]
        largest = max(inspections, key=lambda one: one.weight_bytes)
        known = [one.parameters for one in inspections if one.parameters is not None]
        options: dict[str, str] = {}
        for model, defaulted in zip(self.models, defaults, strict=True):
            prefix = f"{model.task}." if self.kind == "cascade" else ""
            for key, value in {**defaulted, **model.options}.items():
                options[prefix + key] = value
        return Subject(
            name=self.name,
            kind=self.kind,
            clock=self.clock,
            engines=list(labels),
            files=[
                FileInfo(path=str(path), bytes=size, sha256=digest)
                for model in self.models
                for path, size, digest in model.files
            ],
            format=" + ".join(dict.fromkeys(one.format for one in inspections)),
            precision=" + ".join(dict.fromkeys(one.precision for one in inspections)),
            parameters=sum(known) if known else None,
            expected_ram=self.expected_ram,
            claimed_parameters=claimed,
            languages=list(self.languages),
            input_dtypes=input_dtypes,
            options=options,
            weights="dummy" if any(one.weights == "dummy" for one in inspections) else "real",
            model_format_version=f"opset {largest.opset}, IR {largest.ir_version}"
            if largest.opset
            else "",
            device=self.device,
            architecture=largest.marks.get("vozmetro.architecture", ""),
            **_dummy_marks(largest.marks) if largest.weights == "dummy" else {},
        )


def _dummy_marks(marks: Mapping[str, str]) -> dict[str, Any]:
    seed = marks.get("vozmetro.seed", "")
    return {
        # What a file says may be no number.
        "seed": int(seed) if seed.isdecimal() and len(seed) < 19 else None,
        "architecture_sha256": marks.get("vozmetro.architecture_sha256", ""),
    }


def resolve_subject(words: str, name: str | None = None, device: Device = "cpu") -> Target:
    """Returns the subject that is meant.

    Args:
        words: A path to an `.onnx`, a catalogue name, or `STT+TTS`; each may have engine options.
        name: What to call it; None for the words themselves.
        device: Where to run what has no option `provider` of its own.

    Raises:
        InputError: `cascade_parts` where a cascade is not speech to text plus text to speech;
            `option_unknown`, `device_engine` or `cuda_missing`; and whatever `resolve` raises.
    """
    name = words if name is None else name
    if CASCADE not in words or Path(words).exists():
        model = on_device(resolve(words), device)
        return Target(name, model.task, (model,))
    models = tuple(on_device(resolve(part.strip()), device) for part in words.split(CASCADE))
    tasks = [model.task for model in models]
    if tasks != ["stt", "tts"]:
        raise InputError("cascade_parts", name=name, tasks=" + ".join(tasks))
    return Target(name, "cascade", models)


def vocabulary_bounds(path: Path) -> dict[str, int]:
    """Returns, by graph input, the rows of the embedding table that it indexes.

    Follows an input through shape-only operators to a Gather on an initializer, so that made-up
    token ids stay inside the vocabulary.
    """
    graph = slim.read(path).graph
    rows = {one.name: one.dims[0] for one in graph.initializer if one.dims}
    origin = {one.name: one.name for one in graph.input}
    bounds: dict[str, int] = {}
    for node in graph.node:
        if not node.input or not node.output:
            continue
        if node.op_type in ("Cast", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"):
            if node.input[0] in origin:
                origin[node.output[0]] = origin[node.input[0]]
        elif (
            node.op_type == "Gather"
            and len(node.input) > 1
            and node.input[0] in rows
            and node.input[1] in origin
        ):
            name = origin[node.input[1]]
            bounds[name] = min(rows[node.input[0]], bounds.get(name, 1 << 31))
    return bounds
