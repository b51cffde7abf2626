"""Where the weights of a conversion come from: named tensors, read one at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Weights = NDArray[np.float32]


class WeightSource(Protocol):
    """Named weights in the layout and under the names of Hugging Face's `transformers`.

    Only one tensor need be in memory at a time, so that a model of any size can be converted.

    Attributes:
        weights: `dummy` where they are random.
    """

    weights: Literal["real", "dummy"]

    def names(self) -> Sequence[str]:
        """Returns the names of all tensors."""

    def shape(self, name: str) -> tuple[int, ...]:
        """Returns a tensor's shape without reading it.

        Raises:
            ModelError: `weight_missing`.
        """

    def read(self, name: str) -> Weights:
        """Returns a tensor as float32, C-contiguous, owned by the caller.

        Linear weights are [outputs, inputs], as PyTorch stores them.

        Raises:
            ModelError: `weight_missing`, or the file is damaged.
        """


@runtime_checkable
class RowSource(Protocol):
    """A `WeightSource` that can also read a part of a large table."""

    def read_rows(self, name: str, start: int, stop: int) -> Weights:
        """Returns the rows `start` to `stop` of a matrix, equal to `read(name)[start:stop]`."""


class Rows:
    """Matrices of one source on top of each other, [outputs, inputs], read by row ranges.

    A table of 151936 tokens by 2560 floats is 1.5 GB: its reader asks for a part at a time. From a
    source that has no `read_rows`, a matrix is read whole and kept until the next is asked for.

    Args:
        source: Where the matrices are.
        names: Their names, top first; they must have the same width.
    """

    def __init__(self, source: WeightSource, *names: str) -> None:
        self._source = source
        self._parts = [(name, source.shape(name)) for name in names]
        self._kept: tuple[str, Weights] | None = None
        self.shape = (sum(shape[0] for _, shape in self._parts), self._parts[0][1][1])

    def read(self, start: int, stop: int) -> Weights:
        """Returns the rows `start` to `stop`, float32, C-contiguous."""
        found, offset = [], 0
        for name, (count, _) in self._parts:
            first, last = max(start - offset, 0), min(stop - offset, count)
            if first < last:
                found.append(self._part(name, first, last, count))
            offset += count
        return found[0] if len(found) == 1 else np.concatenate(found)

    def _part(self, name: str, first: int, last: int, count: int) -> Weights:
        if (first, last) != (0, count) and isinstance(self._source, RowSource):
            return self._source.read_rows(name, first, last)
        if self._kept is None or self._kept[0] != name:
            self._kept = None  # before the next is read: never two in memory
            self._kept = (name, self._source.read(name))
        return self._kept[1][first:last]
