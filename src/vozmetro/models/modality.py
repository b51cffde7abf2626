"""What a model takes and gives: audio, text, images, video. Decides whether it can hear at all.

A file's own ports say what that file takes. What the whole model takes, of which the file may be
one part, is said by its metadata, the `config.json` beside it, or, weakest, by its name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vozmetro.models import safety
from vozmetro.models.checks import Remark
from vozmetro.models.inspection import Inspection, Port

Kind = Literal["audio", "text", "image", "video", "features", "codes"]
Evidence = Literal["ports", "metadata", "config.json", "name", "format"]

_ORDER: tuple[Kind, ...] = ("text", "image", "video", "audio", "features", "codes")


@dataclass(frozen=True)
class Family:
    """Models that take and give the same.

    Attributes:
        pattern: Of `model_type`, an architecture's class, or a name; lower case, `_` for all else.
        inputs: What they take.
        outputs: What they give.
    """

    pattern: str
    inputs: tuple[Kind, ...]
    outputs: tuple[Kind, ...]


FAMILIES = (
    Family(r"qwen[\d_]*omni", ("text", "image", "video", "audio"), ("text", "audio")),
    Family(r"qwen[\d_]*vl", ("text", "image", "video"), ("text",)),
    Family(r"qwen[\d_]*audio", ("text", "audio"), ("text",)),
    Family(
        r"whisper|wav2vec2|hubert|wavlm|moonshine|parakeet|sense_?voice|speech_to_text|zipformer",
        ("audio",),
        ("text",),
    ),
    Family(r"vits|piper|kokoro|speecht5|bark", ("text",), ("audio",)),
    Family(r"encodec|mimi|snac|dac_", ("audio",), ("audio",)),
    Family(r"llava|paligemma|idefics|mllama|internvl|smolvlm", ("text", "image"), ("text",)),
    Family(
        r"qwen|llama|mistral|smollm|gpt|phi\d?|gemma|falcon|olmo|granite|lfm", ("text",), ("text",)
    ),
)
"""In order: the first that matches. Sources: the models' public cards."""
VISION_LANGUAGE = FAMILIES[1]
_TASKS: Mapping[str, tuple[tuple[Kind, ...], tuple[Kind, ...]]] = {
    "language-model": (("text",), ("text",)),
    "whisper-encoder": (("audio",), ("features",)),
    "whisper-decoder": (("text", "features"), ("text",)),
    "audio-encoder": (("audio",), ("features",)),
    "talker": (("features",), ("codes",)),
    "code-predictor": (("codes",), ("codes",)),
    "code2wav": (("codes",), ("audio",)),
}
"""Of `vozmetro.task` in the metadata of graphs that vozmetro writes."""
_SUB_CONFIGS: tuple[tuple[str, Kind], ...] = (
    ("text_config", "text"),
    ("vision_config", "image"),
    ("audio_config", "audio"),
    ("speech_config", "audio"),
)
_CARRIED = re.compile(
    r"past|present|cache|cross\.|mask|position|length|len$|_lens?$|scales|^sid$|^sr$"
)
"""Names of ports that carry state or shape, and no content."""
_SEEN: tuple[tuple[str, Kind], ...] = (("video", "video"), ("pixel|image|img", "image"))
# What a port is for by its name, the first pattern that is found, for each kind of values.
_STRINGS: tuple[tuple[str, Kind], ...] = (("", "text"),)
_FLOATS: tuple[tuple[str, Kind], ...] = (
    *_SEEN,
    (r"audio|wav|speech|pcm|mel|fbank|sound|signal|^input_(features|values)$", "audio"),
    (r"encoder|hidden|embed|feature", "features"),
)
_INTEGERS: tuple[tuple[str, Kind], ...] = (
    *_SEEN,
    (r"audio|wave|pcm|speech", "audio"),
    (r"(^|_)codes?$", "codes"),
    (r"(^|_)ids?$|token|text|phoneme|^input$|^x$", "text"),
)
_OUTPUTS: tuple[tuple[str, Kind], ...] = (
    (r"logits|(^|_)ids?$|token|text", "text"),
    (r"audio|wav|speech|pcm|sound", "audio"),
    (r"hidden|embed|feature|encoder", "features"),
    (r"(^|_)codes?$", "codes"),
)
_MEL_BANDS = frozenset({80, 128})


@dataclass(frozen=True)
class Modality:
    """What a file, and the model that it is part of, take and give.

    Attributes:
        inputs: Of the file; empty where its ports do not tell.
        outputs: Of the file.
        name: What the model calls itself; empty where nothing says.
        model_inputs: Of the whole model, None where only the file is known.
        model_outputs: Of the whole model.
        evidence: Where this is from.
    """

    inputs: tuple[Kind, ...]
    outputs: tuple[Kind, ...]
    name: str = ""
    model_inputs: tuple[Kind, ...] | None = None
    model_outputs: tuple[Kind, ...] | None = None
    evidence: tuple[Evidence, ...] = ()

    @property
    def hears(self) -> bool | None:
        """Whether the model has an audio input; None where nothing tells."""
        known = self.model_inputs if self.model_inputs is not None else self.inputs
        if "audio" in self.inputs or "audio" in known:
            return True
        return False if known else None

    @property
    def is_vision_language(self) -> bool:
        """Whether it is one of Qwen's models that see and read, often taken for voice models."""
        family = _family([self.name])
        return family is VISION_LANGUAGE


