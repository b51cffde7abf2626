"""What each item of a subject must read and compute: by its graphs, or by its stored shapes.

A `Plan` is made before anything is measured; what a measurement tells (how long a voice's audio
came out, how many words were heard) makes it exact afterwards.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vozmetro.audio import SPEECH_RATE
from vozmetro.engines import registry, whisper_window
from vozmetro.engines.base import TensorSpec
from vozmetro.errors import InputError
from vozmetro.judge.roofline import Work
from vozmetro.measure import graph_inputs
from vozmetro.measure.records import Item, Note
from vozmetro.measure.roofline_records import Unit
from vozmetro.measure.subject import Target
from vozmetro.measure.workload import NEW_TOKENS, WorkItem
from vozmetro.models.checks import check_onnx
from vozmetro.models.cost import Cost, cost
from vozmetro.models.cost.ctranslate2 import Part, whisper_cost
from vozmetro.models.cost.graph import DATA
from vozmetro.models.inspection import Port
from vozmetro.models.resolve import ModelRef

PROMPT = 4
"""Tokens that a transcript starts with: start, language, task, no timestamps."""
TOKENS_PER_WORD = 1.3
"""Of a transcript, where there is no tokenizer to ask."""
PHONEMES_PER_LETTER, PHONEMES_MORE = 2, 3
"""Symbols of a Piper voice: a pad behind each phoneme; start, pad and end."""
_TOP = 3  # of the subject's products, the largest, for which ceilings are measured too
_LEAST_ROWS = 16


@dataclass(frozen=True)
class Planned:
    """One floor to be computed.

    Attributes:
        item: Id of the item that it is of.
        unit: As in `Floor`.
        length: Seconds or tokens.
        works: Its steps.
    """

    item: str
    unit: Unit
    length: float
    works: tuple[Work, ...]


@dataclass
class Plan:
    """The floors of a subject.

    Attributes:
        floors: One for each item; two for a prompt.
        sizes: The subject's largest products.
        notes: What was assumed.
    """

    floors: list[Planned] = field(default_factory=list)
    sizes: list[tuple[int, int, int]] = field(default_factory=list)
    notes: dict[str, Note] = field(default_factory=dict)

    def add(self, found: Cost) -> None:
        """Keeps a cost's largest products, and what it assumed."""
        products = [one for one in found.nodes if one.size[0] >= _LEAST_ROWS]
        products.sort(key=lambda one: -one.macs)
        for one in products:
            if one.size not in self.sizes and len(self.sizes) < _TOP:
                self.sizes.append(one.size)
        if found.unknown:
            named = ", ".join(f"{name} x {count}" for name, count in found.unknown.items())
            self.note("roofline_unknown", operators=named)
        if found.branches:
            named = ", ".join(f"{node}: {one}" for node, one in found.branches.items())
            self.note("roofline_branch", branches=named)
        if DATA in found.assumed:
            self.note("roofline_data", size=str(found.assumed[DATA]))

    def note(self, code: str, **fields: str) -> None:
        """Keeps a note, the first of its code."""
        self.notes.setdefault(code, Note(code=code, fields=fields))


def plan(target: Target, work: Sequence[WorkItem], heard: Mapping[str, Item] | None = None) -> Plan:
    """Returns the floors of a subject's items.

    Args:
        target: One model; no cascade.
        work: Its items.
        heard: What a measurement tells of them, by id.

    Raises:
        InputError: `roofline_cascade`, or `roofline_engine` for an engine without a rule.
        ModelError: A file cannot be read.
    """
    if len(target.models) != 1:
        raise InputError("roofline_cascade", name=target.name)
    model = target.models[0]
    rules = {
        "onnx": _graph,
        "language-model": _language_model,
        "whisper-onnx": _whisper_onnx,
        "faster-whisper": _whisper_ctranslate2,
        "piper": _voice,
    }
    if model.engine not in rules:
        raise InputError("roofline_engine", name=target.name, engine=model.engine)
    made = Plan()
    for item in work:
        rules[model.engine](made, model, item, (heard or {}).get(item.id))
    return made


