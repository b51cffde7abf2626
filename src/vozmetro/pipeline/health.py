"""Whether a tier keeps its budget: the live P90 of its last turns, demotion and the way back."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from functools import cache
from typing import Literal

from vozmetro.pipeline.config import Hysteresis

Change = Literal["demoted", "trial", "restored", "trial_failed"]
"""What became of a tier with a turn, or with time."""

QUANTILE = 0.9
_ALPHA = 0.05
_LONGEST = 16
"""The wait before a trial grows up to this many times the first one."""


def p90(latencies: list[float]) -> float:
    """Returns the P90 as an order statistic: the least latency that 90 % do not exceed."""
    return sorted(latencies)[math.ceil(QUANTILE * len(latencies)) - 1]


@cache
def _surely_many(n: int) -> int:
    """Returns how many of `n` turns above the budget say that its P90 is above it.

    As many or more would come with a probability of 5 % at most if 10 % of all turns were above:
    the lower bound of the P90's order-statistic interval.
    """
    tail, k = 1.0, 0
    while tail > _ALPHA and k <= n:
        tail -= math.comb(n, k) * (1 - QUANTILE) ** k * QUANTILE ** (n - k)
        k += 1
    return k


@dataclass
class Health:
    """One tier's latencies and what follows from them. Pure: the time is passed in.

    A tier is demoted once its P90 is above the budget for sure, so that latencies about the limit
    do not demote it by chance. It comes back by a trial whose P90 is well below the budget, so that
    latencies about the limit do not bring it back either. Each trial that fails doubles the
    wait, and so does a demotion within a window of turns after coming back.

    Args:
        budget_ms: Its P90 must be below.
        how: Numbers of turns, share and wait.
    """

    budget_ms: float
    how: Hysteresis

    def __post_init__(self) -> None:
        self._last: deque[float] = deque(maxlen=self.how.window)
        self._trial: list[float] | None = None
        self._again_s = 0.0
        self._failures = 0
        self._back_at: int | None = None
        self.demoted = False
        self.turns = 0

    @property
    def p90_ms(self) -> float | None:
        """P90 of the last turns; None before there are enough."""
        return p90(list(self._last)) if len(self._last) >= self.how.enough else None

    @property
    def eligible(self) -> bool:
        """Whether turns may be given to it: it keeps its budget, or is on trial."""
        return not self.demoted or self._trial is not None

    def tick(self, now_s: float) -> Change | None:
        """Begins a trial where its wait is over."""
        if self.demoted and self._trial is None and now_s >= self._again_s:
            self._trial = []
            return "trial"
        return None

    def add(self, latency_ms: float | None, now_s: float) -> Change | None:
        """Takes a turn.

        Args:
            latency_ms: None for a turn without an answer, which counts as a turn only.
            now_s: Now, in seconds.
        """
        self.turns += 1
        if latency_ms is None or not math.isfinite(latency_ms) or latency_ms < 0:
            return None
        self._last.append(latency_ms)
        if self._trial is not None:
            self._trial.append(latency_ms)
            return self._tried(now_s)
        if not self.demoted and self._over():
            recently = self._back_at is not None and self.turns - self._back_at < self.how.window
            self.demoted = True
            self._wait(now_s, self._failures + 1 if recently else 0)
            return "demoted"
        return None

    def _over(self) -> bool:
        above = sum(one > self.budget_ms for one in self._last)
        return len(self._last) >= self.how.enough and above >= _surely_many(len(self._last))

    def _tried(self, now_s: float) -> Change | None:
        """Ends a trial as soon as it is clear how."""
        trial, enough = self._trial or [], self.how.enough
        above = sum(one >= self.how.back_below * self.budget_ms for one in trial)
        if above > enough - math.ceil(QUANTILE * enough):
            self._trial = None
            self._wait(now_s, self._failures + 1)
            return "trial_failed"
        if len(trial) < enough:
            return None
        # What was before is over; the trial is what it is judged by from here.
        self._last = deque(trial, maxlen=self.how.window)
        self._trial, self.demoted = None, False
        self._back_at = self.turns
        return "restored"

    def _wait(self, now_s: float, failures: int) -> None:
        """Puts the next trial off."""
        self._failures = failures
        self._again_s = now_s + self.how.cooldown_s * min(_LONGEST, 2.0**failures)
