"""Random weights for exact architectures: what speed a model would have, without the model.

Speed depends on shapes and bytes, hardly on values; three things must hold all the same. Every
tensor has bytes of its own (ONNX Runtime keeps equal initializers once, which made a model of
tiled weights use a third of its memory and run a quarter faster). Nothing is zero (some kernels
and all compressing disks are faster on zeros). Tokens go to different experts (`MoeFeed.forced`).
What such a model says means nothing: every file is marked `weights: dummy`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vozmetro.errors import ModelError
from vozmetro.models import tensors
from vozmetro.models.convert.source import Weights

CHUNK = 1 << 20
"""Elements that come from one random stream, so that any rows can be made without the others."""
DEVIATION = 0.02
"""Standard deviation of the weights, the usual one at the start of training."""
_ODD = np.uint64(0x0101010101010101)
_SCALE = np.float32(DEVIATION / math.sqrt(sum(n * n for n in range(1, 128, 2)) / 64))


class DummySource:
    """Implements `WeightSource` and `RowSource` with random weights of an architecture.

    A weight is an odd number of 8 bits, scaled: never zero, without bias, and about as fast to
    make as to write to memory. A tensor's values depend on its name and the seed alone.

    Args:
        config: As in `config.json`.
        components: Of the architecture, as `tensors.components` names them; none for all.
        seed: Other seeds give other weights.
        told: Called with the number of weights made, each time some were.
    """

    weights: Literal["real", "dummy"] = "dummy"

    def __init__(
        self,
        config: Mapping[str, Any],
        *components: str,
        seed: int = 0,
        told: Callable[[int], None] = lambda _: None,
    ) -> None:
        chosen = components or tensors.components(config)
        self._shapes = {
            name: shape
            for component in chosen
            for name, shape in tensors.shapes(config, component).items()
        }
        self._seed = seed
        self._told = told

    def names(self) -> Sequence[str]:
        """See `WeightSource.names`."""
        return list(self._shapes)

    def shape(self, name: str) -> tuple[int, ...]:
        """See `WeightSource.shape`."""
        if name not in self._shapes:
            raise ModelError("weight_missing", path="dummy", name=name)
        return self._shapes[name]

    def read(self, name: str) -> Weights:
        """See `WeightSource.read`."""
        shape = self.shape(name)
        return self._made(name, 0, math.prod(shape)).reshape(shape)

    def read_rows(self, name: str, start: int, stop: int) -> Weights:
        """See `RowSource.read_rows`: the same values as `read`, whatever the range."""
        shape = self.shape(name)
        start, stop, _ = slice(start, stop).indices(shape[0])
        row = math.prod(shape[1:])
        stop = max(start, stop)
        return self._made(name, start * row, stop * row).reshape(stop - start, *shape[1:])

    def _made(self, name: str, start: int, stop: int) -> NDArray[np.float32]:
        """Makes the elements from number `start` to before `stop` of a tensor."""
        out = np.empty(stop - start, np.float32)
        digest = hashlib.sha256(f"{self._seed}/{name}".encode()).digest()
        key = np.frombuffer(digest, "<u4").tolist()
        for chunk in range(start // CHUNK, -(-stop // CHUNK)):
            first, last = max(start - chunk * CHUNK, 0), min(stop - chunk * CHUNK, CHUNK)
            stream = np.random.SFC64(np.random.SeedSequence([*key, chunk]))
            raw = stream.random_raw(-(-last // 8))
            raw |= _ODD
            place = out[chunk * CHUNK + first - start : chunk * CHUNK + last - start]
            # Little-endian, so that the same seed means the same weights on every machine.
            place[:] = raw.astype("<u8", copy=False).view(np.int8)[first:last]
        out *= _SCALE
        if _is_norm(name):
            out += 1
        self._told(len(out))
        return out


def _is_norm(name: str) -> bool:
    """Whether a tensor scales what was normalized: such weights lie around one."""
    kind = name.split(".")[-2] if name.endswith(".weight") else ""
    return "norm" in kind or kind in {"ln_q", "ln_post"}
