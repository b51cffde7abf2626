"""Measure, compare and decide which voice model answers in time on this machine."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vozmetro.api import bench, compare
    from vozmetro.judge.budget import Budget
    from vozmetro.judge.comparison import Comparison
    from vozmetro.judge.decision import Decision, judge
    from vozmetro.measure.records import Run
    from vozmetro.measure.storage import load as load_run
    from vozmetro.planning import Options

__all__ = [
    "Budget",
    "Comparison",
    "Decision",
    "Options",
    "Run",
    "bench",
    "compare",
    "judge",
    "load_run",
]

# Where each public name lives; imported on first use so that `import vozmetro` stays fast.
_HOME = {
    "Budget": ("vozmetro.judge.budget", "Budget"),
    "Comparison": ("vozmetro.judge.comparison", "Comparison"),
    "Decision": ("vozmetro.judge.decision", "Decision"),
    "Options": ("vozmetro.planning", "Options"),
    "Run": ("vozmetro.measure.records", "Run"),
    "bench": ("vozmetro.api", "bench"),
    "compare": ("vozmetro.api", "compare"),
    "judge": ("vozmetro.judge.decision", "judge"),
    "load_run": ("vozmetro.measure.storage", "load"),
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("vozmetro")
    if name not in _HOME:
        raise AttributeError(f"module 'vozmetro' has no attribute {name!r}")
    module, attribute = _HOME[name]
    return getattr(importlib.import_module(module), attribute)
