"""An estimate and how sure it is; apart from what computes it, which takes longer to import."""

from __future__ import annotations

from dataclasses import dataclass

ASSUMED_SPREAD = 0.10
"""Standard deviation from run to run, of the logarithm, where no run was repeated."""
LEAST_SPREAD = 5e-4
"""Levels are not known more exactly than that: equal numbers are no proof."""


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval.

    Attributes:
        value: The estimate.
        low: Lower end, None where the samples do not resolve it.
        high: Upper end, None where the samples do not resolve it.
        n_needed: Effective samples in all that would resolve both ends; None where both are.
    """

    value: float
    low: float | None
    high: float | None
    n_needed: int | None = None

    @property
    def resolved(self) -> bool:
        """Whether both ends are known."""
        return self.low is not None and self.high is not None
