"""How often the sequential verdict is wrong, against the guide's fixed 20 x 5 point estimate.

Simulates whole measurements, looks included, with the very code that judges real runs
(`vozmetro.judge.stationarity` and `.sequential`). In every row the true P50 of the settled machine
is `ratio` times the limit; at 1.00 neither side is right, so any verdict counts as false.

    python benchmarks/verdicts.py                  # 10,000 runs per row, 5 to 10 min on 2 cores
    python benchmarks/verdicts.py --runs 500       # a quick look

Exits with 1 if a required row has more than 5 % false verdicts or less than 94 % coverage.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

# The workers already fill the cores.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from scipy.signal import lfilter
from scipy.special import ndtr

from vozmetro.judge.sequential import next_look, weigh
from vozmetro.judge.stationarity import Bools, Floats, Stability, stability
from vozmetro.judge.statistics import thinned_ranks

ALPHA = 0.05
SPREAD = 0.1  # Standard deviation of log latency of one utterance, about 10 %.
OUTLIERS, TAIL = 0.05, 1.5  # Heavy tail: 5 % of samples times a Pareto factor with index 1.5.
RAMP, RAMP_FROM = 60, 0.85  # Drift: from 0.85 times to 1 over the first 60 samples.
LENGTHS = (0.6, 0.8, 1.0, 1.25, 1.5)  # Medians of the five utterance lengths, relative.
PROCESSES = ("iid", "heavy tail", "AR(1) 0.6", "AR(1) 0.8", "drift")
RATIOS = (0.7, 0.95, 1.0, 1.05, 1.3)
CHUNK = 500
GUIDE = 100  # The guide's 20 iterations of 5 lengths.


@dataclass(frozen=True)
class Setting:
    """A kind of measurement; one line of the table for each ratio.

    Attributes:
        process: One of PROCESSES.
        ratios: True P50 / limit.
        lengths: Relative medians of the items of a round.
        first: Rounds before the first look.
        most: Rounds after which measuring ends.
        required: Whether the bounds must hold.
    """

    process: str
    ratios: tuple[float, ...]
    lengths: tuple[float, ...]
    first: int
    most: int
    required: bool


@dataclass(frozen=True)
class Outcome:
    """What came of the runs of a setting, each of shape [ratios, runs].

    Attributes:
        status: 1 pass, -1 fail, 0 undecided.
        stopped: Samples measured.
        held_fixed: The fixed-n interval at the first look holds the true P50.
        held_stop: The sequential interval at the stop holds it.
        guide_false: The point estimate of the first 100 samples is on the wrong side.
    """

    status: Floats
    stopped: Floats
    held_fixed: Bools
    held_stop: Bools
    guide_false: Bools


def log_noise(process: str, rng: np.random.Generator, runs: int, n: int) -> Floats:
    """Draws log latencies around their item's median, shape [runs, n]."""
    noise: Floats = rng.standard_normal((runs, n))
    if process.startswith("AR"):
        phi = float(process.split()[1])
        # The first sample is already stationary: unit variance throughout.
        noise[:, 1:] *= np.sqrt(1 - phi**2)
        noise = lfilter([1], [1, -phi], noise, axis=1)
    noise *= SPREAD
    if process == "heavy tail":
        hit = rng.random((runs, n)) < OUTLIERS
        noise[hit] -= np.log1p(-rng.random(int(hit.sum()))) / TAIL
    if process == "drift":
        noise += np.log(np.minimum(1, RAMP_FROM + (1 - RAMP_FROM) * np.arange(n) / RAMP))
    return noise


def true_median(process: str, lengths: Floats) -> float:
    """Returns the median of the equal mix of lengths on the settled machine, by bisection."""
    quantiles = (np.arange(4000) + 0.5) / 4000
    outlier = -np.log1p(-quantiles) / TAIL

    def below(value: float) -> float:
        u = np.log(value / lengths)
        share = ndtr(u / SPREAD)
        if process == "heavy tail":
            with_outlier = ndtr((u[:, np.newaxis] - outlier) / SPREAD).mean(axis=1)
            share = (1 - OUTLIERS) * share + OUTLIERS * with_outlier
        return float(share.mean())

    low, high = 0.1, 10.0
    for _ in range(60):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if below(middle) < 0.5 else (low, middle)
    return low


