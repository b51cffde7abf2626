"""What can answer a claim: figures taken from measurements, each with where it comes from."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from vozmetro.judge.advice import suspect_codes
from vozmetro.judge.budget import Budget
from vozmetro.judge.checks import check_throughput
from vozmetro.judge.comparison import log_ratios, median_ratio
from vozmetro.judge.language import typical
from vozmetro.judge.rounds import rounds_of
from vozmetro.judge.statistics import (
    Interval,
    is_sequential,
    percentile,
    settled,
    summarize_run,
    waits_only,
)
from vozmetro.measure.records import ComparisonRecord, Environment, Note, Run, Subject

Source = Literal[
    "run",
    "comparison",
    "floor",
    "floor_compute",
    "depths",
    "file",
    "architecture",
    "arithmetic",
]
Relation = Literal["is", "at_least"]

FIRST_TOKEN, PER_TOKEN = "first_token_ms", "token_ms"
"""Metrics of language models, from which the time of an answer is put together."""

SAME_SIZE = 0.1
"""Two files hold the same model where their parameters differ by less than this share."""


@dataclass(frozen=True)
class About:
    """Whose figure it is.

    Attributes:
        name: As the user named it.
        kind: As in `Subject`; empty for an architecture.
        names: What a claim's patterns are matched against, see `spoken`; a cascade's parts each
            have their own, parted by `+`.
        architecture: E.g. `qwen3-vl-4b`; empty where unknown.
        precision: `FP32`, `INT8`, ...; empty where it does not apply.
        device: `cpu` or `cuda`.
        parameters: Counted in the files, None where unknown.
        dummy: The weights are random.
        options: Engine options in force, `a=1,b=2`.
    """

    name: str
    kind: str = ""
    names: tuple[str, ...] = ()
    architecture: str = ""
    precision: str = ""
    device: str = "cpu"
    parameters: float | None = None
    dummy: bool = False
    options: str = ""


@dataclass(frozen=True)
class Evidence:
    """One figure.

    Attributes:
        metric: As in `claims.Metric`, or FIRST_TOKEN and PER_TOKEN. Times in ms, `load` and
            `warmup` in s, RAM in bytes, WER and gains in percent.
        value: Estimate.
        low: Lower end of its interval, None where not resolved.
        high: Upper end, None where not resolved.
        about: Whose it is.
        source: What kind of record it comes from.
        relation: `is`, or `at_least`: the true figure cannot be lower.
        id: Of the run or record; empty for arithmetic.
        file: Where the record lies.
        machine: CPU that it was taken on; empty where it does not depend on one.
        threads: Threads that the engine had; 0 where that is not known or does not matter.
        cores: Cores that it might have used; 0 likewise.
        date: ISO 8601.
        n: Samples behind it.
        unsound: Code of why it must not count at all (`run_failed`, `suspect`, `ceilings`).
        synthetic: Its audio was no recorded speech.
        extrapolated: Not measured at full size.
        part: Part of a cascade's latency.
        prompt_tokens: Length of the prompt, for language models.
        answer_tokens: Tokens said until the answer counted as given.
        pair: What differs between the sides, for gains: `precision FP32>INT8`, `options a=1`.
        modality: What the model takes and gives: `text_input`, `audio_output`, ...
        said: A sentence of its own.
        first_ms: For FIRST_TOKEN of a run: ms to the first token, sample by sample.
        token_ms: Ms of each token after it, of the same samples; empty where there is none.
        sequential: The samples ended because of what they showed.
    """

    metric: str
    value: float
    low: float | None
    high: float | None
    about: About
    source: Source
    relation: Relation = "is"
    id: str = ""
    file: str = ""
    machine: str = ""
    threads: int = 0
    cores: int = 0
    date: str = ""
    n: int = 0
    unsound: str = ""
    synthetic: bool = False
    extrapolated: bool = False
    part: str = ""
    prompt_tokens: int = 0
    answer_tokens: int = 0
    pair: str = ""
    modality: frozenset[str] = frozenset()
    said: Note | None = None
    first_ms: tuple[float, ...] = ()
    token_ms: tuple[float, ...] = ()
    sequential: bool = False


def machine_of(environment: Environment, device: str = "cpu") -> str:
    """Returns what to call a machine: `CPU × cores in use`, and the kind of device if another."""
    cores = f"{environment.cpu} × {environment.cores_allowed}"
    return cores if device == "cpu" else f"{cores} + {device}"


def spoken(*names: str) -> tuple[str, ...]:
    """Returns names in the form that patterns are matched against: `whisper-small`.

    Of a path the last part without its ending and options; lower case; everything else than
    letters, digits and dots becomes `-`.
    """
    found = []
    for name in names:
        last = name.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1].lower()
        last = (
            last.split("@")[0]
            .removesuffix(".onnx")
            .removeprefix("piper:")
            .removeprefix("piper-onnx:")
        )
        found.append(re.sub(r"[^a-z0-9.]+", "-", last).strip("-"))
    return tuple(dict.fromkeys(name for name in found if name))


def label(precision: str) -> str:
    """Returns `INT4` for `int4-b128` and for `4 bits`, and so on."""
    words = precision.upper().split("-")[0]
    return {"4 BITS": "INT4", "8 BITS": "INT8"}.get(words, words)


def about(subject: Subject) -> About:
    """Returns whose figures a subject's are."""
    engines = [engine.split()[0] for engine in subject.engines if engine]
    words = [word.strip() for word in subject.name.split("+")]
    if subject.kind == "cascade" and len(words) == len(engines) == 2:
        each = [spoken(word, engine) for word, engine in zip(words, engines, strict=True)]
        names = tuple(f"{stt}+{tts}" for stt in each[0] for tts in each[1])
    else:
        models = [file.path for file in subject.files if file.path.lower().endswith(".onnx")]
        names = spoken(subject.name, subject.architecture, *models, *engines)
    return About(
        name=subject.name,
        kind=subject.kind,
        names=names,
        architecture=subject.architecture,
        precision=label(subject.precision),
        device=subject.device,
        parameters=subject.parameters,
        dummy=subject.weights == "dummy",
        options=",".join(f"{key}={value}" for key, value in sorted(subject.options.items())),
    )


