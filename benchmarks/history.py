"""How long the history takes over many runs, beside a loop that reads them all.

    python benchmarks/history.py [--runs 10000] [--turns 5] [--folder FOLDER]

Measures one run of a tiny graph (300 samples), and writes it N times with other numbers, names and
dates, as `vozmetro bench` saves them, one folder each. Then whole commands are timed from the
outside, the start of Python included: the first `history list`, which reads every file, and after
it list, a filter, and a trend, by turns with the peer, which is what a script of one's own does:
`json.loads` of every file and the median of its samples. Fails (exit 1) where one of the three
takes 1 s or more in the median.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

LIMIT_S = 1.0
_VARIANTS = 50
_PEER = """
import json, pathlib, statistics, sys
rows = []
for path in pathlib.Path(sys.argv[1]).rglob("run.json"):
    run = json.loads(path.read_bytes())
    rows.append((run["created"], statistics.median(s["ms"] for s in run["samples"])))
rows.sort()
print(len(rows))
"""


def template() -> dict[str, Any]:
    """Measures one run of 300 samples."""
    from vozmetro import api
    from vozmetro.measure import live, noise
    from vozmetro.planning import Options

    live.IDLE_GAP_S = 0.01
    with tempfile.TemporaryDirectory() as folder:
        graph = Path(folder) / "tiny.onnx"
        noise.tiny_graph(graph)
        run = api.bench(str(graph), Options(iterations=60, until="iterations", threads=1))
    found: dict[str, Any] = run.model_dump(mode="json")
    return found


def variants(run: dict[str, Any]) -> list[str]:
    """The run as JSON with other numbers; what differs by run is marked with @."""
    random = np.random.default_rng(0)
    found = []
    for _ in range(_VARIANTS):
        level = float(np.exp(0.05 * random.standard_normal()))
        samples = [{**one, "ms": round(one["ms"] * level, 6)} for one in run["samples"]]
        named = {**run["subject"], "name": "@SUBJECT@"}
        told = {**run, "id": "@ID@", "created": "@CREATED@", "subject": named, "samples": samples}
        found.append(json.dumps(told, indent=1))
    return found


def make(folder: Path, count: int) -> int:
    """Writes the runs; returns their bytes."""
    texts = variants(template())
    start = datetime(2026, 1, 1, tzinfo=UTC)
    total = 0
    for number in range(count):
        at = start + timedelta(minutes=30 * number)
        name = ("whisper-tiny", "whisper-base", "piper-joe", "vad")[number % 4]
        identity = f"{at:%Y%m%d-%H%M%S}-{name}-{number:04x}"
        text = texts[number % _VARIANTS].replace("@ID@", identity)
        text = text.replace("@CREATED@", at.isoformat()).replace("@SUBJECT@", f"{name}.onnx")
        place = folder / identity
        place.mkdir()
        (place / "run.json").write_text(text)
        total += len(text)
    return total


def timed(words: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Seconds that a command takes from start to end, and those that it computes."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(words, check=True, env=environment, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--folder", type=Path)
    args = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="vozmetro-history-", dir=args.folder))
    try:
        return measured(home, args.runs, args.turns)
    finally:
        shutil.rmtree(home)


def measured(home: Path, count: int, turns: int) -> int:
    runs = home / "runs"
    runs.mkdir()
    total = make(runs, count)
    print(f"{count} runs, {total / 1e6:.0f} MB of JSON")
    environment = {**os.environ, "VOZMETRO_CACHE": str(home / "cache"), "COLUMNS": "80"}
    program = [sys.executable, "-m", "vozmetro", "history"]
    commands = {
        "list": [*program, "list", str(runs)],
        "filter": [*program, "list", str(runs), "--subject", "*base*", "--since", "2026-03-01"],
        "trend": [*program, "trend", str(runs), "--subject", "*base*", "--metric", "p90"],
        "peer": [sys.executable, "-c", _PEER, str(runs)],
    }
    cold, _ = timed(commands["list"], environment)
    print(f"first call, which reads every file: {cold:.1f} s ({1000 * cold / count:.2f} ms a run)")
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for _ in range(turns):
        for name, words in commands.items():
            found[name].append(timed(words, environment))
    peer = median(wall for wall, _ in found.pop("peer"))
    for name, told in found.items():
        walls = [wall for wall, _ in told]
        print(f"{name:7} {median(walls):.2f} s (from {min(walls):.2f} to {max(walls):.2f}; "
              f"computing {median(cpu for _, cpu in told):.2f} s), "
              f"{peer / median(walls):.1f} times as fast as the loop")  # fmt: skip
    print(f"loop    {peer:.2f} s; load of the machine {os.getloadavg()[0]:.1f}")
    good = all(median(wall for wall, _ in told) < LIMIT_S for told in found.values())
    print(f"{'PASS' if good else 'FAIL'}: under {LIMIT_S:g} s")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