def simulate(setting: Setting, runs: int, seed: int) -> Outcome:
    """Measures `runs` simulated runs until decided, for each ratio on the same noise.

    The true P50 is 1 and the limit is 1 / ratio: dependence and drift are estimated on log
    residuals, which do not see the scale, so one estimate serves all the ratios.
    """
    rng = np.random.default_rng(seed)
    lengths = np.array(setting.lengths)
    items, cases = len(lengths), len(setting.ratios)
    noise = log_noise(setting.process, rng, runs, setting.most * items)
    ms = np.exp(noise.reshape(runs, setting.most, items)) * lengths
    ms /= true_median(setting.process, lengths)
    status, held_stop = np.zeros((cases, runs)), np.zeros((cases, runs), np.bool_)
    stopped = np.full((cases, runs), float(setting.most * items))
    held_fixed = np.zeros(runs, np.bool_)
    open_, rounds = np.ones((cases, runs), np.bool_), setting.first
    while open_.any():
        live = np.flatnonzero(open_.any(axis=0))
        seen = ms[live, :rounds]
        how = stability(seen)
        if rounds == setting.first:
            held_fixed = _fixed_holds(seen, how)
        # The sequential interval holds the true P50 exactly where the test would not reject it.
        holds = weigh(seen, 1.0, 0.5, how).log_e < -np.log(ALPHA)
        for case, ratio in enumerate(setting.ratios):
            verdict = weigh(seen, 1 / ratio, 0.5, how).status(ALPHA)
            done = open_[case, live] & ((verdict != 0) | (rounds >= setting.most))
            status[case, live[done]] = verdict[done]
            stopped[case, live[done]] = rounds * items
            held_stop[case, live[done]] = holds[done]
            open_[case, live[done]] = False
        rounds = min(next_look(rounds), setting.most)
    guide = np.median(ms.reshape(runs, -1)[:, :GUIDE], axis=1)
    limits = 1 / np.array(setting.ratios)[:, np.newaxis]
    guide_false = ((guide < limits) != (limits > 1)) | (limits == 1)
    fixed = np.broadcast_to(held_fixed, (cases, runs))
    return Outcome(status, stopped, fixed, held_stop, guide_false)


def _fixed_holds(ms: Floats, how: Stability) -> Bools:
    """Whether the printed fixed-n interval of the P50 holds the true P50 of 1, shape [B]."""
    held = np.zeros(len(ms), np.bool_)
    for index, run in enumerate(ms):
        settled = np.sort(run[int(how.start[index]) :].ravel())
        low, high = thinned_ranks(len(settled), float(how.tau[index]), 0.5, ALPHA)
        over_low = low is None or settled[low - 1] <= 1
        held[index] = over_low and (high is None or settled[high - 1] >= 1)
    return held


def report(setting: Setting, parts: list[Outcome]) -> tuple[list[str], bool]:
    """Returns the lines of a setting, and whether it holds."""
    status = np.concatenate([part.status for part in parts], axis=1)
    stopped = np.concatenate([part.stopped for part in parts], axis=1)
    fixed = np.concatenate([part.held_fixed for part in parts], axis=1).mean(axis=1)
    stop = np.concatenate([part.held_stop for part in parts], axis=1).mean(axis=1)
    guide = np.concatenate([part.guide_false for part in parts], axis=1).mean(axis=1)
    lines, good = [], True
    for case, ratio in enumerate(setting.ratios):
        wrong = (status[case] != 0) & (status[case] != np.sign(1 - ratio))
        false, undecided = float(wrong.mean()), float((status[case] == 0).mean())
        holds = false <= 0.05 and fixed[case] >= 0.94 and stop[case] >= 0.94
        good = good and (holds or not setting.required)
        runs = f"{'>' if undecided > 0.5 else ''}{np.median(stopped[case]):.0f}"
        mark = "" if holds else "MISSES" if setting.required else "misses"
        lines.append(
            f"{setting.process:<11}{ratio:5.2f}{false:9.2%}{fixed[case]:10.1%}{stop[case]:10.1%}"
            f"{runs:>9}{undecided:11.1%}{guide[case]:9.1%}  {mark}".rstrip()
        )
    return lines, good


def tables(most: int) -> dict[str, list[Setting]]:
    """Returns the settings under the headings that they are printed with."""
    one, few = (1.0,), (0.7, 1.0, 1.3)
    return {
        "Default: 5 lengths, at least 20 rounds (required)": [
            Setting(process, RATIOS, LENGTHS, 20, most, True) for process in PROCESSES
        ],
        "One length, first look at 100 samples (required)": [
            Setting(process, RATIOS, one, 100, most * 5, True) for process in PROCESSES
        ],
        "One length, first look at 20 samples (for the record)": [
            Setting(process, few, one, 20, 500, False) for process in PROCESSES
        ],
        "--iterations 1, one length, looks from 7 on (for the record)": [
            Setting(process, few, one, 7, 500, False) for process in PROCESSES
        ],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--runs", type=int, default=10_000, help="simulated runs per row")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--max-rounds", type=int, default=400, help="rounds of 5 until giving up")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    options = parser.parse_args()
    began, good, index = time.monotonic(), True, 0
    sizes = [min(CHUNK, options.runs - at) for at in range(0, options.runs, CHUNK)]
    with ProcessPoolExecutor(options.workers) as pool:
        for heading, settings in tables(options.max_rounds).items():
            print(f"\n{heading}; {options.runs} runs per row\n", flush=True)
            print("                         coverage of 95 %   samples             guide's")
            print("process    ratio    false  at first   at stop  to stop  undecided    false")
            futures = []
            for setting in settings:
                index += 1
                seeds = [options.seed * 10**6 + index * 1000 + part for part in range(len(sizes))]
                jobs = zip(sizes, seeds, strict=True)
                futures.append([pool.submit(simulate, setting, size, seed) for size, seed in jobs])
            for setting, parts in zip(settings, futures, strict=True):
                lines, holds = report(setting, [part.result() for part in parts])
                good = good and holds
                print("\n".join(lines), flush=True)
    print(f"\n{time.monotonic() - began:.0f} s. Required rows {'hold' if good else 'DO NOT hold'}:")
    print("false verdicts <= 5 %, coverage of the printed P50 interval >= 94 %.")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
