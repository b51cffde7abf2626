"""How long it takes to score 10,000 utterances with 10,000 resamples, beside what else does it.

    python benchmarks/quality_speed.py [--runs 3] [--corpus FOLDER] [--limit N] [--words-only]

Limits, of issue 4: scoring (normalisation, alignment over words and characters, interval) under
5 s of processor time, which other work on the machine disturbs less than wall time; noise
conditions at more than 50 times real time per core, as `conditions_speed.py` counts it, which runs
afterwards with the same options. Texts are made up, nearly all different, so that no cache helps.
Peers get texts that are normalised already, in the same interleaved runs, and count word errors
only. Exit 1 over a limit.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable

import conditions_speed

from vozmetro.quality.wer import Transcribed, score
from vozmetro.resampling import RESAMPLES, rate
from vozmetro.speech import normalize as normalizer

LIMIT_S = 5.0
PAIRS = 10_000
TEXT = "el señor pulse uno para hablar con la extensión 21 número correo cuenta mañana gracias de"


def utterances() -> list[Transcribed]:
    """Returns pairs of about nine words, a fifth of which is heard wrongly."""
    chance = random.Random(4)
    known = TEXT.split()
    found = []
    for number in range(PAIRS):
        said = chance.choices(known, k=chance.randint(3, 14))
        if number % 5 == 0:
            said.append(f"{chance.randint(0, 9999)}.")
        heard = [chance.choice(known) if chance.random() < 0.2 else word for word in said]
        found.append(Transcribed(" ".join(said), " ".join(heard), "es"))
    return found


def ours(pairs: list[Transcribed]) -> None:
    """Scores as `vozmetro quality` does, from the raw texts."""
    normalizer._normalized.cache_clear()
    found = score(pairs, accents=False)
    rate(found.errors, found.words)


def kaldialign_bootstrap(said: list[list[str]], heard: list[list[str]]) -> None:
    import kaldialign

    kaldialign.bootstrap_wer_ci(said, heard, replications=RESAMPLES)


def jiwer_and_scipy(said: list[str], heard: list[str]) -> None:
    import jiwer
    import numpy as np
    from scipy.stats import bootstrap

    wrong = []
    for one, other in zip(said, heard, strict=True):
        out = jiwer.process_words(one, other)
        wrong.append(out.substitutions + out.deletions + out.insertions)
    bootstrap(
        (np.array(wrong), np.array([len(one.split()) for one in said])),
        lambda errors, words, axis: errors.sum(axis=axis) / words.sum(axis=axis),
        paired=True, vectorized=True, n_resamples=RESAMPLES, method="percentile", batch=100,
    )  # fmt: skip


def words(runs: int) -> bool:
    """Prints the least time of each, by turns; returns whether ours is over the limit."""
    pairs = utterances()
    plain = [
        (normalizer.normalize(one.reference, "es"), normalizer.normalize(one.hypothesis, "es"))
        for one in pairs
    ]
    said, heard = ([one[side] for one in plain] for side in (0, 1))
    work: dict[str, Callable[[], None]] = {
        "vozmetro": lambda: ours(pairs),
        "kaldialign": lambda: kaldialign_bootstrap(
            [one.split() for one in said], [one.split() for one in heard]
        ),
        "jiwer and scipy": lambda: jiwer_and_scipy(said, heard),
    }
    taken: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(runs):
        for name, one in work.items():
            start = time.process_time()
            one()
            taken[name].append(time.process_time() - start)
    print(f"{PAIRS} pairs, {RESAMPLES} resamples")
    for name, times in taken.items():
        print(f"{name:16} {min(times):6.2f} s (slowest {max(times):.2f})")
    return min(next(iter(taken.values()))) > LIMIT_S


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--words-only", action="store_true", help="leave the noise out")
    given, others = parser.parse_known_args()
    slow = words(given.runs)
    if not given.words_only:
        # The rest of the command line is for it.
        sys.argv[1:] = [*others, "--runs", str(given.runs)]
        slow |= bool(conditions_speed.main())
    return int(slow)


if __name__ == "__main__":
    sys.exit(main())
