"""The limits that a voice model must keep, and which of them gate the verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vozmetro.errors import InputError
from vozmetro.units import GB

METRICS = ("p50", "p90", "p99", "throughput", "ram")
"""What a budget limits, in the order of the guide's table."""

QUALITY_METRICS = ("wer", "wer_delta", "snr_double", "mos")
"""What a budget may limit beside METRICS, in this order; without a limit nothing is asked."""

PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
"""Latency metrics and the probability of each."""

# TOML key of [limits] -> (attribute of Budget, its unit in base units).
_LIMIT_KEYS = {
    "p50_ms": ("p50_ms", 1.0),
    "p90_ms": ("p90_ms", 1.0),
    "p99_ms": ("p99_ms", 1.0),
    "throughput_per_s": ("throughput", 1.0),
    "ram_gb": ("ram_bytes", float(GB)),
    "slow_ms": ("slow_ms", 1.0),
}
# The same for what has no limit unless one is given.
_QUALITY_KEYS = {
    "wer_max": "wer",
    "wer_delta_max": "wer_delta",
    "snr_double_min_db": "snr_double",
    "mos_min": "mos",
}


@dataclass(frozen=True)
class Budget:
    """Limits with the guide's values as defaults.

    Attributes:
        p50_ms: The median latency must be below this, in ms.
        p90_ms: The same for the 90th percentile.
        p99_ms: The same for the 99th percentile.
        throughput: The median rate must be above this, in inferences per second.
        ram_bytes: Peak RSS must be below this, in bytes.
        slow_ms: From this median latency on, in ms, it feels slow (scenario B).
        gates: Metrics that decide pass or fail; the others are reported only.
        quality: Limits of QUALITY_METRICS that were given, in this order: WER at most (a fraction:
            0.15 is 15 %), WER above the baseline's at most, the SNR in dB down to which the WER
            must stay below twice the clean one, and the least mean opinion score of human
            listeners. They gate unless the budget names its gates itself.
        alpha: Error probability of each sequential verdict and of each interval.
    """

    p50_ms: float = 240.0
    p90_ms: float = 300.0
    p99_ms: float = 400.0
    throughput: float = 4.0
    ram_bytes: float = 4e9
    slow_ms: float = 500.0
    gates: tuple[str, ...] = ("p50", "ram")
    alpha: float = 0.05
    quality: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        for key, (attribute, _) in _LIMIT_KEYS.items():
            _positive(key, getattr(self, attribute))
        if self.slow_ms <= self.p50_ms:
            raise _invalid(f"slow_ms ({self.slow_ms:g}) <= p50_ms ({self.p50_ms:g})")
        if not 0 < self.alpha <= 0.5:
            raise _invalid(f"alpha = {self.alpha!r}, 0 < alpha <= 0.5")
        for metric, value in self.quality:
            _quality_limit(metric, value)
        # A gate without a limit would wait for ever.
        known = [*METRICS, *(metric for metric, _ in self.quality)]
        unknown = [metric for metric in self.gates if metric not in known]
        if unknown or not self.gates or len(set(self.gates)) != len(self.gates):
            raise _invalid(f"gate.metrics = {list(self.gates)!r} ({' | '.join(known)})")

    def limit(self, metric: str) -> float:
        """Returns the limit of a metric in its unit (ms, inferences per second, bytes, ...)."""
        return {
            **dict(self.quality),
            "p50": self.p50_ms,
            "p90": self.p90_ms,
            "p99": self.p99_ms,
            "throughput": self.throughput,
            "ram": self.ram_bytes,
        }[metric]

    @classmethod
    def from_mapping(cls, table: Mapping[str, Any]) -> Budget:
        """Builds a budget from its parsed TOML; what is left out keeps its default.

        Args:
            table: `[limits]` with p50_ms, p90_ms, p99_ms, throughput_per_s, ram_gb, slow_ms and,
                without a default, wer_max, wer_delta_max, snr_double_min_db, mos_min; and `[gate]`
                with metrics (list of METRICS and QUALITY_METRICS) and alpha.

        Raises:
            InputError: `budget_invalid` for unknown keys and values out of range.
        """
        _only("", table, ("limits", "gate"))
        limits, gate = _table(table, "limits"), _table(table, "gate")
        _only("limits.", limits, (*_LIMIT_KEYS, *_QUALITY_KEYS))
        _only("gate.", gate, ("metrics", "alpha"))
        values: dict[str, Any] = {}
        for key, (attribute, scale) in _LIMIT_KEYS.items():
            if key in limits:
                values[attribute] = _positive(key, limits[key]) * scale
        values["quality"] = tuple(
            (metric, _quality_limit(metric, limits[key]))
            for key, metric in _QUALITY_KEYS.items()
            if key in limits
        )
        values["gates"] = (*cls.gates, *(metric for metric, _ in values["quality"]))
        if "metrics" in gate:
            metrics = gate["metrics"]
            if not isinstance(metrics, list | tuple) or not all(
                isinstance(metric, str) for metric in metrics
            ):
                raise _invalid(f"gate.metrics = {metrics!r}")
            values["gates"] = tuple(metrics)
        if "alpha" in gate:
            values["alpha"] = _positive("alpha", gate["alpha"])
        if "slow_ms" not in values and values.get("p50_ms", 0) >= cls.slow_ms:
            # Twice the limit or so, as the guide's 500 ms to its 240.
            values["slow_ms"] = values["p50_ms"] * cls.slow_ms / cls.p50_ms
        return cls(**values)

    def to_mapping(self) -> dict[str, Any]:
        """Returns the table that `from_mapping` reads back to an equal budget."""
        limits = {
            key: getattr(self, attribute) / scale for key, (attribute, scale) in _LIMIT_KEYS.items()
        }
        given = dict(self.quality)
        limits |= {key: given[metric] for key, metric in _QUALITY_KEYS.items() if metric in given}
        return {"limits": limits, "gate": {"metrics": list(self.gates), "alpha": self.alpha}}


def _invalid(detail: str) -> InputError:
    return InputError("budget_invalid", detail=detail)


def _positive(key: str, value: object) -> float:
    # bool is an int to Python, and `p50_ms = true` is a slip of the pen.
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value <= 0:  # type: ignore[arg-type,operator]
        raise _invalid(f"{key} = {value!r}")
    return float(value)  # type: ignore[arg-type]


def _quality_limit(metric: str, value: object) -> float:
    """Returns a limit of QUALITY_METRICS.

    Raises:
        InputError: `budget_invalid` for what cannot be one.
    """
    ranges = {"wer": (0, 1), "wer_delta": (0, 1), "snr_double": (-30, 60), "mos": (1, 5)}
    low, high = ranges[metric]
    key = next(name for name, known in _QUALITY_KEYS.items() if known == metric)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not low <= value <= high:  # type: ignore[operator]
        raise _invalid(f"{key} = {value!r} ({low}..{high})")
    return float(value)  # type: ignore[arg-type]


def _table(table: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = table.get(key, {})
    if not isinstance(value, Mapping):
        raise _invalid(f"{key} = {value!r}")
    return value


def _only(prefix: str, table: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for key in table:
        if key not in known:
            raise _invalid(f"{prefix}{key} ({', '.join(known)})")
