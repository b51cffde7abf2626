"""Models with random weights by name: `dummy:ARCHITECTURE:PRECISION`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from vozmetro.errors import InputError
from vozmetro.models import architectures
from vozmetro.models.architectures import Architecture
from vozmetro.models.convert.builder import Precision
from vozmetro.models.inspection import onnx_ram

PREFIX = "dummy:"
"""Written before the architecture's name."""
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
# Where each kind of model keeps its main stack of layers: component, path in its configuration.
_STACKS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "qwen3_vl": ("text", ("text_config",)),
    "qwen3_omni_moe": ("thinker", ("thinker_config", "text_config")),
}


@dataclass(frozen=True)
class Dummy:
    """A model to be made.

    Attributes:
        name: As the user wrote it.
        architecture: What it is.
        precision: `fp32`, `int8` or `int4`.
        seed: Of its weights.
    """

    name: str
    architecture: Architecture
    precision: Precision
    seed: int = 0

    @property
    def stack(self) -> str:
        """The component with the main stack of layers; empty where there is none to cut."""
        return _STACKS.get(str(self.architecture.config["model_type"]), ("", ()))[0]

    @property
    def full_layers(self) -> int:
        """Layers of that stack; 0 where there is none."""
        _, keys = _STACKS.get(str(self.architecture.config["model_type"]), ("", ()))
        if not keys:
            return 0
        table = self.architecture.config
        for key in keys:
            table = table[key]
        return int(table["num_hidden_layers"])

    @property
    def components(self) -> tuple[str, ...]:
        """The graphs that it is made of."""
        return self.architecture.graphs

    @property
    def parameters(self) -> int:
        """Parameters of what is measured: without the part that sees images."""
        counted = [part for part in self.architecture.components if part != "vision"]
        return sum(self.architecture.parameters(part) for part in counted)

    @property
    def expected_ram(self) -> int:
        """Bytes that all of it is expected to need, by the shapes of its tensors."""
        from vozmetro.models.dummy import stored_bytes

        stored = {
            self.precision.upper(): sum(
                stored_bytes(self.architecture.shapes(part), self.precision, 128)
                for part in self.architecture.components
                # What sees images is no part of what is measured.
                if part != "vision"
            )
        }
        return onnx_ram({}, stored)

    def ram_of(self, graph: str, layers: int | None = None) -> int:
        """Returns the bytes that one graph is expected to need, with only so many layers."""
        from vozmetro.models.dummy import graph_shapes, stored_bytes

        shapes = graph_shapes(self.architecture.config, graph, layers)
        return onnx_ram({}, {self.precision.upper(): stored_bytes(shapes, self.precision, 128)})


def is_dummy(words: str) -> bool:
    """Returns whether a subject is named as a model with random weights."""
    return words.startswith(PREFIX)


def parse(words: str, seed: int = 0) -> Dummy:
    """Reads `dummy:ARCHITECTURE:PRECISION`.

    Args:
        words: As the user wrote them.
        seed: Of the weights.

    Raises:
        InputError: `dummy_name`, `dummy_cascade` for one of several stages, or
            `architecture_unknown`.
    """
    if "+" in words:
        raise InputError("dummy_cascade", given=words, alone=words.partition("+")[0])
    name, _, precision = words.removeprefix(PREFIX).partition(":")
    if not is_dummy(words) or precision not in PRECISIONS:
        known = ", ".join(architectures.names())
        fields = {"known": known, "precisions": ", ".join(PRECISIONS)}
        raise InputError("dummy_name", given=words, **fields)
    return Dummy(words, architectures.load(name), precision, seed)


def built(
    dummy: Dummy,
    components: Sequence[str],
    layers: int | None = None,
    listen: Callable[[str, int, int], None] = lambda _part, _made, _total: None,
) -> dict[str, Path]:
    """Returns the graphs of these components, made now or found in the cache.

    Args:
        dummy: The model.
        components: Of its components.
        layers: Only so many layers of them; None for all.
        listen: Told the component, and how many of how many weights are made.

    Raises:
        InputError: `dummy_layers`.
        ModelError: They cannot be written.
    """
    from vozmetro.models.dummy import write

    chosen = list(components)
    place = write(
        dummy.architecture.name,
        dummy.precision,
        layers,
        seed=dummy.seed,
        listen=listen,
        components=chosen,
    )
    if len(dummy.components) == 1:
        return {chosen[0]: place}
    return {part: place / f"{part}.onnx" for part in chosen}
