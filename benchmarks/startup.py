"""How long vozmetro takes before it does anything: help, and a bench until its first sample.

    python benchmarks/startup.py [--subject piper-joe-graph] [--runs 5]

The second figure is wall time from starting the command until the first measured inference begins,
less the time that the model itself takes to load and the inferences of its warm-up, which belong
to the model. Both limits are of issue 2: 300 ms and 2 s. Exit 1 where a median is over its limit.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from statistics import median

from vozmetro import Run, load_run

HELP_LIMIT_S, BENCH_LIMIT_S = 0.3, 2.0


def help_seconds() -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "vozmetro", "--help"], check=True, capture_output=True)
    return time.perf_counter() - start


def bench_seconds(subject: str) -> tuple[float, float, float]:
    """Returns seconds until the first sample: in all, of loading, of the warm-up."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["bench", subject, "--iterations", "1", "--until", "iterations", "--no-gate"]
        start = time.time()
        subprocess.run(
            [sys.executable, "-m", "vozmetro", *words, "--out", folder],
            check=True,
            capture_output=True,
        )
        run = load_run(Path(folder))
    if not isinstance(run, Run):
        raise TypeError("not a run")
    first = datetime.fromisoformat(run.created).timestamp() + run.samples[0].at_s
    session = run.sessions[0]
    warmup = (session.first_ms + sum(session.warmup_ms)) / 1000
    return first - start, session.load_ms / 1000, warmup


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--subject", default="piper-joe-graph")
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    shown = median(help_seconds() for _ in range(given.runs))
    found = [bench_seconds(given.subject) for _ in range(given.runs)]
    total, load, warmup = (median(column) for column in zip(*found, strict=True))
    beyond = median(one - of_load - of_warmup for one, of_load, of_warmup in found)
    print(f"help                     {shown:6.3f} s  (limit {HELP_LIMIT_S} s)")
    print(f"start to first sample    {total:6.3f} s (load {load:.3f} s, warm-up {warmup:.3f} s)")
    print(f"beyond load and warm-up  {beyond:6.3f} s  (limit {BENCH_LIMIT_S} s)")
    return 0 if shown < HELP_LIMIT_S and beyond < BENCH_LIMIT_S else 1


if __name__ == "__main__":
    sys.exit(main())