def from_run(run: Run, file: str = "") -> list[Evidence]:
    """Returns what a run tells, quality apart.

    Args:
        run: What was measured.
        file: Where it lies.
    """
    base = base_of(run, file)
    summary = summarize_run(run)
    found = [
        _interval(base, "parameters", _exact(run.subject.parameters)),
        _interval(base, "ram", _exact(summary.peak_rss or None)),
    ]
    loads = [session.load_ms / 1000 for session in run.sessions]
    warmups = [float(np.mean(s.warmup_ms)) / 1000 for s in run.sessions if s.warmup_ms]
    # One figure for each session: fewer than six have no interval of their median.
    found += [_median(base, "load", loads), _median(base, "warmup", warmups)]
    if run.subject.kind == "lm":
        found += _tokens(run, base)
    else:
        overall = summary.overall
        found.append(_interval(base, "latency_p50_ms", overall.p50))
        found.append(_interval(base, "latency_p99_ms", overall.p99))
        rate = check_throughput(rounds_of(run).ms, Budget(), run)
        found.append(_interval(base, "throughput", Interval(rate.value, rate.low, rate.high)))
        found += _parts(run, base, overall.n / max(overall.n_effective, 1.0))
    return [one for one in found if not math.isnan(one.value)]


def from_comparison(record: ComparisonRecord, file: str = "") -> list[Evidence]:
    """Returns what a comparison tells: both runs, and the gain where one thing differs.

    Args:
        record: What was measured.
        file: Where it lies.
    """
    found = from_run(record.a, file) + from_run(record.b, file)
    found = [replace(one, id=record.id) for one in found]
    pair = difference(record.a.subject, record.b.subject)
    if pair is None:
        return found
    what, swapped = pair
    base, other = (record.b, record.a) if swapped else (record.a, record.b)
    ratio = median_ratio(log_ratios(other, base))
    if math.isnan(ratio.value):
        return found
    unsound = "unfair" if record.unfair else why_unsound(base) or why_unsound(other)
    gain = replace(
        base_of(base, file),
        metric="gain",
        value=(1 - ratio.value) * 100,
        low=None if ratio.high is None else (1 - ratio.high) * 100,
        high=None if ratio.low is None else (1 - ratio.low) * 100,
        source="comparison",
        id=record.id,
        n=min(len(base.samples), len(other.samples)),
        unsound=unsound,
        pair=what,
    )
    return [*found, gain]


