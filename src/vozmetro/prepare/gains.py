"""What a quantization changed, measured: outputs, latency and words, beside the guide's claim."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from vozmetro import api
from vozmetro.engines.base import LoadRequest
from vozmetro.errors import MeasurementError, ModelError
from vozmetro.judge.comparison import Comparison
from vozmetro.judge.statistics import Interval
from vozmetro.measure.environment import available_ram, cores_allowed
from vozmetro.measure.subject import Target, resolve_subject
from vozmetro.models import checks
from vozmetro.planning import Options
from vozmetro.prepare.failures import as_one_error
from vozmetro.prepare.parity_decoder import parity_of
from vozmetro.prepare.records import Parity
from vozmetro.prepare.speech import spoken
from vozmetro.quality.wer import run_word_errors

EXPECTED = (-0.30, -0.20)
"""Change of the latency that the users' guide expects of INT8 and INT4."""
_UTTERANCES = 4
_PROMPT, _STEPS = 48, 16
_MOST_S = 180.0
_ITERATIONS = {"graph": 10, "stt": 4, "lm": 3}

Holds = Literal["confirmed", "refuted", "undecided"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")


class Words(_Record):
    """Word errors of one of the two models on the utterances of the comparison."""

    rate: float
    errors: int
    words: int
    utterances: int


class Gain(_Record):
    """Latency of the quantized model against the float one, on the same inputs, in ABBA blocks.

    Attributes:
        change: Median change per pair: -0.25 is a quarter less.
        low: Lower end of its 95 % interval, None where the pairs do not resolve it.
        high: Upper end.
        pairs: Pairs that it rests on.
        expected: The change that the guide expects.
        holds: Whether at least the smaller gain of `expected` was found here.
        interleaved: Whether both fitted in RAM together.
        before: Words of the float model, None where no words come out or none were said.
        after: Words of the quantized model.
        same_text: Utterances with the same transcript; None where no words come out.
    """

    change: float
    low: float | None
    high: float | None
    pairs: int
    expected: tuple[float, float] = EXPECTED
    holds: Holds
    interleaved: bool
    before: Words | None = None
    after: Words | None = None
    same_text: int | None = None


def measure_gain(before: Path, after: Path, corpus: str | None, listen: Any) -> Gain:
    """Compares two versions of a model.

    Args:
        before: The float model, a file or a Whisper folder.
        after: The quantized one.
        corpus: Real speech for what listens; None for the default of `api.compare`.
        listen: As for `api.compare`.

    Raises:
        VozmetroError: As for `api.compare`.
    """
    kind = resolve_subject(str(before)).kind
    options = Options(
        iterations=_ITERATIONS.get(kind, 3),
        until="iterations",
        max_time_s=_MOST_S,
        corpus=None if kind == "lm" else corpus,
    )
    return gain_of(api.compare(str(before), str(after), options, listen=listen))


def gain_of(found: Comparison) -> Gain:
    """Returns what a comparison of the float model (A) and the quantized one (B) says."""
    change = _inverse(found.ratio)
    record = found.record
    heard = record.a.subject.kind in ("stt", "cascade")
    pairs = zip(record.a.items, record.b.items, strict=True)
    return Gain(
        change=change.value,
        low=change.low,
        high=change.high,
        pairs=found.pairs,
        holds=holds(change),
        interleaved=record.mode == "interleaved",
        before=_words(record.a),
        after=_words(record.b),
        same_text=sum(a.output == b.output for a, b in pairs) if heard else None,
    )


def holds(change: Interval) -> Holds:
    """Says whether at least the smaller gain that the guide expects was found.

    Args:
        change: Change of the latency with its interval.
    """
    least = EXPECTED[1]
    if change.high is not None and change.high <= least:
        return "confirmed"
    if change.low is not None and change.low > least:
        return "refuted"
    return "undecided"


def _inverse(ratio: Interval) -> Interval:
    """The change of B against A, from the ratio of A to B."""
    return Interval(
        value=1 / ratio.value - 1,
        low=None if ratio.high is None else 1 / ratio.high - 1,
        high=None if ratio.low is None else 1 / ratio.low - 1,
        n_needed=ratio.n_needed,
    )


def _words(run: Any) -> Words | None:
    try:
        found = run_word_errors(run)
    except ModelError:
        # Random weights: their words mean nothing, which the report says by leaving them out.
        return None
    if found is None:
        return None
    return Words(
        rate=found.rate, errors=found.errors, words=found.words, utterances=found.utterances
    )


@as_one_error()
def output_error(before: Path, after: Path, corpus: str | None) -> Parity:
    """Runs both models on the same input and compares what comes out.

    One after the other, so that only one of them has to fit in RAM.

    Args:
        before: The float `.onnx`.
        after: The quantized one.
        corpus: Real speech; None for the packaged one.

    Raises:
        ModelError: `does_not_fit`.
        MeasurementError: `model_failed`, `outputs_differ` where what comes out has other lengths.
        VozmetroError: As for `api.bench`.
    """
    target = resolve_subject(str(before))
    for model in target.models:
        checks.check_fits(model, available_ram())
    if target.kind == "lm":
        return _tokens_error(target, before, after)
    from vozmetro.engines.onnx_graph import OrtGraph

    speech = spoken(before, corpus, _UTTERANCES)
    outputs: list[list[NDArray[Any]]] = []
    for path in (before, after):
        graph = OrtGraph(path, cores_allowed(), {})
        outputs.append([_floats(graph.run(feeds)) for feeds in speech.feeds])
        del graph
    return _parity(np.concatenate(outputs[1]), np.concatenate(outputs[0]), speech.said)


def _floats(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    flat = [a.ravel() for a in arrays if isinstance(a, np.ndarray) and a.dtype.kind == "f"]
    return np.concatenate([one.astype(np.float32) for one in flat] or [np.zeros(0, np.float32)])


def _tokens_error(target: Target, before: Path, after: Path) -> Parity:
    """Compares logits of both on seeded tokens, read at once and then one by one."""
    from vozmetro.engines.language_model import ENGINE

    logits = []
    ids = np.zeros(0, np.int64)
    for path in (before, after):
        model: Any = ENGINE.load(LoadRequest(path, cores_allowed(), {}))
        ids = np.random.default_rng(0).integers(0, model.vocabulary, _PROMPT + _STEPS)
        steps = [model.prefill(ids[:_PROMPT])]
        steps += [model.decode(int(token)) for token in ids[_PROMPT:]]
        logits.append(np.stack(steps))
        del model
    found = _parity(logits[1], logits[0], f"{len(ids)} seeded token ids")
    same = int((logits[0].argmax(-1) == logits[1].argmax(-1)).sum())
    return found.model_copy(update={"utterances": len(logits[0]), "identical": same})


def _parity(found: NDArray[Any], wanted: NDArray[Any], said: str) -> Parity:
    if found.size != wanted.size:
        # A voice whose durations follow from its weights speaks for another time.
        raise MeasurementError("outputs_differ", before=wanted.size, after=found.size)
    return parity_of(
        found, wanted, reference="onnxruntime float32", said=said, packages=("onnxruntime",)
    )
