"""What the predictors and the prosody cost, and how they rate a machine beside a human reader.

    python benchmarks/speech_quality.py [--corpus es-ivr] [--limit 30]

Where `espeak-ng` is installed, the same sentences are also spoken by that formant synthesiser and
ranked against the reader: predictors that put it first show why none is taken for naturalness.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from vozmetro.audio import SPEECH_RATE, Waveform, read
from vozmetro.quality.predicted import against, predict
from vozmetro.quality.predicted_ranking import Clip, rank
from vozmetro.quality.prosody import prosody
from vozmetro.speech.corpus import Utterance, load_corpus

SHORTEST_S, LONGEST_S = 2.0, 6.0


def cost(name: str, work: Callable[[], object]) -> None:
    work()  # the sessions are loaded once
    seconds = []
    for _ in range(5):
        start = time.thread_time()
        work()
        seconds.append(time.thread_time() - start)
    print(f"{name:<24} {median(seconds):6.3f} s of one core")


def formant(utterance: Utterance, folder: Path) -> Waveform:
    path = folder / "spoken.wav"
    command = ["espeak-ng", "-v", utterance.language, "-w", str(path), "--", utterance.text]
    subprocess.run(command, check=True, capture_output=True)
    return read(path)


def compare(utterances: list[Utterance]) -> None:
    clips = []
    with tempfile.TemporaryDirectory() as folder:
        for one in utterances:
            spoken = {"human": read(one.path), "espeak-ng": formant(one, Path(folder))}
            clips += [
                Clip(name, one.id, one.language, predict(sound)) for name, sound in spoken.items()
            ]
    found = rank(clips, utterances[0].language)
    print(f"{found.sentences} sentences in {found.language}, human reader against espeak-ng")
    for gap in found.gaps:
        state = "clear" if gap.clear else "open"
        print(
            f"{gap.metric:<12} {gap.better} above {gap.worse} by {gap.value:.2f}"
            f" [{gap.low:.2f}, {gap.high:.2f}] {state}"
        )
    for pair in found.disagreements:
        print(f"disagree: {pair.first.metric} and {pair.second.metric}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", default="es-ivr")
    parser.add_argument("--limit", type=int, default=30)
    options = parser.parse_args()
    every = load_corpus(options.corpus)
    kept = [one for one in every if SHORTEST_S <= one.seconds <= LONGEST_S][: options.limit]
    long = read(next(one.path for one in kept if one.seconds >= 3))
    clip = Waveform(long.samples[: 3 * SPEECH_RATE], SPEECH_RATE)
    print("a clip of 3 s:")
    cost("predict", lambda: predict(clip))
    cost("prosody", lambda: prosody(clip))
    cost("STOI and ESTOI", lambda: against(clip, clip, visqol=False))
    cost("the same and ViSQOL", lambda: against(clip, clip))
    if shutil.which("espeak-ng"):
        compare(kept)


if __name__ == "__main__":
    main()