def _work(found: Cost, name: str = "inference", times: float = 1.0) -> Work:
    return Work(found.bytes, dict(found.macs), times, name)


# Plain graphs, and voices ------------------------------------------------------------------------


def _graph(made: Plan, model: ModelRef, item: WorkItem, heard: Item | None) -> None:
    if heard is not None and heard.inputs:
        shapes = {one.name: one.shape for one in heard.inputs}
    else:
        shapes = _shapes(model, item)
    found = cost(model.path, shapes=shapes)
    found = _drawn_out(model, found, shapes, _sizes(heard.output if heard else ""))
    made.add(found)
    made.floors.append(Planned(item.id, "inference", item.seconds, (_work(found),)))


def _shapes(model: ModelRef, item: WorkItem) -> dict[str, list[int]]:
    """Shapes as the worker will resolve them."""
    specs = [TensorSpec(one.name, one.dtype, one.shape) for one in model.inspection.inputs]
    material = graph_inputs.Material(item.audio(), item.text, item.seed)
    _, resolved = graph_inputs.build(specs, material, {}, {})
    return {one.name: one.shape for one in resolved}


def _sizes(output: str) -> int:
    """Elements of the first output of a graph, from `1x1x15360, ...`; 0 where it tells none."""
    first = output.split(",", maxsplit=1)[0].strip()
    return math.prod(int(one) for one in first.split("x")) if re.match(r"\d+(x\d+)*$", first) else 0


def _drawn_out(
    model: ModelRef, found: Cost, shapes: Mapping[str, Sequence[int]], elements: int
) -> Cost:
    """The cost with what hangs on data set so that the first output comes out as measured."""
    first = next(iter(found.outputs.values()), None)
    if DATA not in found.assumed or not elements or not first or not math.prod(first):
        return found
    length = max(1, round(found.assumed[DATA] * elements / math.prod(first)))
    return cost(model.path, {DATA: length}, shapes)


def _voice(made: Plan, model: ModelRef, item: WorkItem, heard: Item | None) -> None:
    """A Piper voice: all the audio of a text, taken as one sentence."""
    phonemes = PHONEMES_PER_LETTER * len(item.text) + PHONEMES_MORE
    shapes: dict[str, list[int]] = {}
    for port in model.inspection.inputs:
        fixed = [one if isinstance(one, int) else 1 for one in port.shape]
        shapes[port.name] = [1, phonemes] if port.name == "input" else fixed
    found = cost(model.path, shapes=shapes)
    if heard is not None and heard.output.endswith(" s"):
        samples = round(float(heard.output.removesuffix(" s")) * _sample_rate(model.path))
        found = _drawn_out(model, found, shapes, samples)
    made.add(found)
    made.note("roofline_phonemes", letters=str(PHONEMES_PER_LETTER))
    made.floors.append(Planned(item.id, "inference", item.seconds, (_work(found),)))


def _sample_rate(path: Path) -> int:
    config = json.loads(path.with_name(path.name + ".json").read_bytes())
    return int(config["audio"]["sample_rate"])


# Language models ---------------------------------------------------------------------------------


def _language_model(made: Plan, model: ModelRef, item: WorkItem, heard: Item | None) -> None:
    new = (heard.new_tokens if heard else item.new_tokens) or NEW_TOKENS
    inputs = model.inspection.inputs
    first = cost(model.path, shapes=step_shapes(inputs, item.tokens, 0))
    # The tokens after the first are timed together: their mean has so many before it.
    past = item.tokens + (new - 1) // 2
    later = cost(model.path, shapes=step_shapes(inputs, 1, past))
    made.add(first)
    made.add(later)
    length = float(item.tokens)
    made.floors += [
        Planned(item.id, "prefill", length, (_work(first, "prefill"),)),
        Planned(item.id, "decode", length, (_work(later, "decode"),)),
    ]


