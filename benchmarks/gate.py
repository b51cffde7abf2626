"""How often the gate is wrong, on this machine's own noise, beside gating on means.

    python benchmarks/gate.py [--noise FILE.json] [--record 24] [--trials 500] [--slower 0.05]

First it measures the noise, unless `--noise` names a recording of it: a tiny graph is compared with
a copy of itself (`vozmetro compare`, two live processes by turns) `--record` times, and the
latencies are kept in FILE.json. Then pairs of builds are simulated: equal ones (A/A), and ones
whose candidate is slower. Each run of a simulated build is one of the measured runs, drawn anew
with its level, whose rounds are drawn again in blocks; so both the spread within a run and that
from run to run are the machine's. Two ways of measuring:

- by turns: a side of each run is a side of one comparison (sides change places at random);
- apart: every run comes from a comparison of its own, so that the machine's moods do not cancel.

Each trial is judged by the gate as it is by default, and by the usual rule that the mean over all
samples is more than 5 % (or 10 %) above the baseline's. Printed are false alarms in A/A pairs and
slowdowns detected, with 95 % intervals. Fails (exit 1) where by turns, at the documented number of
runs, there are more than 5 % false alarms or less than 80 % are detected.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vozmetro.judge.gate import RUNS, TOLERANCE
from vozmetro.judge.ratio import ratio_test
from vozmetro.resampling import exact_ends

Floats = NDArray[np.float64]
Pair = tuple[Floats, Floats]  # latencies of A and B in ms, both of shape [rounds, items]
SIDES = (1, 3, 5, 10)
BLOCK = 6  # rounds that are drawn together: neighbours resemble each other


def record(count: int, rounds: int) -> list[Pair]:
    """Measures the noise: a tiny graph against its copy, each time in two new processes."""
    from vozmetro import api
    from vozmetro.judge.rounds import rounds_of
    from vozmetro.measure import live, noise
    from vozmetro.planning import Options

    live.IDLE_GAP_S = 0.01  # latency after a pause is not what is asked here
    options = Options(iterations=rounds, until="iterations", threads=1, max_time_s=60)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        one, other = Path(folder) / "one.onnx", Path(folder) / "other.onnx"
        noise.tiny_graph(one)
        shutil.copy(one, other)
        for number in range(count):
            pair = api.compare(str(one), str(other), options).record
            found.append((rounds_of(pair.a).ms, rounds_of(pair.b).ms))
            print(f"recording {number + 1}/{count}", file=sys.stderr)
    return found


def read(path: Path) -> list[Pair]:
    """Reads a recording."""
    table = json.loads(path.read_text())
    return [(np.array(one["a"]), np.array(one["b"])) for one in table["pairs"]]


def write(path: Path, pairs: Sequence[Pair]) -> None:
    """Keeps a recording."""
    kept = [{"a": a.round(5).tolist(), "b": b.round(5).tolist()} for a, b in pairs]
    path.write_text(json.dumps({"type": "gate-noise", "pairs": kept}))


def drawn(pairs: Sequence[Pair], random: np.random.Generator) -> Pair:
    """Returns one of the recorded pairs, with its rounds drawn again in blocks."""
    a, b = pairs[int(random.integers(len(pairs)))]
    if random.random() < 0.5:
        a, b = b, a
    rounds = min(len(a), len(b))
    starts = random.integers(0, rounds - BLOCK + 1, -(-rounds // BLOCK))
    index = (starts[:, np.newaxis] + np.arange(BLOCK)).ravel()[:rounds]
    return a[index], b[index]


def trial(
    pairs: Sequence[Pair], runs: int, slower: float, by_turns: bool, random: np.random.Generator
) -> dict[str, bool]:
    """Simulates two builds and returns, for each rule, whether it calls the second one slower."""
    x, y, means = [], [], []
    for _ in range(runs):
        a, b = drawn(pairs, random)
        if not by_turns:
            a, _ = drawn(pairs, random)
        b = b * (1 + slower)
        level = float(np.median(np.log(a), axis=0).mean())
        y.append(level)
        # As `levels.pair_levels` and `levels.level` have it.
        ratio = np.median(np.log(b) - np.log(a)) if by_turns else 0.0
        x.append(level + ratio if by_turns else float(np.median(np.log(b), axis=0).mean()))
        means.append((a.mean(), b.mean()))
    found = ratio_test(x, y, paired=by_turns, tolerance=TOLERANCE)
    base, candidate = np.mean(means, axis=0)
    return {
        "gate": found.p_above <= 0.025,
        "mean > 5 %": bool(candidate / base > 1.05),
        "mean > 10 %": bool(candidate / base > 1.10),
    }


def shares(
    pairs: Sequence[Pair], runs: int, slower: float, by_turns: bool, trials: int
) -> dict[str, float]:
    """Returns for each rule the share of trials that it calls slower."""
    random = np.random.default_rng([runs, by_turns, round(slower * 1000)])
    told = [trial(pairs, runs, slower, by_turns, random) for _ in range(trials)]
    return {rule: float(np.mean([one[rule] for one in told])) for rule in told[0]}


def show(share: float, trials: int) -> str:
    """A share with its interval."""
    low, high = exact_ends(round(share * trials), trials)
    return f"{100 * share:5.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def spreads(pairs: Sequence[Pair]) -> dict[str, float]:
    """Standard deviations of logarithms: what the recording is like."""
    levels = [np.median(np.log(side), axis=0).mean() for pair in pairs for side in pair]
    ratios = [np.median(np.log(b[: len(a)]) - np.log(a[: len(b)])) for a, b in pairs]
    within = [np.std(np.log(side) - np.median(np.log(side), axis=0)) for p in pairs for side in p]
    return {
        "within": float(np.mean(within)),
        "between": float(np.std(levels, ddof=1)),
        "pair": float(np.std(ratios, ddof=1)),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--noise", type=Path)
    parser.add_argument("--record", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--slower", type=float, default=0.05)
    args = parser.parse_args()
    if args.noise is not None and args.noise.is_file():
        pairs = read(args.noise)
    else:
        pairs = record(args.record, args.rounds)
        if args.noise is not None:
            write(args.noise, pairs)
    told: dict[str, Any] = spreads(pairs)
    print(f"{len(pairs)} recorded comparisons, two processes each; standard deviations:")
    print(f"  a sample within its run {100 * told['within']:.1f} %, a run's P50 among runs "
          f"{100 * told['between']:.1f} %, P50 ratio of a pair by turns "
          f"{100 * told['pair']:.1f} %")  # fmt: skip
    print(f"{args.trials} A/A and {args.trials} pairs {100 * args.slower:g} % slower; tolerance "
          f"{100 * TOLERANCE:g} %")  # fmt: skip
    good = True
    for by_turns in (True, False):
        for runs in SIDES:
            print(f"\n{'by turns' if by_turns else 'apart'}, {runs} a side")
            equal = shares(pairs, runs, 0.0, by_turns, args.trials)
            slow = shares(pairs, runs, args.slower, by_turns, args.trials)
            for rule, share in equal.items():
                print(f"  {rule:12} false alarms {show(share, args.trials):24}"
                      f" detected {show(slow[rule], args.trials)}")  # fmt: skip
            if by_turns and runs == RUNS:
                good = equal["gate"] <= 0.05 and slow["gate"] >= 0.8
    print(f"\n{'PASS' if good else 'FAIL'}: by turns, {RUNS} a side")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
