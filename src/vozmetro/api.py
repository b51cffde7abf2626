"""The public functions: measure one subject, measure two side by side, go on with a saved run."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path

from vozmetro.errors import InputError, OutputError
from vozmetro.judge.budget import Budget
from vozmetro.judge.comparison import Comparison
from vozmetro.judge.noise import noise_record
from vozmetro.judge.sequential import decided, first_look, next_look
from vozmetro.measure import environment, noise
from vozmetro.measure.depth_records import AnyRecord, DepthStudy
from vozmetro.measure.live import HANG_S, LiveSubject
from vozmetro.measure.process import WorkerProcess
from vozmetro.measure.records import (
    ComparisonRecord,
    Environment,
    Failure,
    Run,
    Status,
)
from vozmetro.measure.schedule import Listener, Outcome, Progress, Schedule
from vozmetro.measure.storage import (
    COMPARISON_FILE,
    RECORD_FILES,
    RUN_FILE,
    load,
    save,
)
from vozmetro.measure.subject import Target, resolve_subject
from vozmetro.measure.workload import WorkItem
from vozmetro.planning import (
    Options,
    check_fits,
    check_same,
    fit_together,
    new_id,
    new_run,
    resumed,
    unfairness,
    work_for,
)
from vozmetro.report.quality_judged import compared

QUICK_NOISE_PAIRS, NOISE_PAIRS = 100, 1000


def bench(
    subject: str,
    options: Options | None = None,
    *,
    out: Path | None = None,
    listen: Listener = lambda _: None,
) -> Run:
    """Measures one subject in a process of its own.

    Args:
        subject: A path to an `.onnx`, a catalogue name, or `STT+TTS`.
        options: How.
        out: Folder for `run.json`, saved after every block; None saves nothing.
        listen: Told about progress, between blocks.

    Returns:
        The run. Its `status` is `complete`, or `interrupted` (Ctrl-C) or `failed` (with
        `failure`), where something was measured before.

    Raises:
        VozmetroError: The subject or an option cannot be used, or nothing could be measured.
    """
    settings = (options or Options()).settings(subject)
    check_vacant(out)
    # The worker comes up while the model is verified here.
    listen(Progress("verifying", subject))
    with WorkerProcess() as worker:
        target = resolve_subject(subject, device=settings.device)
        work, notes = work_for(settings, [target], listen)
        check_fits([target])
        # Up and asleep, or the noise check would measure its start.
        worker.ask("memory", limit_s=HANG_S)
        surroundings = read_environment(QUICK_NOISE_PAIRS, settings.threads)
        run = new_run(settings, target, work, surroundings, notes)
        live = LiveSubject(target, work, run, worker=worker)
        return _bench(live, run, saver(out, RUN_FILE), listen)


def _bench(
    live: LiveSubject,
    run: Run,
    write: Callable[[AnyRecord], None],
    listen: Listener,
) -> Run:
    budget = Budget.from_mapping(run.settings.budget)
    schedule = Schedule(
        [live],
        run.settings,
        save=lambda status: write(live.run(status)),
        stop=_stop(run, lambda: decided(live.run("running"), budget)),
        listen=listen,
    )
    outcome = schedule.run()
    result = live.run(outcome.status, outcome.failure)
    write_last(result, outcome, write)
    return result


def compare(
    a: str,
    b: str,
    options: Options | None = None,
    *,
    out: Path | None = None,
    listen: Listener = lambda _: None,
    unfair: bool = False,
) -> Comparison:
    """Measures two subjects side by side on the same items in ABBA blocks.

    Args:
        a: First subject, as for `bench`.
        b: Second subject.
        options: How, for both.
        out: Folder for `comparison.json`, saved after every pair of blocks.
        listen: Told about progress, between blocks.
        unfair: Measure although the two differ in more than the model; recorded and printed.

    Raises:
        VozmetroError: As for `bench`; `unfair_*` where the comparison would not be fair.
    """
    chosen = options or Options()
    check_vacant(out)
    settings = [chosen.settings(a), chosen.settings(b)]
    listen(Progress("verifying", f"{a}, {b}"))
    targets = [resolve_subject(name, device=chosen.device) for name in (a, b)]
    reasons = unfairness(*targets)
    if reasons and not unfair:
        raise InputError(reasons[0].code, **reasons[0].fields)
    work, notes = work_for(settings[0], targets, listen)
    together = fit_together(targets)
    surroundings = read_environment(QUICK_NOISE_PAIRS, settings[0].threads)
    runs = [
        new_run(one, target, work, surroundings, notes)
        for one, target in zip(settings, targets, strict=True)
    ]
    record = ComparisonRecord(
        id=new_id(f"{a}-vs-{b}"),
        created=runs[0].created,
        mode="interleaved" if together else "alternating",
        unfair=reasons,
        a=runs[0],
        b=runs[1],
    )
    return _compare(targets, work, record, saver(out, COMPARISON_FILE), listen)


def _compare(
    targets: Sequence[Target],
    work: list[WorkItem],
    record: ComparisonRecord,
    write: Callable[[AnyRecord], None],
    listen: Listener,
) -> Comparison:
    interleaved = record.mode == "interleaved"
    lives = [
        LiveSubject(target, work, run, shared=interleaved)
        for target, run in zip(targets, (record.a, record.b), strict=True)
    ]
    _keep_pairs(lives)
    budget = Budget.from_mapping(record.a.settings.budget)

    def now(status: Status, failure: Failure | None = None) -> ComparisonRecord:
        runs = [live.run(status, failure) for live in lives]
        return record.model_copy(update={"a": runs[0], "b": runs[1]})

    schedule = Schedule(
        lives,
        record.a.settings,
        save=lambda status: write(now(status)),
        stop=_stop(record.a, lambda: all(decided(live.run("running"), budget) for live in lives)),
        listen=listen,
        alternating=not interleaved,
    )
    outcome: Outcome = schedule.run()
    _keep_pairs(lives)
    result = now(outcome.status, outcome.failure)
    write_last(result, outcome, write)
    return compared(result)


def write_last(
    result: AnyRecord,
    outcome: Outcome,
    write: Callable[[AnyRecord], None],
) -> None:
    """Saves the end of a measurement; one that ended because it could not be saved is returned."""
    try:
        write(result)
    except OutputError:
        if outcome.failure is None:
            raise


def _keep_pairs(lives: Sequence[LiveSubject]) -> None:
    """Drops samples without their other half, as Ctrl-C between the two writes leaves them."""
    common = min(live.sample_count for live in lives)
    for live in lives:
        live.truncate(common)


def resume(path: Path, *, listen: Listener = lambda _: None) -> Run | Comparison | DepthStudy:
    """Goes on with a saved measurement where it stopped, and saves it in place.

    Raises:
        InputError: `resume_changed` where model, corpus or machine are not the same any more.
    """
    record = load(path)
    folder = path if path.is_dir() else path.parent
    if isinstance(record, DepthStudy):
        from vozmetro import studies

        return studies.resume(record, folder, listen=listen)
    if isinstance(record, ComparisonRecord):
        targets = [
            resolve_subject(run.settings.subject, run.subject.name, run.settings.device)
            for run in (record.a, record.b)
        ]
        work, _ = work_for(record.a.settings, targets, listen)
        for run, target in zip((record.a, record.b), targets, strict=True):
            check_same(run, target, work)
        marked = {name: resumed(getattr(record, name)) for name in ("a", "b")}
        record = record.model_copy(update=marked)
        return _compare(targets, work, record, saver(folder, COMPARISON_FILE), listen)
    settings = record.settings
    target = resolve_subject(settings.subject, record.subject.name, settings.device)
    work, _ = work_for(record.settings, [target], listen)
    check_same(record, target, work)
    run = resumed(record)
    return _bench(LiveSubject(target, work, run), run, saver(folder, RUN_FILE), listen)


def read_environment(noise_pairs: int = NOISE_PAIRS, threads: int | None = None) -> Environment:
    """Returns the machine's record with an A/A noise check of that many pairs.

    Args:
        noise_pairs: Pairs of the check.
        threads: Threads of the check; None for the cores that this process may use.
    """
    surroundings = environment.read()
    measured = noise.measure(noise_pairs, threads or surroundings.cores_allowed)
    return surroundings.model_copy(update={"noise": noise_record(*measured)})


def load_budget(path: Path) -> Budget:
    """Reads a budget from a TOML file.

    Raises:
        InputError: `file_missing` or `budget_invalid`.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError("file_missing", path=path) from error
    except (OSError, ValueError) as error:
        raise InputError("budget_invalid", detail=error) from error
    return Budget.from_mapping(table)


def check_vacant(out: Path | None) -> None:
    """Refuses a folder that holds a measurement already.

    Raises:
        InputError: `out_taken`.
    """
    if out is not None and any((out / name).exists() for name in RECORD_FILES):
        raise InputError("out_taken", path=out)


def saver(out: Path | None, name: str) -> Callable[[AnyRecord], None]:
    """Returns what writes a record into a folder; it does nothing without one."""
    if out is None:
        return lambda record: None
    return lambda record: save(record, out / name)


def _stop(run: Run, is_decided: Callable[[], bool]) -> Callable[[int], bool]:
    """Asks for the verdict at the looks of the sequential test, not after every block."""
    look = first_look(run.settings.iterations, len(run.items))

    def stop(rounds: int) -> bool:
        nonlocal look
        if rounds < look:
            return False
        look = next_look(rounds)
        return is_decided()

    return stop
