"""Rows of a history, and what they tell when put in the order of time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from vozmetro.judge.levels import ASSUMED_SPREAD, ratio_test
from vozmetro.judge.statistics import Interval

METRICS = ("p50", "p90", "p99", "rtf", "load", "first", "peak_ram", "wer")
"""What a trend may follow. All are better where they are lower."""
_REFERENCES = 10  # earlier runs that a row is held against
_COLUMNS = {
    "p50": "p50_ms",
    "p90": "p90_ms",
    "p99": "p99_ms",
    "rtf": "rtf",
    "load": "load_ms",
    "first": "first_ms",
    "peak_ram": "peak_ram",
    "wer": "wer",
}


@dataclass(frozen=True)
class Row:
    """One subject of one record. Times in ms, memory in bytes, rates as fractions.

    Numbers are None where the record does not have them.

    Attributes:
        file: The record's path.
        id: Of the run, or of the quality study.
        record: `run`, `comparison`, `quality`, or `unreadable`.
        part: `a` or `b` of a comparison, the number of a study's subject, else empty.
        created: As recorded, ISO 8601.
        at: The same in seconds since 1970; None where it is not a moment.
        subject: As the user named it.
        name: The same, short.
        model: First half of the digest of its files, empty for none.
        precision: `FP32`, `INT8`, ...
        kind: Of subject.
        machine: CPU, cores in use, device.
        threads: Of the engine.
        clock: What a latency spans.
        state: Status of the record: `complete`, ...
        verdict: `pass`, `fail` or `undecided` by the saved budget; empty where there is none.
        n: Samples, or utterances of a quality study.
        p50_low: Of the order-statistic interval of the P50, and so on.
        wer: Of what was heard of recorded speech, accents folded.
        vozmetro: Version that measured.
        detail: Why it could not be read; empty where it could.
    """

    file: str
    id: str = ""
    record: str = "run"
    part: str = ""
    created: str = ""
    at: float | None = None
    subject: str = ""
    name: str = ""
    model: str = ""
    precision: str = ""
    kind: str = ""
    machine: str = ""
    threads: int = 0
    clock: str = ""
    state: str = ""
    verdict: str = ""
    n: int = 0
    p50_ms: float | None = None
    p50_low: float | None = None
    p50_high: float | None = None
    p90_ms: float | None = None
    p90_low: float | None = None
    p90_high: float | None = None
    p99_ms: float | None = None
    p99_low: float | None = None
    p99_high: float | None = None
    rtf: float | None = None
    load_ms: float | None = None
    first_ms: float | None = None
    peak_ram: float | None = None
    wer: float | None = None
    wer_low: float | None = None
    wer_high: float | None = None
    vozmetro: str = ""
    detail: str = ""

    def metric(self, name: str) -> Interval | None:
        """Returns a metric with its interval, ends None where there is none; None if unknown."""
        value = getattr(self, _COLUMNS[name])
        if value is None or not math.isfinite(value):
            return None
        if name in ("p50", "p90", "p99", "wer"):
            return Interval(value, getattr(self, f"{name}_low"), getattr(self, f"{name}_high"))
        return Interval(value, None, None)


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


def trends(rows: Iterable[Row], metric: str, alpha: float = 0.05) -> list[Trend]:
    """Returns the trends of a metric, one for each subject, machine, threads and clock.

    Rows that do not have the metric, or are not complete, are left out.

    Args:
        rows: In any order.
        metric: One of METRICS.
        alpha: 1 - confidence.
    """
    groups: dict[tuple[str, str, int, str], list[Row]] = {}
    for row in sorted(rows, key=lambda one: (one.at or 0.0, one.id, one.part)):
        if row.metric(metric) is not None and row.state == "complete":
            key = (row.subject, row.machine, row.threads, row.clock)
            groups.setdefault(key, []).append(row)
    return [
        Trend(group[0].name, machine, threads, clock, tuple(_points(group, metric, alpha)))
        for (_, machine, threads, clock), group in groups.items()
    ]


def _points(rows: Sequence[Row], metric: str, alpha: float) -> list[Point]:
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
                mark=_mark(value, before, alpha),
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


def _below(one: Interval) -> float | None:
    return math.log(one.value / one.low) if one.low and one.low > 0 else None


def _above(one: Interval) -> float | None:
    return math.log(one.high / one.value) if one.high and one.high > 0 else None


def _reach(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else math.hypot(one, other)


def _mark(value: Interval, before: Sequence[Interval], alpha: float) -> str:
    """Says whether a value is beyond what the runs before it differ by, as the gate would."""
    positive = [math.log(one.value) for one in before if one.value > 0]
    if not positive or value.value <= 0:
        return ""
    found = ratio_test([math.log(value.value)], positive, alpha=alpha)
    low, high = found.ratio.low, found.ratio.high
    if low is not None and low > 1:
        return "slower"
    return "faster" if high is not None and high < 1 else ""


__all__ = ["ASSUMED_SPREAD", "METRICS", "Change", "Point", "Row", "Trend", "ratio", "trends"]
