"""Folders of saved runs for tests of the history and the gate."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from run_factory import make_run

from vozmetro.cli.app import build
from vozmetro.cli.run import run as run_command
from vozmetro.measure.records import ComparisonRecord, Run
from vozmetro.measure.storage import save

START = datetime(2026, 1, 1, 8, tzinfo=UTC)


def main(words: list[str]) -> int:
    """The exit code of a command line that ends with `--lang`, in this process."""
    lang = words[words.index("--lang") + 1] if "--lang" in words else "en"
    return run_command(build(lang), words, lang)


def run_at(
    number: int, median_ms: float = 180.0, name: str = "whisper-base", **changes: Any
) -> Run:
    """A run made that many hours after START, with an id like a real one."""
    at = START + timedelta(hours=number)
    identity = f"{at:%Y%m%d-%H%M%S}-{name}-{number:04x}"
    changes = {"seed": number, "run_id": identity, "created": at.isoformat(), **changes}
    return make_run(name, median_ms=median_ms, **changes)


def keep(folder: Path, *runs: Run) -> list[Path]:
    """Saves runs below a folder, each in its own."""
    places = [folder / run.id for run in runs]
    for run, place in zip(runs, places, strict=True):
        save(run, place / "run.json")
    return places


def by_turns(count: int, slower: float, seed: int, between: float = 0.08) -> list[ComparisonRecord]:
    """Comparisons whose machine differs from one to the next, and whose B is slower."""
    random = np.random.default_rng(seed)
    found = []
    for number in range(count):
        level = 100.0 * math.exp(between * random.standard_normal())
        own = math.exp(0.015 * random.standard_normal())
        found.append(
            ComparisonRecord(
                id=f"pair-{seed}-{number}",
                created=START.isoformat(),
                mode="interleaved",
                a=run_at(2 * number, level, "a", rounds=8, seed=1000 * seed + 2 * number),
                b=run_at(2 * number + 1, level * own * (1 + slower), "b", rounds=8,
                         seed=1000 * seed + 2 * number + 1),
            )
        )  # fmt: skip
    return found