def difference(a: Subject, b: Subject) -> tuple[str, bool] | None:
    """Returns the one thing in which two subjects differ, where it is one that claims are about.

    Returns:
        `precision FP32>INT8` or `options session.x=1`, and whether B is the side to gain on; None
        where they are different models, do not differ, or differ in more than one thing.
    """
    if a.kind != b.kind or a.device != b.device or a.engines != b.engines:
        return None
    if label(a.precision) == label(b.precision):
        same = [file.sha256 for file in a.files] == [file.sha256 for file in b.files]
        return _options(a.options, b.options) if same else None
    if a.options != b.options or not _same_model(a, b):
        return None
    bits = {"FP32": 32, "FP16": 16, "BF16": 16, "INT8": 8, "INT4": 4, "INT2": 2}
    one, two = label(a.precision), label(b.precision)
    swapped = bits.get(one, 0) < bits.get(two, 0)
    low, high = (two, one) if swapped else (one, two)
    return f"precision {low}>{high}", swapped


def _same_model(a: Subject, b: Subject) -> bool:
    if a.parameters is None or b.parameters is None:
        return False
    return abs(a.parameters - b.parameters) <= SAME_SIZE * max(a.parameters, b.parameters)


def _options(a: Mapping[str, str], b: Mapping[str, str]) -> tuple[str, bool] | None:
    """What one side has over the other; None where both have something of their own."""
    more = {key: value for key, value in b.items() if key not in a}
    less = {key: value for key, value in a.items() if key not in b}
    changed = [key for key in a if key in b and a[key] != b[key]]
    if changed or bool(more) == bool(less):
        return None
    said = more or less
    words = ",".join(f"{key}={said[key]}" for key in sorted(said))
    return f"options {words}", bool(less)


def base_of(run: Run, file: str) -> Evidence:
    """Returns what all figures of a run have in common, without any figure."""
    return Evidence(
        metric="",
        value=math.nan,
        low=None,
        high=None,
        about=about(run.subject),
        source="run",
        id=run.id,
        file=file,
        machine=machine_of(run.environment, run.subject.device),
        threads=run.settings.threads,
        cores=run.environment.cores_allowed,
        date=run.created,
        n=len(run.samples),
        unsound=why_unsound(run),
        # A prompt is no audio.
        synthetic=any(item.source == "synthetic" for item in run.items if not item.tokens),
    )


def why_unsound(run: Run) -> str:
    """Returns the code of why a run must not count at all; empty where it may."""
    if run.status == "failed":
        return "run_failed"
    return "suspect" if suspect_codes(run) else ""


def _exact(value: float | None) -> Interval:
    """A figure that has no spread; NaN for none."""
    number = math.nan if value is None else float(value)
    return Interval(number, number, number)


def _interval(base: Evidence, metric: str, found: Interval) -> Evidence:
    return replace(base, metric=metric, value=found.value, low=found.low, high=found.high)


def _parts(run: Run, base: Evidence, tau: float) -> list[Evidence]:
    """Latency of each part that a claim of its own may be about.

    None of a run in which parts were worked on before the clock began: what is left of them then is
    no time of the model's.
    """
    if waits_only(run):
        return []
    whose = {"first_audio": base.about}
    for part, kind, place in (("stt", "stt", 0), ("tts_first_audio", "tts", 1)):
        words, engines = run.subject.name.split("+"), run.subject.engines
        if len(words) == len(engines) == 2:
            name = words[place].strip()
            names = spoken(name, engines[place].split()[0])
            whose[part] = replace(base.about, name=name, kind=kind, names=names, parameters=None)
    found = []
    for part, owner in whose.items():
        values = [sample.parts[part] for sample in run.samples if part in sample.parts]
        if values:
            one = _median(base, "latency_p50_ms", values, tau)
            found.append(replace(one, about=owner, part=part))
    return found


def _tokens(run: Run, base: Evidence) -> list[Evidence]:
    """Time to the first token by length of the prompt, with what an answer is put together from."""
    samples, _ = settled(run)
    found = []
    for item in run.items:
        mine = [sample for sample in samples if sample.item == item.id]
        first = tuple(sample.ms for sample in mine)
        later = tuple(s.parts["per_token"] for s in mine if "per_token" in s.parts)
        if not first:
            continue
        sequential = is_sequential(run)
        one = _interval(base, FIRST_TOKEN, typical(first, sequential=sequential))
        found.append(
            replace(
                one,
                n=len(first),
                prompt_tokens=item.tokens,
                first_ms=first,
                token_ms=later if len(later) == len(first) else (),
                sequential=sequential,
            )
        )
    return found


def _median(base: Evidence, metric: str, values: Sequence[float], tau: float = 1.0) -> Evidence:
    series = np.array(values, float)
    return replace(_interval(base, metric, percentile(series, 0.5, tau)), n=len(series))
