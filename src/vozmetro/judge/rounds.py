"""A run as a table of rounds: each complete round holds every item once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vozmetro.errors import InputError
from vozmetro.judge.stationarity import Floats, Ints
from vozmetro.measure.records import Run


@dataclass(frozen=True)
class Rounds:
    """Latencies by round and item.

    The population that verdicts speak of is the equal-weight mix of the items, so only complete
    rounds count: a half round would weigh some items more than others.

    Attributes:
        items: `Item.id` of each column.
        ms: Latencies in ms, shape [R, M].
        order: Column that was taken j-th in each round, shape [R, M].
        numbers: `Sample.round` of each row.
    """

    items: tuple[str, ...]
    ms: Floats
    order: Ints
    numbers: tuple[int, ...]


def rounds_of(run: Run) -> Rounds:
    """Returns the complete rounds of a run, in the order of their numbers."""
    items = tuple(item.id for item in run.items)
    column = {item: index for index, item in enumerate(items)}
    table: dict[int, dict[int, float]] = {}
    for sample in run.samples:
        place = column.get(sample.item)
        if place is not None:
            table.setdefault(sample.round, {})[place] = sample.ms
    whole = [number for number in sorted(table) if len(table[number]) == len(items)]
    shape = (len(whole), len(items))
    # A dict keeps the order of insertion, which is the order in which the items were taken.
    order = np.array([list(table[number]) for number in whole], np.int64).reshape(shape)
    taken = np.array([list(table[number].values()) for number in whole], float).reshape(shape)
    ms = np.empty(shape)
    np.put_along_axis(ms, order, taken, axis=1)
    return Rounds(items, ms, order, tuple(whole))


def rounds_of_samples(ms: Sequence[float]) -> Rounds:
    """Returns plain latencies as rounds of one item.

    Raises:
        InputError: `samples_invalid` where there are none, or one is not a positive number.
    """
    values = np.asarray(ms, float)
    if values.ndim != 1 or not len(values):
        raise InputError("samples_invalid", detail=f"n = {len(values) if values.ndim else 0}")
    wrong = values[~(np.isfinite(values) & (values > 0))]
    if len(wrong):
        raise InputError("samples_invalid", detail=f"{wrong[0]:g} ms")
    order = np.zeros((len(values), 1), np.int64)
    return Rounds(("samples",), values[:, np.newaxis], order, tuple(range(len(values))))
