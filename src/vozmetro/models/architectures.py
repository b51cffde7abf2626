"""Exact architectures of models that are measured without their weights, and their sizes.

The configurations are facts from public model cards (`architectures.json` says which); how many
parameters they make is counted here from the shapes of their tensors.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from vozmetro.errors import InputError
from vozmetro.models import tensors

GRAPHS = ("thinker", "talker", "code_predictor", "audio_encoder", "code2wav")
"""Components of Qwen3-Omni that graphs are written of."""


@dataclass(frozen=True)
class Architecture:
    """A model without its weights.

    Attributes:
        name: As users write it, e.g. `qwen3-vl-4b`.
        config: As in its Hugging Face `config.json`.
        published: Parameters of each component as published, rounded as there.
        source: Where the facts are from.
    """

    name: str
    config: Mapping[str, Any]
    published: Mapping[str, float]
    source: str

    @property
    def components(self) -> tuple[str, ...]:
        """Names of its parts, for `shapes` and `parameters`."""
        return tensors.components(self.config)

    @property
    def graphs(self) -> tuple[str, ...]:
        """Names of the components that dummy graphs are written of."""
        found = {"qwen3_vl": ("text",), "whisper": ("whisper",)}
        return found.get(str(self.config["model_type"]), GRAPHS)

    @property
    def sha256(self) -> str:
        """Identifies the exact configuration; kept in every file made from it."""
        return canonical_sha256(self.config)

    def shapes(self, component: str) -> dict[str, tuple[int, ...]]:
        """Returns the shape of every tensor of a component, by its name in `transformers`."""
        return tensors.shapes(self.config, component)

    def parameters(self, component: str | None = None) -> int:
        """Counts the parameters of one component, or of all; tied tensors once."""
        chosen = self.components if component is None else (component,)
        return sum(math.prod(shape) for one in chosen for shape in self.shapes(one).values())


def names() -> tuple[str, ...]:
    """Returns the names of all architectures."""
    return tuple(_facts()["architectures"])


def load(name: str) -> Architecture:
    """Returns an architecture by its name.

    Raises:
        InputError: `architecture_unknown`.
    """
    facts = _facts()
    found = facts["architectures"].get(name)
    if found is None:
        raise InputError("architecture_unknown", name=name, known=", ".join(names()))
    return Architecture(name, found["config"], found["published"], facts["source"])


def canonical_sha256(config: Mapping[str, Any]) -> str:
    """Returns the SHA-256 of a configuration, whatever the order of its keys."""
    text = json.dumps(config, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def _facts() -> Any:
    place = resources.files("vozmetro.models").joinpath("architectures.json")
    return json.loads(place.read_text(encoding="utf-8"))
