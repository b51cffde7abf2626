"""Evidence that was computed instead of measured: floors and extrapolations."""

from __future__ import annotations

from dataclasses import replace

from vozmetro.errors import InputError
from vozmetro.judge.depth_report import DepthReport, Figure, depth_report
from vozmetro.judge.evidence import (
    FIRST_TOKEN,
    PER_TOKEN,
    About,
    Evidence,
    about,
    label,
    machine_of,
    spoken,
)
from vozmetro.measure.depth_records import DepthStudy
from vozmetro.measure.roofline_records import Floor, Roofline

_METRICS = {"inference": "latency_p50_ms", "prefill": FIRST_TOKEN, "decode": PER_TOKEN}
_STAGES = {"first_token": FIRST_TOKEN, "per_token": PER_TOKEN}


def from_roofline(record: Roofline, file: str = "") -> list[Evidence]:
    """Returns each item's floors: by memory alone, and with the arithmetic that was measured.

    The first holds for every implementation of that precision, the second for kernels as fast as
    the fastest that were measured.

    Args:
        record: What was found.
        file: Where it lies.
    """
    units = {one.unit for one in record.items}
    about = About(
        name=record.subject,
        # It keeps no kind; what has prompts is a language model.
        kind="lm" if units & {"prefill", "decode"} else "",
        names=spoken(record.subject, record.architecture),
        architecture=record.architecture,
        precision=label(record.precision),
        parameters=record.parameters,
        dummy=record.weights == "dummy",
    )
    base = Evidence(
        metric="",
        value=0.0,
        low=0.0,
        high=None,
        about=about,
        source="floor",
        relation="at_least",
        id=record.id,
        file=file,
        machine=f"{record.machine.cpu} × {record.machine.threads}",
        date=record.created,
    )
    found = []
    for item in record.items:
        memory = sum(step.times * step.memory_ms for step in item.steps)
        found.append(_floor(base, item, memory))
        found.append(replace(_floor(base, item, item.floor_ms), source="floor_compute"))
    return found


def _floor(base: Evidence, item: Floor, ms: float) -> Evidence:
    tokens = 0 if item.unit == "inference" else round(item.length)
    return replace(base, metric=_METRICS[item.unit], value=ms, low=ms, prompt_tokens=tokens)


def from_depths(study: DepthStudy, file: str = "") -> list[Evidence]:
    """Returns what a study of depths tells of the full depth.

    Of a model that speaks it is the time to the first sound, else the time to the first token and
    of each after it. Nothing where too few depths were measured.

    Args:
        study: What was measured.
        file: Where it lies.
    """
    try:
        report = depth_report(study)
    except InputError:
        return []
    base = Evidence(
        metric="",
        value=report.ram,
        low=report.ram,
        high=report.ram,
        # Its files are those of shallower models.
        about=replace(about(study.subject), parameters=None, dummy=True),
        source="depths",
        id=study.id,
        file=file,
        machine=machine_of(study.environment, study.subject.device),
        date=study.created,
        n=report.rounds,
        unsound="run_failed" if study.status == "failed" else "",
        synthetic=True,
    )
    return [*_times(base, report), replace(base, metric="ram", extrapolated=_is_guess(report))]


def _is_guess(report: DepthReport) -> bool:
    return any(one.extrapolated for one in report.figures)


def _times(base: Evidence, report: DepthReport) -> list[Evidence]:
    if not report.first_audio:
        return [
            replace(_figure(base, _STAGES[one.kind], one), prompt_tokens=one.tokens)
            for one in report.figures
            if one.kind in _STAGES
        ]
    # The one that the study's own verdict is about: the thinker least ahead, the most favourable.
    first = _figure(base, "latency_p50_ms", report.first_audio[0])
    rate = replace(
        first,
        metric="throughput",
        value=1000 / first.value,
        low=1000 / first.high if first.high else None,
        high=1000 / first.low if first.low else None,
    )
    return [first, rate]


def _figure(base: Evidence, metric: str, one: Figure) -> Evidence:
    bent = one.extrapolated and one.fit is not None and "depths_not_linear" in one.fit.warnings
    return replace(
        base,
        metric=metric,
        value=one.value,
        low=one.low,
        high=one.high,
        extrapolated=one.extrapolated,
        unsound=base.unsound or ("not_linear" if bent else ""),
    )
