"""Evidence that was computed instead of measured: floors and extrapolations."""

from __future__ import annotations

from dataclasses import replace

from vozmetro.errors import InputError
from vozmetro.judge.depth_report import RAM_MARGIN, DepthReport, Figure, depth_report
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
from vozmetro.judge.roofline import notes
from vozmetro.measure.depth_records import DepthStudy
from vozmetro.measure.roofline_records import Floor, Roofline

_METRICS = {"inference": "latency_p50_ms", "prefill": FIRST_TOKEN, "decode": PER_TOKEN}
_STAGES = {"first_token": FIRST_TOKEN, "per_token": PER_TOKEN}
_UNSOUND = {
    "roofline_busy": "ceilings",
    "roofline_below": "ceilings",
    "roofline_data": "assumed",
    "roofline_phonemes": "assumed",
}
"""Notes of a roofline after which its floors must not count, and why."""


def from_roofline(record: Roofline, file: str = "") -> list[Evidence]:
    """Returns floors: by memory alone, and with the arithmetic that was measured.

    The first holds for implementations that read every weight once for each token or inference, the
    second for kernels as fast as the fastest that were measured. A language model has one for each
    item; anything else has its least, because no measurement of many items can go below that.

    Args:
        record: What was found.
        file: Where it lies.
    """
    units = {one.unit for one in record.items}
    whose = About(
        name=record.subject,
        # It keeps no kind; what has prompts is a language model.
        kind="lm" if units & {"prefill", "decode"} else "",
        names=spoken(record.subject, record.architecture),
        architecture=record.architecture,
        precision=label(record.precision),
        parameters=record.parameters,
        dummy=record.weights == "dummy",
    )
    machine = record.machine
    # Read anew, because an earlier version may have noted less.
    noted = [one.code for one in (*record.notes, *notes(record.items, machine))]
    base = Evidence(
        metric="",
        value=0.0,
        low=0.0,
        high=None,
        about=whose,
        source="floor",
        relation="at_least",
        id=record.id,
        file=file,
        machine=f"{machine.cpu} × {machine.cores or machine.threads}",
        threads=machine.threads,
        cores=machine.cores,
        date=record.created,
        unsound=next((_UNSOUND[code] for code in noted if code in _UNSOUND), ""),
    )
    items = record.items
    memory = [_floor(base, one, sum(s.times * s.memory_ms for s in one.steps)) for one in items]
    rates = replace(base, source="floor_compute")
    return [*_counted(memory), *_counted([_floor(rates, one, one.floor_ms) for one in items])]


def _counted(floors: list[Evidence]) -> list[Evidence]:
    """All of a language model's; else the least, because a run's items are timed together."""
    whole = [one for one in floors if one.metric == "latency_p50_ms"]
    return [min(whole, key=lambda one: one.value)] if whole else floors


def _floor(base: Evidence, item: Floor, ms: float) -> Evidence:
    tokens = 0 if item.unit == "inference" else round(item.length)
    return replace(base, metric=_METRICS[item.unit], value=ms, low=ms, prompt_tokens=tokens)


def from_depths(study: DepthStudy, file: str = "") -> list[Evidence]:
    """Returns what a study of depths tells of the full depth.

    Of a model that speaks it is the least time to the first sound, else the time to the first token
    and of each after it; and the RAM that it is expected to need. Nothing where too few depths were
    measured.

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
        low=report.ram * (1 - RAM_MARGIN),
        high=report.ram * (1 + RAM_MARGIN),
        # Its files are those of shallower models.
        about=replace(about(study.subject), parameters=None, dummy=True),
        source="depths",
        id=study.id,
        file=file,
        machine=machine_of(study.environment, study.subject.device),
        threads=study.settings.threads,
        cores=study.environment.cores_allowed,
        date=study.created,
        n=report.rounds,
        unsound="run_failed" if study.status == "failed" else "",
        synthetic=any(task.seconds for task in study.tasks),
    )
    # It is a sum over sizes even where the full depth was loaded: other depths shared the process.
    return [*_times(base, report), replace(base, metric="ram", extrapolated=True)]


def _times(base: Evidence, report: DepthReport) -> list[Evidence]:
    if not report.first_audio:
        return [
            replace(_figure(base, _STAGES[one.kind], one), prompt_tokens=one.tokens)
            for one in report.figures
            if one.kind in _STAGES
        ]
    # The one that the study's own verdict is about: the thinker least ahead, the most favourable.
    # The sum leaves stages out, so that it says only what the time cannot go below.
    first = _figure(base, "latency_p50_ms", report.first_audio[0])
    return [replace(first, relation="at_least", high=None)]


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
