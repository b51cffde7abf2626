"""Rows of the history: what a record comes to. Nothing here takes long to import."""

from __future__ import annotations

import math
from dataclasses import dataclass

from vozmetro.judge.interval import Interval

METRICS = ("p50", "p90", "p99", "rtf", "load", "first", "peak_ram", "wer")
"""What a trend may follow. All are better where they are lower."""
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
