"""How soon a Piper voice is heard: the engine `piper-onnx` against stock piper-tts, taking turns.

    python benchmarks/first_audio.py [--threads N] [--rounds N] [--model NAME] [--cpu]

Both get the same voice, the same threads and the same text in turn, and the order changes with
every round. From the call with the text to the first samples, phonemes included. `first` is how
much audio came with it, `quiet` how much of that is the silence before the voice (below 2 % of the
peak). `slack` is the smallest time that was left, over all pieces, when the next one was there
before the audio so far had been played; where it is negative, the voice would have paused. `all` is
the time for the whole text. Median over the rounds, or as the column says.

With `--cpu` it is one thread's own time on the processor instead of the clock on the wall: ratios
that hold on a machine that others use, too.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vozmetro.audio import Samples
from vozmetro.engines.base import LoadRequest, Synthesizer
from vozmetro.engines.piper import Piper
from vozmetro.engines.piper_onnx import PiperOnnx
from vozmetro.measure.environment import cores_allowed
from vozmetro.models.resolve import resolve

TEXTS: Mapping[str, str] = {
    "2 words": "Good morning.",
    "12 words": "The train to the city leaves at nine from the second platform.",
    "170 characters": "The weather service expects heavy rain in the northern valleys tonight, "
    "with strong winds along the coast and temperatures that will fall towards early morning.",
    "3 sentences": "Your package has arrived. The courier left it at the front desk this morning. "
    "You can pick it up until eight.",
    "no comma": "If you want to change the delivery address for this order please call the "
    "customer service line before six in the evening and have your order number ready.",
}
LOUD = 0.02
REST_S = 0.25
"""Seconds before each call: by then the threads of the one before have ceased to spin."""


@dataclass(frozen=True)
class Spoken:
    """One text: times in ms from the call."""

    first: float
    whole: float
    slack: float
    lead: float
    quiet: float


def speak(engine: Synthesizer, text: str, clock: Callable[[], float]) -> Spoken:
    begun = clock()
    arrived: list[float] = []
    pieces: list[Samples] = []
    for piece in engine.stream(text):
        arrived.append((clock() - begun) * 1e3)
        pieces.append(piece)
    lengths = [len(piece) / engine.sample_rate * 1e3 for piece in pieces]
    played = arrived[0] + np.cumsum([0.0, *lengths[:-1]])
    waits = [float(end - there) for end, there in zip(played[1:], arrived[1:], strict=True)]
    audio = np.abs(np.concatenate(pieces))
    quiet = float(np.argmax(audio > LOUD * audio.max())) / engine.sample_rate * 1e3
    return Spoken(arrived[0], arrived[-1], min(waits, default=float("inf")), lengths[0], quiet)


def percentile(values: list[float], percent: int) -> float:
    return float(np.percentile(values, percent))


def least(runs: Sequence[Spoken]) -> str:
    slack = [spoken.slack for spoken in runs if np.isfinite(spoken.slack)]
    return f"{percentile(slack, 10):.0f}" if slack else "-"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=cores_allowed())
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--model", default="piper-joe", help="a Piper voice that resolve() knows")
    parser.add_argument("--option", action="append", default=[], help="of piper-onnx: NAME=VALUE")
    parser.add_argument("--cpu", action="store_true", help="one thread's time on the processor")
    given = parser.parse_args()
    threads = 1 if given.cpu else given.threads
    clock = time.thread_time if given.cpu else time.perf_counter
    model = resolve(given.model)
    options = dict(pair.split("=", 1) for pair in given.option)
    engines: dict[str, Synthesizer] = {
        "piper-onnx": PiperOnnx(LoadRequest(model.path, threads, options)),
        "piper-tts": Piper(LoadRequest(model.path, threads)),
    }
    found: dict[tuple[str, str], list[Spoken]] = {(t, e): [] for t in TEXTS for e in engines}
    for turn in range(-2, given.rounds):
        for name, text in TEXTS.items():
            for engine in list(engines) if turn % 2 else reversed(engines):
                time.sleep(REST_S)
                spoken = speak(engines[engine], text, clock)
                if turn >= 0:
                    found[name, engine].append(spoken)
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    kind = "ms of one thread" if given.cpu else "ms"
    print(f"{given.model}, {threads} threads, {given.rounds} rounds, load {load}, {kind}")
    print("text            engine        P50    P90  ratio   first  quiet    all  slack P10")
    for name in TEXTS:
        medians = {e: statistics.median(s.first for s in found[name, e]) for e in engines}
        for engine in engines:
            runs = found[name, engine]
            ratio = medians["piper-tts"] / medians[engine]
            print(
                f"{name:15} {engine:10} {medians[engine]:6.1f} "
                f"{percentile([s.first for s in runs], 90):6.1f} {ratio:6.1f} "
                f"{statistics.median(s.lead for s in runs):7.0f} "
                f"{statistics.median(s.quiet for s in runs):6.0f} "
                f"{statistics.median(s.whole for s in runs):6.0f} "
                f"{least(runs):>8}"
            )


if __name__ == "__main__":
    main()
