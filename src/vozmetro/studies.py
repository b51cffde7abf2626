"""Measuring at several depths what is too large to be measured, or has parts: the public functions.

A study makes dummies (exact architecture, random weights) at depths that fit, times them by turns
in one process, and leaves it to `judge.depths` to tell the full depth.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from vozmetro.api import QUICK_NOISE_PAIRS, check_vacant, read_environment, saver, write_last
from vozmetro.errors import InputError, ModelError
from vozmetro.judge.depths import LEAST_DEPTHS
from vozmetro.measure import environment
from vozmetro.measure.depth_records import AnyRecord, DepthStudy
from vozmetro.measure.depths import DEPTHS, LiveStudy, Part, Task, build, tasks
from vozmetro.measure.records import Environment, Settings, Subject
from vozmetro.measure.schedule import Listener
from vozmetro.measure.storage import DEPTHS_FILE
from vozmetro.measure.workload import NEW_TOKENS, PROMPT_TOKENS
from vozmetro.models import dummy_name
from vozmetro.models.dummy_name import Dummy
from vozmetro.planning import Options, machine_notes, new_id, refuse_changed, resumed_notes
from vozmetro.units import size


def wants_study(subject: str, options: Options) -> bool:
    """Returns whether a subject is measured at several depths instead of as it is.

    So is a model with random weights where depths are asked for, where it has parts that no single
    engine runs, and where it does not fit in RAM.
    """
    if not dummy_name.is_dummy(subject):
        return False
    dummy = dummy_name.parse(subject)
    if not dummy.stack:
        return False
    many = len(dummy.components) > 1 or bool(options.layers) or options.check_full
    return many or dummy.expected_ram > environment.available_ram()


def study(
    subject: str,
    options: Options | None = None,
    *,
    out: Path | None = None,
    listen: Listener = lambda _: None,
) -> DepthStudy:
    """Measures a model with random weights at several depths, to tell its time at full depth.

    Args:
        subject: `dummy:ARCHITECTURE:PRECISION`.
        options: How; `layers` and `check_full` are for this.
        out: Folder for `depths.json`, saved after every block; None saves nothing.
        listen: Told about progress, between blocks.

    Raises:
        VozmetroError: As for `bench`.
    """
    settings = (options or Options()).settings(subject)
    check_vacant(out)
    dummy = dummy_name.parse(subject)
    depths = _depths(dummy, settings)
    parts = build(dummy, depths, settings.check_full, listen)
    work = _work(parts, settings)
    surroundings = read_environment(QUICK_NOISE_PAIRS, settings.threads)
    record = _new(settings, dummy, parts, work, surroundings)
    return _measured(record, parts, work, saver(out, DEPTHS_FILE), listen)


def resume(record: DepthStudy, folder: Path, *, listen: Listener = lambda _: None) -> DepthStudy:
    """Goes on with a saved study where it stopped, and saves it in place.

    Raises:
        InputError: `resume_changed` where the dummies or the machine are not the same any more.
    """
    settings, subject = record.settings, record.subject
    dummy = dummy_name.parse(subject.name, subject.seed or 0)
    depths = [one.layers for one in record.parts if 0 < one.layers < one.full_layers]
    parts = build(dummy, depths, settings.check_full, listen)
    digests = [[file.sha256 for file in one.files] for one in record.parts]
    refuse_changed(
        record.environment,
        model=digests != [[file.sha256 for file in one.record.files] for one in parts],
    )
    rounds = len(record.samples) // max(1, len(record.tasks))
    notes = resumed_notes(record.notes, rounds)
    record = record.model_copy(update={"notes": notes, "failure": None})
    work = _work(parts, settings)
    return _measured(record, parts, work, saver(folder, DEPTHS_FILE), listen)


def _work(parts: Sequence[Part], settings: Settings) -> list[Task]:
    prompts = settings.prompt_tokens or PROMPT_TOKENS
    return tasks(parts, prompts, settings.new_tokens or NEW_TOKENS, settings.seed)


def _measured(
    record: DepthStudy,
    parts: Sequence[Part],
    work: Sequence[Task],
    write: Callable[[AnyRecord], None],
    listen: Listener,
) -> DepthStudy:
    live = LiveStudy(record, parts, work)
    outcome = live.measure(lambda status: write(live.study(status)), listen)
    result = live.study(outcome.status, outcome.failure)
    write_last(result, outcome, write)
    return result


def _depths(dummy: Dummy, settings: Settings) -> list[int]:
    """Returns the depths of a study, all below the full one.

    Raises:
        InputError: `depths_few` or `depths_range`.
        ModelError: `full_does_not_fit` where the full depth was asked for, `depths_do_not_fit`
            where all the parts together need more RAM than there is.
    """
    wanted = sorted(set(settings.layers)) or [one for one in DEPTHS if one < dummy.full_layers]
    for layers in wanted:
        if not 1 <= layers < dummy.full_layers:
            raise InputError("depths_range", given=layers, most=dummy.full_layers - 1)
    if len(wanted) < LEAST_DEPTHS:
        raise InputError("depths_few", given=len(wanted), least=LEAST_DEPTHS)
    available = environment.available_ram()
    if settings.check_full and dummy.expected_ram > available:
        needed, room = size(dummy.expected_ram), size(available)
        raise ModelError("full_does_not_fit", name=dummy.name, needed=needed, available=room)
    # By their sizes alone, before gigabytes of them are written.
    loaded = [*wanted, *([dummy.full_layers] if settings.check_full else [])]
    together = sum(dummy.ram_of(dummy.stack, layers) for layers in loaded)
    together += sum(dummy.ram_of(graph) for graph in dummy.components if graph != dummy.stack)
    if together > available:
        raise ModelError("depths_do_not_fit", needed=size(together), available=size(available))
    return wanted


def _new(
    settings: Settings,
    dummy: Dummy,
    parts: Sequence[Part],
    work: Sequence[Task],
    surroundings: Environment,
) -> DepthStudy:
    """Returns an empty study with what is known before measuring."""
    architecture = dummy.architecture
    return DepthStudy(
        id=new_id(dummy.name),
        created=datetime.now(UTC).isoformat(timespec="milliseconds"),
        vozmetro=version("vozmetro"),
        status="running",
        subject=Subject(
            name=dummy.name,
            kind="lm",
            clock="time-to-first-token",
            engines=[],
            files=[],
            format="ONNX",
            precision=dummy.precision.upper(),
            parameters=dummy.parameters,
            weights="dummy",
            device=settings.device,
            architecture=architecture.name,
            seed=dummy.seed,
            architecture_sha256=architecture.sha256,
        ),
        full_layers=dummy.full_layers,
        settings=settings,
        environment=surroundings,
        parts=[one.record for one in parts],
        tasks=[one.record for one in work],
        sessions=[],
        samples=[],
        notes=machine_notes(surroundings),
    )