def decide(path: Path, parts: Iterable[Inspection]) -> Modality:
    """Returns what a model takes and gives.

    Args:
        path: The file or folder; `config.json` is looked for in it, or beside it and one above.
        parts: Its graphs.
    """
    inspected = list(parts)
    inputs, outputs = _of_files(inspected)
    evidence: list[Evidence] = ["ports"] if inputs or outputs else []
    for name, source in _names(path, inspected):
        family = _family([name])
        if family is not None:
            return Modality(
                inputs, outputs, name, family.inputs, family.outputs, (*evidence, source)
            )
    config = _config(path)
    kinds = [kind for key, kind in _SUB_CONFIGS if config and isinstance(config.get(key), dict)]
    if config and kinds:
        name = str(config.get("model_type", ""))
        return Modality(inputs, outputs, name, _sorted(kinds), None, (*evidence, "config.json"))
    return Modality(inputs, outputs, evidence=tuple(evidence))


def _names(path: Path, parts: list[Inspection]) -> Iterable[tuple[str, Evidence]]:
    """Yields what the model is called, the surest first."""
    for part in parts:
        said = part.marks.get("vozmetro.architecture")
        if said:
            yield said, "metadata"
    config = _config(path) or {}
    for said in (config.get("model_type"), *_strings(config.get("architectures"))):
        if isinstance(said, str):
            yield said, "config.json"
    if any(part.format == "CTranslate2" for part in parts):
        yield "whisper", "format"
    yield path.stem if path.suffix else path.name, "name"
    yield path.absolute().parent.name, "name"


def _strings(value: Any) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def _config(path: Path) -> dict[str, Any] | None:
    folders = [path] if path.is_dir() else [path.absolute().parent, path.absolute().parent.parent]
    found = (safety.read_json(folder / "config.json") for folder in folders)
    return next((config for config in found if config), None)


def _family(names: Iterable[str]) -> Family | None:
    for name in names:
        plain = re.sub(r"[^a-z0-9]+", "_", name.lower())
        for family in FAMILIES:
            # At the start of a word: `my-qwen3`, but not `disgpt`.
            if re.search(rf"(?:^|_)(?:{family.pattern})", plain):
                return family
    return None


def _of_files(parts: list[Inspection]) -> tuple[tuple[Kind, ...], tuple[Kind, ...]]:
    taken: list[Kind] = []
    given: list[Kind] = []
    for part in parts:
        task = _TASKS.get(part.marks.get("vozmetro.task", ""))
        if task is not None:
            taken += task[0]
            given += task[1]
            continue
        if part.format == "CTranslate2":
            taken.append("audio")
            given.append("text")
            continue
        voice = {"input", "input_lengths", "scales"} <= {port.name for port in part.inputs}
        taken += ["text"] if voice else [k for p in part.inputs if (k := _taken(p))]
        given += ["audio"] if voice else [k for p in part.outputs if (k := _given(p))]
    return _sorted(taken), _sorted(given)


def _sorted(kinds: Iterable[Kind]) -> tuple[Kind, ...]:
    there = set(kinds)
    return tuple(kind for kind in _ORDER if kind in there)


def _taken(port: Port) -> Kind | None:
    """Returns what an input is for, by its name, dtype and shape."""
    name = port.name.lower()
    if _CARRIED.search(name):
        return None
    floats = port.dtype.startswith(("float", "bfloat"))
    found = _first(_STRINGS if port.dtype == "string" else _FLOATS if floats else _INTEGERS, name)
    if found is not None or not floats:
        return found
    # Frames of as many mel bands as speech models use, whatever the input is called.
    bands = len(port.shape) == 3 and bool(_MEL_BANDS & set(port.shape[1:]))
    return "audio" if bands or "samples" in port.shape else None


def _given(port: Port) -> Kind | None:
    name = port.name.lower()
    if _CARRIED.search(name):
        return None
    return _first(_STRINGS if port.dtype == "string" else _OUTPUTS, name)


def _first(rules: Iterable[tuple[str, Kind]], name: str) -> Kind | None:
    return next((kind for pattern, kind in rules if re.search(pattern, name)), None)


def remarks(modality: Modality, name: str, claimed: str | None) -> list[Remark]:
    """Returns what to tell somebody who takes a model for what it is not.

    Args:
        modality: What was decided.
        name: What the user calls it.
        claimed: `audio` where somebody says that it is an audio model.

    Returns:
        Codes of the catalogues' `models.` section.
    """
    fields = {"name": name}
    if modality.hears is False and modality.is_vision_language:
        return [Remark("vision_language", {**fields, "model": modality.name})]
    if claimed != "audio":
        return []
    if modality.hears is None:
        return [Remark("claim_unknown", fields)]
    if not modality.hears:
        return [Remark("claim_deaf", fields)]
    if "audio" not in modality.inputs:
        return [Remark("claim_elsewhere", fields)]
    return []
