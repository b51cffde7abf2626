"""What rows of a history tell when put in the order of time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vozmetro.judge.interval import ASSUMED_SPREAD, LEAST_SPREAD, Interval
from vozmetro.judge.rows import Row

if TYPE_CHECKING:
    from vozmetro.judge.statistics import RunSummary

_REFERENCES = 10  # earlier runs that a row is held against
# 97.5 % quantiles of the normal distribution and of Student's with 1 to 9 degrees of freedom: scipy
# knows them too, and takes longer to import than a trend of 10,000 runs to answer.
_NORMAL = 1.959964
_STUDENT = (
    12.706205,
    4.302653,
    3.182446,
    2.776445,
    2.570582,
    2.446912,
    2.364624,
    2.306004,
    2.262157,
)


@dataclass(frozen=True)
class Change:
    """A row against an earlier one.

    Attributes:
        ratio: Later / earlier; the interval is that of the samples of the two runs alone.
    """

    ratio: Interval


@dataclass(frozen=True)
class Point:
    """A row of a trend.

    Attributes:
        row: What was measured.
        value: The metric with its interval.
        first: Against the group's first row; None for that one.
        previous: Against the one before; None for the first.
        mark: `slower` or `faster` (for other metrics: higher or lower) where the change against
            the runs before is beyond what runs differ by themselves; else empty.
    """

    row: Row
    value: Interval
    first: Change | None
    previous: Change | None
    mark: str


@dataclass(frozen=True)
class Trend:
    """The same subject on the same machine over time.

    Attributes:
        subject: Short name.
        machine: Where.
        threads: Of the engine.
        clock: What a latency spans.
        points: In the order of time.
    """

    subject: str
    machine: str
    threads: int
    clock: str
    points: tuple[Point, ...] = field(default=())


def trends(rows: Iterable[Row], metric: str) -> list[Trend]:
    """Returns the trends of a metric, one for each subject, machine, threads and clock.

    Rows that do not have the metric, or are not complete, are left out.

    Args:
        rows: In any order.
        metric: One of `rows.METRICS`.
    """
    groups: dict[tuple[str, str, int, str], list[Row]] = {}
    for row in sorted(rows, key=lambda one: (one.at or 0.0, one.id, one.part)):
        if row.metric(metric) is not None and row.state == "complete":
            key = (row.subject, row.machine, row.threads, row.clock)
            groups.setdefault(key, []).append(row)
    return [
        Trend(group[0].name, machine, threads, clock, tuple(_points(group, metric)))
        for (_, machine, threads, clock), group in groups.items()
    ]


def _points(rows: Sequence[Row], metric: str) -> list[Point]:
    known = [row.metric(metric) for row in rows]
    values = [one for one in known if one is not None]
    points = []
    for index, (row, value) in enumerate(zip(rows, values, strict=True)):
        before = values[max(0, index - _REFERENCES) : index]
        points.append(
            Point(
                row=row,
                value=value,
                first=Change(ratio(value, values[0])) if index else None,
                previous=Change(ratio(value, before[-1])) if before else None,
                mark=_mark(value, before),
            )
        )
    return points


def ratio(later: Interval, earlier: Interval) -> Interval:
    """Returns the ratio of two independent estimates with the interval that their own give.

    On logarithms, ends from the distances to the ends of both (G. Y. Zou and A. Donner,
    "Construction of confidence limits about effect measures: a general approach", Statistics in
    Medicine 27, 2008). An end is None where one of those that it rests on is.

    Args:
        later: Positive estimate.
        earlier: Positive estimate.
    """
    if later.value <= 0 or earlier.value <= 0:
        return Interval(math.nan, None, None)
    change = math.log(later.value / earlier.value)
    low = _reach(_below(later), _above(earlier))
    high = _reach(_above(later), _below(earlier))
    return Interval(
        math.exp(change),
        None if low is None else math.exp(change - low),
        None if high is None else math.exp(change + high),
    )


def item_ratio(later: RunSummary, earlier: RunSummary) -> Interval | None:
    """Returns the ratio of two runs' P50 over the same items, held together item by item.

    The geometric mean over items of the ratio of the item's medians; what items differ by among
    themselves is in neither the ratio nor its interval.

    Args:
        later: Statistics of a run.
        earlier: Of one with the same items; their samples are independent.

    Returns:
        None where their items are not the same, or an item's interval is not resolved.
    """
    if not later.per_item or later.per_item.keys() != earlier.per_item.keys():
        return None
    found = [ratio(one.p50, earlier.per_item[name].p50) for name, one in later.per_item.items()]
    logs = [
        (math.log(one.value), math.log(one.value / one.low), math.log(one.high / one.value))
        for one in found
        if one.low and one.high
    ]
    if len(logs) < len(found):
        return None
    change = sum(one[0] for one in logs) / len(logs)
    low, high = (math.hypot(*(one[side] for one in logs)) / len(logs) for side in (1, 2))
    return Interval(math.exp(change), math.exp(change - low), math.exp(change + high))


def _below(one: Interval) -> float | None:
    return math.log(one.value / one.low) if one.low and one.low > 0 else None


def _above(one: Interval) -> float | None:
    return math.log(one.high / one.value) if one.high and one.high > 0 else None


def _reach(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else math.hypot(one, other)


def _mark(value: Interval, before: Sequence[Interval]) -> str:
    """Says whether a value is beyond what the runs before it differ by, as the gate would."""
    known = [math.log(one.value) for one in before if one.value > 0]
    if not known or value.value <= 0:
        return ""
    mean = sum(known) / len(known)
    if len(known) == 1:
        reach = _NORMAL * ASSUMED_SPREAD * math.sqrt(2)
    else:
        df = len(known) - 1
        spread = math.sqrt(sum((one - mean) ** 2 for one in known) / df)
        reach = _STUDENT[df - 1] * max(spread, LEAST_SPREAD) * math.sqrt(1 + 1 / len(known))
    change = math.log(value.value) - mean
    return "" if abs(change) <= reach else "slower" if change > 0 else "faster"
