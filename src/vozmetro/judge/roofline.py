"""The least time that one inference can take on a machine, and how near a measurement comes.

The roofline model (Williams, Waterman and Patterson, "Roofline: an insightful visual performance
model for multicore architectures", CACM 52(4), 2009): what must be read takes at least its bytes
over the bandwidth, what must be computed takes at least its operations over their rate; both can
overlap, so the larger of the two is the floor.

A floor must not be too high, or it would call possible things impossible. So it counts each weight
once, no activation (they fit caches), only matrix products, the best bandwidth and the best rates
that were seen, and it takes for granted that the caches still hold as much of the weights as fits
into them.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vozmetro.measure.records import Note
from vozmetro.measure.roofline_records import Claim, Floor, Machine, Step, Unit

CACHE_UNKNOWN = 64 * 2**20
"""Caches in bytes that are assumed where the system does not tell their size."""
BELOW = 0.97
"""Measured over floor under which a ceiling must have been measured too low."""
_UNPACKED = {"int8": ("int8", "fp32"), "int4": ("int4", "int8", "fp32")}
BUSY = 0.25
"""Share of the threads' cores in others' use from which ceilings come out too low to claim by."""


@dataclass(frozen=True)
class Work:
    """What one step must do.

    Attributes:
        bytes: Bytes that must be read.
        macs: Multiply-adds by arithmetic (`fp32`, `fp16`, `int8`, `int4`).
        times: How often the step is done, one after the other.
        name: `inference`, `encoder`, `prefill`, `decode`...
    """

    bytes: int
    macs: Mapping[str, int]
    times: float = 1.0
    name: str = "inference"


def rate(machine: Machine, kind: str) -> float | None:
    """Returns the most operations a second of a kind, None where nothing tells.

    Kernels for few bits may be slow, and nothing forbids to unpack weights to more bits once: INT4
    is as fast as the fastest of INT4, INT8 and FP32. Where FP16 was not measured, twice FP32 stands
    in, because halving a float's width doubles a vector's elements.
    """
    known = machine.operations
    if kind == "fp16" and "fp16" not in known:
        return 2 * known["fp32"] if "fp32" in known else None
    wider = _UNPACKED.get(kind, (kind,))
    return max((known[one] for one in wider if one in known), default=None)


def step(work: Work, machine: Machine) -> Step:
    """Returns the least time of one step."""
    cached = machine.cache_bytes or CACHE_UNKNOWN
    memory = max(0, work.bytes - cached) / machine.bandwidth
    compute = 0.0
    for kind, macs in work.macs.items():
        most = rate(machine, kind)
        compute += 2 * macs / most if most else 0.0
    return Step(
        name=work.name,
        times=work.times,
        bytes=work.bytes,
        macs=dict(work.macs),
        memory_ms=memory * 1000,
        compute_ms=compute * 1000,
        floor_ms=max(memory, compute) * 1000,
    )


def floor(
    item: str,
    works: Sequence[Work],
    machine: Machine,
    measured_ms: Sequence[float] = (),
    *,
    unit: Unit = "inference",
    length: float = 0.0,
) -> Floor:
    """Returns the floor of an item and how near its samples come.

    Args:
        item: Its name.
        works: Its steps; they follow one another, so that their floors add up.
        machine: The ceilings.
        measured_ms: Latencies in ms.
        unit: What the floor is for.
        length: Seconds or tokens.
    """
    steps = [step(work, machine) for work in works]
    least = sum(one.times * one.floor_ms for one in steps)
    memory = sum(one.times * one.floor_ms for one in steps if one.memory_ms >= one.compute_ms)
    macs: dict[str, int] = {}
    for one in steps:
        for kind, count in one.macs.items():
            macs[kind] = macs.get(kind, 0) + round(one.times * count)
    read = round(sum(one.times * one.bytes for one in steps))
    middle = statistics.median(measured_ms) if measured_ms else None
    return Floor(
        item=item,
        unit=unit,
        length=length,
        steps=steps,
        bytes=read,
        macs=macs,
        floor_ms=least,
        bound="memory" if memory > least / 2 else "compute",
        measured_ms=middle,
        samples=len(measured_ms),
        ratio=middle / least if middle is not None and least > 0 else None,
        bandwidth=read / (middle / 1000) if middle else None,
    )


def busy(machine: Machine) -> bool:
    """Whether others used so much of the machine that its ceilings mean little."""
    return machine.others > BUSY * machine.threads


def _below(items: Sequence[Floor]) -> list[Floor]:
    """Those that a measurement disproves."""
    return [one for one in items if one.ratio is not None and one.ratio < BELOW]


def claim(subject: str, precision: str, items: Sequence[Floor], machine: Machine) -> Claim | None:
    """Returns the sentence's fields: of a token for a language model, else of the shortest item.

    None where no item has a floor above zero, and where the ceilings were too low, the floors so
    too high, and "impossible" might be said of what is possible: others used the machine, or
    something was measured below its floor.
    """
    if busy(machine) or _below(items):
        return None
    tokens = [one for one in items if one.unit == "decode"]
    found = [one for one in tokens or items if one.floor_ms > 0]
    if not found:
        return None
    least = min(found, key=lambda one: one.floor_ms)
    macs = sum(least.macs.values())
    # Bytes must be read whatever the kernels; a rate is that of the kernels measured.
    reading = all(one.memory_ms >= one.compute_ms for one in least.steps)
    return Claim(
        bound="memory" if reading else "compute",
        subject=subject,
        precision=precision,
        item=least.item,
        unit=least.unit,
        floor_ms=least.floor_ms,
        bytes=least.bytes,
        macs=macs,
        bandwidth=machine.bandwidth,
        rate=None if reading else 2 * macs / (least.floor_ms / 1000),
        threads=machine.threads,
    )


def notes(items: Sequence[Floor], machine: Machine) -> list[Note]:
    """Returns what a reader must know of these floors."""
    below = _below(items)
    found = []
    if busy(machine):
        fields = {"others": f"{machine.others:.1f}"}
        found.append(Note(code="roofline_busy", fields=fields))
    if below:
        names = ", ".join(dict.fromkeys(one.item for one in below))
        found.append(Note(code="roofline_below", fields={"items": names}))
    return found


def parameters_work(parameters: float, bits: float) -> Work:
    """Returns one token of a dense language model that reads every weight once.

    Args:
        parameters: Weights that take part in a token; of a mixture of experts the active ones.
        bits: Of each weight.
    """
    kind = "fp32" if bits > 16 else "fp16" if bits > 8 else "int8" if bits > 4 else "int4"
    return Work(round(parameters * bits / 8), {kind: round(parameters)}, name="decode")
