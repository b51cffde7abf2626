"""What Ray does to a measurement: one plan on this machine, without Ray and as a node of a cluster.

In turns (plain, Ray, Ray, plain), so that a drift of the machine falls on both. The ratio of two
plain runs of the same round is the floor: what a ratio says where nothing differs. Fails where the
median over the rounds is beyond what plain runs differ by among themselves, and beyond 2 %.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

from vozmetro.fleet import run as fleet
from vozmetro.fleet.cluster import connect
from vozmetro.fleet.executor import Executor, Local
from vozmetro.fleet.on_ray import OnRay
from vozmetro.fleet.plan import MachineClass, Plan
from vozmetro.fleet.tasks import tasks
from vozmetro.measure.records import Run

HERE = "here"
LIMIT = 1.02
SETTLES_S = (
    10.0  # a cluster is there long before a plan is carried out; its start is not the question
)


def measured(plan: Plan, executor: Executor, out: Path) -> tuple[float, float]:
    """Carries the plan out; returns P50 and P90 in ms."""
    results = fleet.run(plan, executor, out)
    [outcome] = [results.outcome(task) for task in tasks(plan)]
    if not isinstance(outcome, Run):
        sys.exit(f"nothing was measured: {outcome}")
    ms = sorted(sample.ms for sample in outcome.samples)
    return statistics.median(ms), statistics.quantiles(ms, n=10)[8]


def main() -> int:
    """Measures and prints; returns 1 beyond the limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="whisper-base-onnx-int8@context=3.0")
    parser.add_argument("--iterations", type=int, default=30)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    plan = Plan(
        name="disturbance",
        subjects=(args.model,),
        classes={HERE: MachineClass()},
        corpus="audioeval",
        languages=("en",),
        limit=2,
        iterations=args.iterations,
        until="iterations",
        threads=args.threads,
    )
    ratios: dict[str, list[float]] = {"P50": [], "P90": []}
    floors: dict[str, list[float]] = {"P50": [], "P90": []}
    with tempfile.TemporaryDirectory(prefix="vozmetro-fleet-") as folder:

        def plain(name: str) -> tuple[float, float]:
            return measured(plan, Local(HERE), Path(folder, name))

        for number in range(args.rounds):
            first = plain(f"{number}-first")
            with connect():
                time.sleep(SETTLES_S)
                on_ray = [
                    measured(plan, OnRay(plan), Path(folder, f"{number}-ray-{turn}"))
                    for turn in range(2)
                ]
            last = plain(f"{number}-last")
            for index, name in enumerate(ratios):
                geometric = (on_ray[0][index] * on_ray[1][index]) ** 0.5
                ratios[name].append(geometric / (first[index] * last[index]) ** 0.5)
                floors[name].append(last[index] / first[index])
            print(f"  round {number + 1}: P50 {first[0]:.1f} {on_ray[0][0]:.1f} "
                  f"{on_ray[1][0]:.1f} {last[0]:.1f} ms", flush=True)  # fmt: skip
    beyond = False
    for name, found in ratios.items():
        floor = max(abs(one - 1) for one in floors[name])
        middle = statistics.median(found)
        beyond |= middle > max(LIMIT, 1 + floor)
        print(f"{name} on a node of Ray / without Ray: {middle:.3f} (from {min(found):.3f} to "
              f"{max(found):.3f}); two plain runs: up to {floor:.3f} apart")  # fmt: skip
    print("FAIL" if beyond else "PASS")
    return int(beyond)


if __name__ == "__main__":
    sys.exit(main())
