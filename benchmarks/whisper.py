"""Whisper's latency and words by precision and context, beside faster-whisper, in turns.

    python benchmarks/whisper.py [--corpus FOLDER] [--limit N] [--turns 3] [--threads N]
                                 [--subjects A,B,...]

All subjects are loaded in one process and hear each utterance in mirrored order, a rest between
two so that no threads of the last one spin; the first subject is the one that ratios are against.
A ratio is of the sums of each utterance's median time; WER is over all words, as `bench` counts it;
a fallback is a window decoded again with more context. Needs the extra `demo`; makes the ONNX
models in the cache on first use.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from vozmetro import audio
from vozmetro.engines import registry
from vozmetro.engines.base import LoadRequest
from vozmetro.engines.whisper_onnx import WhisperOnnx
from vozmetro.measure.environment import cores_allowed
from vozmetro.measure.subject import resolve_subject
from vozmetro.quality.wer import word_errors
from vozmetro.speech.corpus import DEFAULT_CORPUS, load_corpus

PEER = "whisper-base"
PRECISIONS = ("", "-int8", "-int4")
CONTEXTS = ("full", "3.0", "1.0")
SUBJECTS = (PEER, *(f"{PEER}-onnx{p}@context={c}" for c in CONTEXTS for p in PRECISIONS))
REST_S = 0.02


@dataclass
class Subject:
    """A loaded model, and what it heard and how long it took."""

    name: str
    model: object
    ms: list[list[float]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    @classmethod
    def load(cls, name: str, threads: int) -> Subject:
        """Returns it when it is loaded, with its own engine and options."""
        part = resolve_subject(name).models[0]
        engine = registry.find(part.engine)
        registry.import_modules(engine)
        options = {**engine.defaults, **part.options}
        return cls(name, engine.load(LoadRequest(part.path, threads, options)))

    def hear(self, wave: audio.Waveform, language: str) -> float:
        """Returns milliseconds; keeps the text."""
        start = time.perf_counter()
        text = self.model.transcribe(wave, language)  # type: ignore[attr-defined]
        ms = 1e3 * (time.perf_counter() - start)
        self.texts.append(text)
        time.sleep(REST_S)
        return ms

    @property
    def total(self) -> float:
        """Sum of each utterance's median."""
        return sum(statistics.median(turns) for turns in self.ms)


def measure(subjects: Sequence[Subject], corpus: str, limit: int | None, turns: int) -> list[str]:
    """Lets every subject hear the corpus; returns what was said, as often as it was heard."""
    said = []
    for utterance in load_corpus(corpus, limit=limit):
        wave = audio.read(utterance.path)
        for one in subjects:
            one.hear(wave, utterance.language)
            one.texts.pop()
            one.ms.append([])
        for turn in range(turns):
            for one in subjects if turn % 2 == 0 else reversed(subjects):
                one.ms[-1].append(one.hear(wave, utterance.language))
        said += [utterance.text] * turns
    return said


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", default=DEFAULT_CORPUS)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=cores_allowed())
    parser.add_argument("--subjects", type=lambda words: words.split(","), default=SUBJECTS)
    given = parser.parse_args()
    subjects = [Subject.load(name, given.threads) for name in given.subjects]
    said = measure(subjects, given.corpus, given.limit, given.turns)
    heard = f"{len(subjects[0].ms)} utterances, {given.turns} turns, {given.threads} threads"
    print(f"{heard}; ratios are against {subjects[0].name}")
    print(f"{'':38} {'P50 ms':>7} {'P90 ms':>7} {'ratio':>6} {'WER':>6} {'fallbacks':>9}")
    for one in subjects:
        p50, p90 = np.percentile(np.ravel(one.ms), [50, 90])
        ratio, wer = one.total / subjects[0].total, word_errors(said, one.texts).rate
        windows = (
            f"{one.model.fallbacks}/{one.model.windows}"
            if isinstance(one.model, WhisperOnnx)
            else "-"
        )
        print(f"{one.name:38} {p50:7.0f} {p90:7.0f} {ratio:6.3f} {wer:6.3f} {windows:>9}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