def step_shapes(
    inputs: Sequence[Port], tokens: int, past: int, crossed: int = 0
) -> dict[str, list[int]]:
    """Returns the shapes of a decoder's inputs for one step.

    Args:
        inputs: As declared.
        tokens: That come in.
        past: Tokens before them.
        crossed: Positions of an encoder's output.
    """
    shapes = {}
    for port in inputs:
        name = port.name.lower()
        length = tokens
        if "mask" in name:
            length = past + tokens
        elif "cross" in name or "encoder" in name:
            length = crossed
        elif "past" in name:
            length = past
        shapes[port.name] = _filled(port, length)
    return shapes


def _filled(port: Port, length: int) -> list[int]:
    """A port's shape for a batch of one and that length."""
    return [
        size if isinstance(size, int) else 1 if axis == 0 else length
        for axis, size in enumerate(port.shape)
    ]


# Whisper -----------------------------------------------------------------------------------------


def _whisper_onnx(made: Plan, model: ModelRef, item: WorkItem, heard: Item | None) -> None:
    options = {**registry.find(model.engine).defaults, **model.options}
    silence = whisper_window.silence_frames(options.get("context", "full"))
    spoken = math.ceil(item.seconds * whisper_window.FRAMES_A_SECOND)
    windows = max(1, math.ceil(spoken / whisper_window.FRAMES))
    frames = whisper_window.lengths(min(spoken, whisper_window.FRAMES), silence)[0]
    encoder, decoder = (model.path / name for name in ("encoder.onnx", "decoder.onnx"))
    features = check_onnx(encoder).inspection.inputs
    shapes = {one.name: _filled(one, frames) for one in features}
    tokens = max(1.0, _tokens(made, model.path, item, heard) / windows)
    inputs = check_onnx(decoder).inspection.inputs
    found = {
        "encoder": cost(encoder, shapes=shapes),
        "prefill": cost(decoder, shapes=step_shapes(inputs, PROMPT, 0, frames // 2)),
        "decode": cost(
            decoder, shapes=step_shapes(inputs, 1, PROMPT + round(tokens / 2), frames // 2)
        ),
    }
    for one in found.values():
        made.add(one)
    times = {"encoder": windows, "prefill": windows, "decode": windows * tokens}
    works = tuple(_work(one, name, times[name]) for name, one in found.items())
    made.floors.append(Planned(item.id, "inference", item.seconds, works))


def _whisper_ctranslate2(made: Plan, model: ModelRef, item: WorkItem, heard: Item | None) -> None:
    options = {**registry.find(model.engine).defaults, **model.options}
    samples = item.seconds * SPEECH_RATE
    windows = max(1, math.ceil(samples / SPEECH_RATE / 30))
    tokens = max(1.0, _tokens(made, model.path, item, heard) / windows)
    found = whisper_cost(
        model.path, options.get("compute_type", "int8"), PROMPT, PROMPT + round(tokens / 2)
    )

    def work(part: Part, name: str, times: float) -> Work:
        return Work(part.bytes, dict(part.macs), times, name)

    works = (
        work(found.encoder, "encoder", windows),
        work(found.prefill, "prefill", windows),
        work(found.step, "decode", windows * tokens),
    )
    made.floors.append(Planned(item.id, "inference", item.seconds, works))


def _tokens(made: Plan, folder: Path, item: WorkItem, heard: Item | None) -> int:
    """Tokens of the transcript that was given, or else of the reference.

    Random weights come without a tokenizer, and what they give are the numbers of the tokens.
    """
    text = (heard.output if heard else "") or item.text
    file = folder / "tokenizer.json"
    if file.is_file():
        try:
            from tokenizers import Tokenizer

            tokenizer: Any = Tokenizer.from_file(str(file))
            return len(tokenizer.encode(text, add_special_tokens=False).ids)
        except Exception:
            # Not installed, or a tokenizer of another kind: words tell nearly as well.
            made.note("roofline_tokens", ratio=str(TOKENS_PER_WORD))
    elif heard and heard.output and all(word.isdecimal() for word in text.split()):
        return len(text.split())
    else:
        made.note("roofline_tokens", ratio=str(TOKENS_PER_WORD))
    return round(TOKENS_PER_WORD * len(text.split()))
