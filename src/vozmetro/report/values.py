"""Metrics of runs and their changes in words, for the gate and the history."""

from __future__ import annotations

from vozmetro.i18n import t
from vozmetro.judge.interval import Interval
from vozmetro.report.formatting import number as plain_number
from vozmetro.units import percent, size


def metric_name(metric: str, lang: str) -> str:
    """Returns what a metric is called."""
    return t(f"gate.metric_{metric}", lang)


def value(metric: str, number: float | None) -> str:
    """Returns a metric with its unit: `180.3 ms`, `91.0 MB`, `12.4 %`, `0.213`; `–` for none."""
    if number is None:
        return "–"
    if metric == "wer":
        return f"{100 * number:.1f} %"
    if metric == "rtf":
        return f"{number:.3f}" if number >= 0.001 else f"{number:.2g}"
    return size(number) if metric == "peak_ram" else f"{plain_number(number)} ms"


def ratio(interval: Interval) -> str:
    """Returns a ratio as a change in percent with its interval, `–` for ends that are not known."""
    low, high = (percent(one, 1).removesuffix("%") for one in (interval.low, interval.high))
    middle = percent(interval.value, 1).replace("%", " %")
    return f"{middle} [{low}, {high}]"
