"""A subject's floors on this machine: its cost, the machine's ceilings, and its samples.

The ceilings are measured before and after the subject, in the same minutes and with as many
threads; the best of all counts, probes beside the samples included.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from vozmetro import api
from vozmetro.errors import InputError
from vozmetro.judge import roofline as judged
from vozmetro.measure import ceilings, environment
from vozmetro.measure.ceilings import Ceilings
from vozmetro.measure.records import Environment, Note, Run
from vozmetro.measure.roofline_records import ROOFLINE_FILE, Floor, Machine, Roofline
from vozmetro.measure.schedule import Listener, Progress
from vozmetro.measure.storage import write_atomic
from vozmetro.measure.subject import Target, resolve_subject
from vozmetro.models import architectures
from vozmetro.models.cost.architecture import token_weights
from vozmetro.planning import Options, new_id, work_for
from vozmetro.prepare.roofline_work import Planned, plan

Measure = Callable[..., Ceilings]
Seen = tuple[Ceilings, float]
"""Ceilings, and the cores that others used right before."""
_LOOK_S = 0.5
_ASSUMED = {"roofline_data", "roofline_phonemes"}
_KEPT = ("on_battery", "dummy_weights", "max_time_reached")
"""Notes of a run that matter for its floors."""


def roofline(
    subject: str,
    options: Options | None = None,
    *,
    out: Path | None = None,
    listen: Listener = lambda _: None,
    floor_only: bool = False,
    measure: Measure = ceilings.measure,
) -> Roofline:
    """Returns the floors of a subject, measured beside them unless that is not wanted.

    Args:
        subject: As for `bench`; no cascade.
        options: How to measure it.
        out: Folder for `roofline.json` and the samples' `run.json`; None saves nothing.
        listen: Told about progress.
        floor_only: Do not load the subject: only ceilings and the file's structure.
        measure: Measures the ceilings.

    Raises:
        InputError: `roofline_cascade`, `roofline_engine`, `roofline_device`, and what naming a
            subject or its options raises.
        ModelError: A file is missing, damaged or unsafe.
        MeasurementError: The model or the ceilings could not be measured.
    """
    chosen = options or Options()
    if chosen.device != "cpu":
        raise InputError("roofline_device", device=chosen.device)
    settings = chosen.settings(subject)
    listen(Progress("verifying", subject))
    target = resolve_subject(subject)
    work, _ = work_for(settings, [target], listen)
    planned = plan(target, work)
    found = [_ceilings(measure, settings.threads, planned.sizes)]
    run: Run | None = None
    if not floor_only:
        run = api.bench(subject, chosen, out=out, listen=listen)
        found.append(_ceilings(measure, settings.threads, planned.sizes))
        heard = {item.id: item for item in run.items}
        planned = plan(target, work, heard)
    surroundings = run.environment if run else environment.read()
    machine = _machine(found, surroundings, run)
    floors = [_floor(one, machine, run) for one in planned.floors]
    record = Roofline(
        id=new_id(subject),
        created=_now(),
        vozmetro=version("vozmetro"),
        subject=subject,
        precision=_precision(target),
        weights="dummy" if _is_dummy(target) else "real",
        parameters=target.models[0].inspection.parameters,
        files={path.name: digest for path, _, digest in target.models[0].files},
        architecture=target.models[0].inspection.marks.get("vozmetro.architecture", ""),
        machine=machine,
        items=floors,
        # Nothing is said to be impossible because of a size that was only assumed.
        claim=None
        if _ASSUMED & planned.notes.keys()
        else judged.claim(subject, _precision(target), floors, machine),
        notes=[*planned.notes.values(), *_run_notes(run), *judged.notes(floors, machine)],
        versions=surroundings.versions,
        run=run.id if run else "",
        command=list(chosen.command),
    )
    return _saved(record, out)


def parameters_floor(
    parameters: float,
    bits: float,
    *,
    name: str = "",
    threads: int | None = None,
    out: Path | None = None,
    command: Sequence[str] = (),
    measure: Measure = ceilings.measure,
) -> Roofline:
    """Returns the floor of a token of a language model of which only the size is known.

    Args:
        parameters: Weights that a token reads: all of a dense model, the active ones of a mixture.
        bits: Of each weight.
        name: What to call it.
        threads: Threads; None for the cores that this process may use.
        out: Folder for `roofline.json`; None saves nothing.
        command: The command line.
        measure: Measures the ceilings.

    Raises:
        InputError: `roofline_bits`, or `threads_range`.
        MeasurementError: The ceilings could not be measured.
    """
    if not 1 <= bits <= 64:
        raise InputError("roofline_bits", given=f"{bits:g}")
    settings = Options(threads=threads).settings("")
    surroundings = environment.read()
    machine = _machine([_ceilings(measure, settings.threads)], surroundings, None)
    work = judged.parameters_work(parameters, bits)
    floors = [judged.floor("token", [work], machine, unit="decode")]
    precision = f"{bits:g} bits"
    name = name or f"{parameters:.3g}"
    record = Roofline(
        id=new_id(name),
        created=_now(),
        vozmetro=version("vozmetro"),
        subject=name,
        precision=precision,
        parameters=round(parameters),
        machine=machine,
        items=floors,
        claim=judged.claim(name, precision, floors, machine),
        notes=judged.notes(floors, machine),
        versions=surroundings.versions,
        command=list(command),
    )
    return _saved(record, out)


def architecture_floor(
    name: str,
    bits: float,
    *,
    threads: int | None = None,
    out: Path | None = None,
    command: Sequence[str] = (),
    measure: Measure = ceilings.measure,
) -> Roofline:
    """Returns the floor of a token of a known architecture, without any file of it.

    Args:
        name: One of `architectures.names()` that makes text.
        bits: Of each weight.
        threads: As for `parameters_floor`.
        out: As there.
        command: As there.
        measure: As there.

    Raises:
        InputError: `architecture_unknown`, `roofline_architecture`, `roofline_bits`.
        MeasurementError: The ceilings could not be measured.
    """
    known = architectures.load(name)
    read = token_weights(known)
    record = parameters_floor(read, bits, name=name, threads=threads, measure=measure)
    fields = {"read": f"{read / 1e9:.2f}", "total": f"{known.parameters() / 1e9:.2f}"}
    notes = [Note(code="roofline_active", fields=fields), *record.notes]
    changed = {
        "parameters": known.parameters(),
        "architecture": name,
        "notes": notes,
        "command": list(command),
    }
    return _saved(record.model_copy(update=changed), out)


def _saved(record: Roofline, out: Path | None) -> Roofline:
    if out is not None:
        write_atomic(out / ROOFLINE_FILE, record.model_dump_json(indent=1).encode())
    return record


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _precision(target: Target) -> str:
    return target.models[0].inspection.precision


def _is_dummy(target: Target) -> bool:
    return target.models[0].inspection.weights == "dummy"


def _run_notes(run: Run | None) -> list[Note]:
    return [note for note in run.notes if note.code in _KEPT] if run else []


def _ceilings(measure: Measure, threads: int, sizes: Sequence[tuple[int, int, int]] = ()) -> Seen:
    # We sleep while we look, so that what is in use is in others' use.
    others = environment.cores_in_use(_LOOK_S)
    return measure(threads, sizes), others


def _machine(seen: Sequence[Seen], surroundings: Environment, run: Run | None) -> Machine:
    """The best of several measurements of ceilings, and of the probes beside the samples."""
    found = [one for one, _ in seen]
    samples = run.samples if run else []
    probes = [one.probe_gbs * 1e9 for one in samples if one.probe_gbs]
    reads = [value for one in found for value in one.stream]
    sizes: dict[str, dict[str, float]] = {}
    for one in found:
        for kind, rates in one.gemm.items():
            known = sizes.setdefault(kind, {})
            known.update({size: max(known.get(size, 0.0), rate) for size, rate in rates.items()})
    return Machine(
        cpu=surroundings.cpu,
        threads=found[0].threads,
        bandwidth=max([one.bandwidth for one in found] + probes),
        bandwidth_median=statistics.median([*reads, *probes]) if reads or probes else 0.0,
        bandwidths=[*reads, *(value for one in found for value in one.product), *probes],
        cache_bytes=found[0].cache_bytes,
        operations={kind: max(rates.values()) for kind, rates in sizes.items() if rates},
        sizes=sizes,
        others=max(others for _, others in seen),
        cores=surroundings.cores_allowed,
    )


def _floor(planned: Planned, machine: Machine, run: Run | None) -> Floor:
    return judged.floor(
        planned.item,
        planned.works,
        machine,
        _samples(planned, run),
        unit=planned.unit,
        length=planned.length,
    )


def _samples(planned: Planned, run: Run | None) -> list[float]:
    """Latencies in ms of what the floor is for."""
    if run is None:
        return []
    samples = [one for one in run.samples if one.item == planned.item]
    if planned.unit != "decode":
        return [one.ms for one in samples]
    return [one.parts["per_token"] for one in samples if "per_token" in one.parts]
