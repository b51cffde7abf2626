"""Speech to text while one speaks, beside faster-whisper with the same weights, in turns.

    python benchmarks/fast_stt.py [--corpora es-ivr,en-ivr] [--limit N] [--turns 1] [--threads N]
                                  [--subject NAME@context=stream,...] [--seconds 1.5,6]

Both are loaded in one process and hear each utterance one after the other, the order changing. The
stream gets the audio in pieces of half a second, as the pipeline gives it; its clock starts when
the last piece is there (post-endpoint). faster-whisper gets the utterance whole, as it must.
Words are counted as `vozmetro quality` counts them, accents apart; the difference is paired.
Then Whisper small with random weights does the work that base did: as many frames, and as many
tokens in as many runs of the decoder. Needs the extra `demo`, and the corpora (`vozmetro corpus
fetch`).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from vozmetro import audio
from vozmetro.engines import registry
from vozmetro.engines.base import HOP_S, LoadRequest
from vozmetro.engines.whisper_decoding import Step
from vozmetro.engines.whisper_onnx import WhisperOnnx
from vozmetro.measure.environment import cores_allowed
from vozmetro.measure.subject import resolve_subject
from vozmetro.quality.wer import Transcribed, score
from vozmetro.resampling import rate_difference
from vozmetro.speech.corpus import Utterance, load_corpus

PEER, SUBJECT = "whisper-base", "whisper-base-onnx-int8@context=stream"
SMALL = "dummy:whisper-small:int8@context=stream"
REST_S = 0.02
Runs = list[tuple[int, int]]


def load(name: str, threads: int) -> Any:
    part = resolve_subject(name).models[0]
    engine = registry.find(part.engine)
    registry.import_modules(engine)
    return engine.load(LoadRequest(part.path, threads, {**engine.defaults, **part.options}))


def chosen(corpora: str, limit: int, shortest: float, longest: float) -> list[Utterance]:
    found: list[Utterance] = []
    for name in corpora.split(","):
        fit = [one for one in load_corpus(name) if shortest <= one.seconds <= longest]
        # Spread over the corpus, not its first ones.
        places = np.linspace(0, len(fit) - 1, min(limit, len(fit))).round().astype(int)
        found += [fit[place] for place in dict.fromkeys(places.tolist())]
    return found


@contextmanager
def noted(runs: Runs) -> Iterator[None]:
    """Notes every run of a decoder: tokens given, and logits asked for."""
    plain = Step.run

    def run(self: Step, tokens: Any, asked: int = 1) -> Any:
        runs.append((len(tokens), asked))
        return plain(self, tokens, asked)

    Step.run = run  # type: ignore[method-assign]
    try:
        yield
    finally:
        Step.run = plain  # type: ignore[method-assign]


def streamed(engine: WhisperOnnx, wave: audio.Waveform, language: str) -> tuple[str, float, Runs]:
    stream = engine.open_stream(language)
    size = round(HOP_S * wave.rate)
    for start in range(0, len(wave.samples), size):
        stream.feed(wave.samples[start : start + size])
        if start + size < len(wave.samples):
            stream.partial()
    runs: Runs = []
    with noted(runs):
        start_s = time.perf_counter()
        text = stream.finish()
        return text, (time.perf_counter() - start_s) * 1e3, runs


def whole(engine: Any, wave: audio.Waveform, language: str) -> tuple[str, float]:
    start = time.perf_counter()
    text = engine.transcribe(wave, language)
    return text, (time.perf_counter() - start) * 1e3


def replayed(engine: WhisperOnnx, wave: audio.Waveform, language: str, runs: Runs) -> float:
    """Milliseconds that a model takes for the same frames and the same runs of its decoder."""
    stream: Any = engine.open_stream(language)
    size = round(HOP_S * wave.rate)
    for start in range(0, len(wave.samples), size):
        stream.feed(wave.samples[start : start + size])
        if start + size < len(wave.samples):
            stream._memory.hear(stream._features.frames(final=False))
    start_s = time.perf_counter()
    step = engine.decoder.on(stream._memory.hear(stream._features.frames(final=True)))
    for tokens, asked in runs:
        step.run([400] * tokens, asked)
    return (time.perf_counter() - start_s) * 1e3


def spread(ms: list[float]) -> str:
    p50, p90, p99 = np.quantile(ms, [0.5, 0.9, 0.99])
    return f"P50 {p50:7.1f}  P90 {p90:7.1f}  P99 {p99:7.1f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--corpora", default="es-ivr,en-ivr")
    parser.add_argument("--limit", type=int, default=50, help="utterances of each corpus")
    parser.add_argument("--seconds", default="1.5,6")
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--threads", type=int, default=cores_allowed())
    parser.add_argument("--subject", default=SUBJECT)
    parser.add_argument("--no-small", action="store_true")
    chosen_options = parser.parse_args()
    shortest, longest = (float(one) for one in chosen_options.seconds.split(","))
    utterances = chosen(chosen_options.corpora, chosen_options.limit, shortest, longest)
    waves = [audio.read(one.path) for one in utterances]
    peer = load(PEER, chosen_options.threads)
    subject = load(chosen_options.subject, chosen_options.threads)
    small = None if chosen_options.no_small else load(SMALL, chosen_options.threads)
    for engine in (peer, subject):
        whole(engine, waves[0], utterances[0].language)
    ms: dict[str, list[float]] = {"peer": [], "stream": [], "small": []}
    texts: dict[str, list[str]] = {"peer": [], "stream": []}
    languages = [one.language for one in utterances]
    for turn in range(chosen_options.turns):
        for number, (wave, language) in enumerate(zip(waves, languages, strict=True)):
            for name in ("peer", "stream") if (number + turn) % 2 == 0 else ("stream", "peer"):
                time.sleep(REST_S)
                if name == "peer":
                    text, took = whole(peer, wave, language)
                else:
                    text, took, runs = streamed(subject, wave, language)
                ms[name].append(took)
                texts[name].append(text)
            if small is not None:
                time.sleep(REST_S)
                ms["small"].append(replayed(small, wave, language, runs))
    lengths = [wave.seconds for wave in waves]
    print(f"{len(waves)} utterances of {shortest:g}-{longest:g} s, median {np.median(lengths):.1f},"
          f" {chosen_options.turns} turns, {chosen_options.threads} threads")  # fmt: skip
    print(f"{PEER:48} {spread(ms['peer'])}")
    print(f"{chosen_options.subject:48} {spread(ms['stream'])}")
    ratios = np.array(ms["peer"]) / np.array(ms["stream"])
    print(f"times as fast: median {np.median(ratios):.1f}, of the medians "
          f"{np.median(ms['peer']) / np.median(ms['stream']):.1f}; "
          f"{subject.fallbacks} transcribed again at leisure")  # fmt: skip
    if small is not None:
        print(f"{'whisper-small, random weights, the same work':48} {spread(ms['small'])}")
    for language in dict.fromkeys(languages):
        words(utterances, texts, language)


def words(utterances: list[Utterance], texts: dict[str, list[str]], language: str) -> None:
    """Prints both WERs of a language and their paired difference."""
    rows = [number for number, one in enumerate(utterances) if one.language == language]
    scored = {}
    for name in ("peer", "stream"):
        said = [Transcribed(utterances[n].text, texts[name][n], language) for n in rows]
        scored[name] = score(said, accents=False)
    a, b = scored["peer"], scored["stream"]
    told = rate_difference(a.errors, b.errors, a.words)
    print(f"{language}: WER {100 * a.rate:.1f} % -> {100 * b.rate:.1f} %, difference "
          f"{100 * told.value:+.2f} points [{100 * told.low:+.2f}, {100 * told.high:+.2f}]"
          f" over {len(rows)} utterances, {int(a.words.sum())} words")  # fmt: skip


if __name__ == "__main__":
    main()
