"""How many seconds of speech each noise and channel condition makes in a second of one core.

    python benchmarks/conditions_speed.py [--corpus FOLDER] [--limit N] [--runs 3]

Every utterance of the corpus is heard under each condition, as `apply` gives it: its active level
measured, the noise made, both added. Counted is processor time, of all threads, so that the figure
is per core whatever the machine does besides; the best of the runs. Fitting to the corpus and
making the room, which are done once, stand apart. Limit, of issue 4: 50 times real time. Exit 1
where a condition is slower.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

from vozmetro import audio
from vozmetro.speech import noises
from vozmetro.speech.conditions import KINDS, Condition, Noises, apply
from vozmetro.speech.corpus import DEFAULT_CORPUS, load_corpus
from vozmetro.speech.level import active_level
from vozmetro.speech.room import impulse_response

LIMIT = 50.0
SNR, RT60, SEED = 5.0, 0.5, 0


def taken(work: Callable[[], object], runs: int) -> float:
    """Returns the least processor time of some runs, in seconds."""
    found = []
    for _ in range(runs):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    # A clock's tick, for work that takes less.
    return max(min(found), 1e-6)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--corpus", default=DEFAULT_CORPUS, help="folder or name")
    parser.add_argument("--limit", type=int, help="most utterances")
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    listed = load_corpus(given.corpus, limit=given.limit)
    speech = {each.id: audio.read(each.path) for each in listed}
    seconds = sum(each.seconds for each in speech.values())
    print(f"{len(speech)} utterances, {seconds:.0f} s of speech; times real time per core")
    level = taken(lambda: [active_level(each) for each in speech.values()], given.runs)
    print(f"{'active level alone':24} {seconds / level:8.0f}x")
    fitted: list[Noises] = []
    once = taken(lambda: fitted.append(Noises.fitted(speech)), 1)
    print(f"{'fit to the corpus, once':24} {seconds / once:8.0f}x")
    room = taken(lambda: impulse_response(RT60, SEED), 1)
    print(f"{f'room of {RT60:g} s, once':24} {room:7.2f} s")
    slow = False
    for kind, takes in KINDS.items():
        given_value = {**dict.fromkeys(noises.KINDS, SNR), "reverb": RT60}.get(kind)
        condition = Condition(kind, given_value or (takes.default if takes else None))

        def work(condition: Condition = condition) -> None:
            for key, waveform in speech.items():
                apply(condition, waveform, fitted[0], key, SEED)

        times = seconds / taken(work, given.runs)
        slow |= times < LIMIT
        print(f"{condition.name:24} {times:8.0f}x{'' if times >= LIMIT else '  too slow'}")
    return int(slow)


if __name__ == "__main__":
    sys.exit(main())
