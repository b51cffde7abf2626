"""Judging, pure: statistics, comparison, budget, decision.

The package can be called: `vozmetro.judge(run)` is public API, and importing any module of this
package makes Python set the attribute `vozmetro.judge` to the package itself.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vozmetro.judge.budget import Budget
    from vozmetro.judge.decision import Decision
    from vozmetro.measure.quality_records import Figure
    from vozmetro.measure.records import Run


class _Judge(ModuleType):
    """This package, callable."""

    def __call__(
        self,
        run_or_samples_ms: Run | Sequence[float],
        budget: Budget | None = None,
        figures: Sequence[Figure] = (),
    ) -> Decision:
        """See `vozmetro.judge.decision.judge`."""
        from vozmetro.judge.decision import judge

        return judge(run_or_samples_ms, budget, figures)


sys.modules[__name__].__class__ = _Judge
