"""How long a silence must last to end an utterance: what is cut off against what is waited.

    python benchmarks/endpoint.py [--corpora es-ivr,en-ivr] [--limit N] [--seconds 1.5,6]

Every utterance, with two seconds of a quiet room behind it, goes through the endpointer frame by
frame, as in the pipeline. It is cut off where the endpointer decides before the speech ends (the
last frame of 10 ms within 25 dB of the active level of ITU-T P.56); the wait is the time from there
to the decision, of those that are not cut off. No model but the voice activity detector runs, so
that the figures do not hang on the machine. Needs the extras `serve` and `quality`.
"""

from __future__ import annotations

import argparse

import numpy as np
from fast_stt import chosen

from vozmetro import audio
from vozmetro.audio import SPEECH_RATE
from vozmetro.engines.voice_activity import FRAME, Silero
from vozmetro.pipeline.endpoint import Endpointer, Endpointing
from vozmetro.speech.ends import speech_end

HANGOVERS = (
    0.096,
    0.128,
    0.16,
    0.192,
    0.208,
    0.216,
    0.224,
    0.24,
    0.256,
    0.32,
    0.384,
    0.448,
    0.512,
    0.64,
    0.8,
)
ROOM_S, ROOM = 2.0, 10 ** (-70 / 20)


class Known:
    """Voice activity that has been judged before: it is the same for every hangover."""

    def __init__(self, samples: np.ndarray, voice: Silero) -> None:
        voice.reset()
        whole = samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME)
        self._known = [voice.probability(frame) for frame in whole]
        self.samples = samples
        self.reset()

    def probability(self, frame: np.ndarray) -> float:
        """See `VoiceActivity.probability`."""
        self._at += 1
        return self._known[self._at - 1]

    def reset(self) -> None:
        """See `VoiceActivity.reset`."""
        self._at = 0


def decided(known: Known, hangover: float) -> float | None:
    """Second at which the first utterance is held to have ended; None if none is heard."""
    known.reset()
    marks = Endpointer(known, Endpointing(hangover)).feed(known.samples)
    stops = [one.sample / SPEECH_RATE for one in marks if one.kind == "stopped"]
    return stops[0] if stops else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--corpora", default="es-ivr,en-ivr")
    parser.add_argument("--limit", type=int, default=150, help="utterances of each corpus")
    parser.add_argument("--seconds", default="1.5,6")
    options = parser.parse_args()
    shortest, longest = (float(one) for one in options.seconds.split(","))
    waves = [audio.read(one.path)
             for one in chosen(options.corpora, options.limit, shortest, longest)]  # fmt: skip
    rng = np.random.default_rng(0)
    noise = (ROOM * rng.standard_normal(round(ROOM_S * SPEECH_RATE))).astype(np.float32)
    ends = [speech_end(wave) for wave in waves]
    silero = Silero()
    heard_before = [Known(np.concatenate([wave.samples, noise]), silero) for wave in waves]
    print(f"{len(waves)} utterances of {shortest:g}-{longest:g} s")
    print("hangover   cut off   missed   wait P50   P90")
    for hangover in HANGOVERS:
        found = [decided(known, hangover) for known in heard_before]
        heard = [(one, end) for one, end in zip(found, ends, strict=True) if one is not None]
        waits = [one - end for one, end in heard if one >= end]
        cut = (len(heard) - len(waits)) / len(waves)
        p50, p90 = np.quantile(waits, [0.5, 0.9])
        print(f"{hangover:6.3f} s  {100 * cut:6.1f} %  {100 * (1 - len(heard) / len(waves)):5.1f} %"
              f"  {1000 * p50:5.0f} ms  {1000 * p90:5.0f} ms")  # fmt: skip


if __name__ == "__main__":
    main()
