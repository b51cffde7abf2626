"""The public functions: measure one subject, measure two side by side, go on with a saved run."""

from __future__ import annotations

import secrets
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from vozmetro.errors import InputError
from vozmetro.judge.budget import Budget
from vozmetro.judge.comparison import Comparison, compare_record
from vozmetro.judge.noise import noise_record
from vozmetro.judge.sequential import decided, next_look
from vozmetro.measure import environment, noise
from vozmetro.measure.live import LiveSubject
from vozmetro.measure.records import (
    ComparisonRecord,
    Environment,
    Failure,
    Note,
    Run,
    Settings,
    Status,
    load,
    save,
)
from vozmetro.measure.schedule import Listener, Outcome, Schedule
from vozmetro.measure.subject import Target, resolve_subject
from vozmetro.measure.workload import AUDIO_SECONDS, WorkItem, from_corpus, from_lengths
from vozmetro.models.checks import check_fits, claim_note
from vozmetro.speech.corpus import DEFAULT_CORPUS, load_corpus

RUN_FILE, COMPARISON_FILE = "run.json", "comparison.json"
QUICK_NOISE_PAIRS, NOISE_PAIRS = 100, 1000
_MAX_ITERATIONS = 1_000_000


@dataclass(frozen=True)
class Options:
    """How to measure; every field has the default of the command line.

    Attributes:
        iterations: Least number of runs of each utterance or length.
        corpus: Folder, manifest or packaged corpus of real speech.
        audio_seconds: Lengths in seconds to time instead of whole utterances.
        shapes: Shapes by graph input, instead of the rules.
        threads: Threads of the engine; None for the cores that this process may use.
        budget: The limits.
        until: `decided` measures on until the gating limits are decided; `iterations` does not.
        max_time_s: Seconds after which the measuring loop ends all the same.
        languages: Languages of the corpus to keep; empty for all that the subject knows.
        limit: Most utterances to take.
        claimed_parameters: Parameters that the model is said to hold.
        seed: Seeds orders and synthetic input.
        command: Command line for the report.
    """

    iterations: int = 20
    corpus: str | None = None
    audio_seconds: Sequence[float] = ()
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    threads: int | None = None
    budget: Budget = field(default_factory=Budget)
    until: Literal["decided", "iterations"] = "decided"
    max_time_s: float = 600.0
    languages: Sequence[str] = ()
    limit: int | None = None
    claimed_parameters: float | None = None
    seed: int = 0
    command: Sequence[str] = ()

    def settings(self, subject: str) -> Settings:
        """Returns the record of these options for one subject.

        Raises:
            InputError: `iterations_range`, `threads_range` or `max_time_range`.
        """
        if not 1 <= self.iterations <= _MAX_ITERATIONS:
            raise InputError("iterations_range", given=self.iterations, most=_MAX_ITERATIONS)
        threads = self.threads if self.threads is not None else environment.cores_allowed()
        if not 1 <= threads <= 1024:
            raise InputError("threads_range", given=threads)
        if not self.max_time_s > 0:
            raise InputError("max_time_range", given=self.max_time_s)
        return Settings(
            subject=subject,
            iterations=self.iterations,
            until=self.until,
            max_time_s=self.max_time_s,
            threads=threads,
            seed=self.seed,
            corpus=self.corpus,
            audio_seconds=list(self.audio_seconds),
            shapes={name: list(shape) for name, shape in self.shapes.items()},
            languages=list(self.languages),
            limit=self.limit,
            budget=self.budget.to_mapping(),
            claimed_parameters=self.claimed_parameters,
            command=list(self.command),
        )


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
    target = resolve_subject(subject)
    work, notes = _work(settings, [target])
    _check_fits([target])
    run = _new_run(settings, target, work, _noisy_environment(settings), notes)
    return _bench(target, work, run, _saver(out, RUN_FILE), listen)


def _bench(
    target: Target,
    work: list[WorkItem],
    run: Run,
    write: Callable[[Run | ComparisonRecord], None],
    listen: Listener,
) -> Run:
    live = LiveSubject(target, work, run)
    live.notes += run.notes
    budget = Budget.from_mapping(run.settings.budget)
    schedule = Schedule(
        [live],
        run.settings,
        save=lambda status: write(live.run(status)),
        stop=_stop(lambda: decided(live.run("running"), budget)),
        listen=listen,
    )
    outcome = schedule.run()
    result = live.run(outcome.status, outcome.failure)
    write(result)
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
    settings = [chosen.settings(a), chosen.settings(b)]
    targets = [resolve_subject(a), resolve_subject(b)]
    reasons = _unfair(*targets)
    if reasons and not unfair:
        raise InputError(reasons[0].code, **reasons[0].fields)
    work, notes = _work(settings[0], targets)
    together = _fit_together(targets)
    surroundings = _noisy_environment(settings[0])
    runs = [
        _new_run(one, target, work, surroundings, notes)
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
    return _compare(targets, work, record, _saver(out, COMPARISON_FILE), listen)


def _compare(
    targets: Sequence[Target],
    work: list[WorkItem],
    record: ComparisonRecord,
    write: Callable[[Run | ComparisonRecord], None],
    listen: Listener,
) -> Comparison:
    interleaved = record.mode == "interleaved"
    lives = [
        LiveSubject(target, work, run, shared=interleaved)
        for target, run in zip(targets, (record.a, record.b), strict=True)
    ]
    for live, run in zip(lives, (record.a, record.b), strict=True):
        live.notes += run.notes
    budget = Budget.from_mapping(record.a.settings.budget)

    def now(status: Status, failure: Failure | None = None) -> ComparisonRecord:
        runs = [live.run(status, failure) for live in lives]
        return record.model_copy(update={"a": runs[0], "b": runs[1]})

    schedule = Schedule(
        lives,
        record.a.settings,
        save=lambda status: write(now(status)),
        stop=_stop(lambda: all(decided(live.run("running"), budget) for live in lives)),
        listen=listen,
        alternating=not interleaved,
    )
    outcome: Outcome = schedule.run()
    result = now(outcome.status, outcome.failure)
    write(result)
    return compare_record(result, budget)


def resume(path: Path, *, listen: Listener = lambda _: None) -> Run | Comparison:
    """Goes on with a saved run or comparison where it stopped, and saves it in place.

    Raises:
        InputError: `resume_changed` where model, corpus or machine are not the same any more.
    """
    record = load(path)
    folder = path if path.is_dir() else path.parent
    if isinstance(record, ComparisonRecord):
        targets = [resolve_subject(run.settings.subject) for run in (record.a, record.b)]
        work, _ = _work(record.a.settings, targets)
        for run, target in zip((record.a, record.b), targets, strict=True):
            _check_same(run, target, work)
        marked = {name: _resumed(getattr(record, name)) for name in ("a", "b")}
        record = record.model_copy(update=marked)
        return _compare(targets, work, record, _saver(folder, COMPARISON_FILE), listen)
    target = resolve_subject(record.settings.subject)
    work, _ = _work(record.settings, [target])
    _check_same(record, target, work)
    return _bench(target, work, _resumed(record), _saver(folder, RUN_FILE), listen)


def read_environment(noise_pairs: int = NOISE_PAIRS) -> Environment:
    """Returns the machine's record with an A/A noise check of that many pairs."""
    surroundings = environment.read()
    measured = noise.measure(noise_pairs, surroundings.cores_allowed)
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


def _work(settings: Settings, targets: Sequence[Target]) -> tuple[list[WorkItem], list[Note]]:
    """Items for all the targets, and notes on what was left out."""
    kind = targets[0].kind
    if kind == "tts" and settings.audio_seconds:
        raise InputError("audio_seconds_tts")
    notes: list[Note] = []
    lengths = settings.audio_seconds
    if kind == "graph" and not settings.corpus:
        # With a fixed shape, the length of the audio changes nothing.
        lengths = lengths or ([1.0] if settings.shapes else list(AUDIO_SECONDS))
        return from_lengths(lengths, [], settings.seed), notes
    corpus = settings.corpus or DEFAULT_CORPUS
    utterances = load_corpus(corpus, settings.languages)
    for target in targets:
        known = set(target.languages)
        if not known:
            continue
        kept = [one for one in utterances if not one.language or one.language in known]
        left = sorted({one.language for one in utterances if one not in kept})
        if left:
            fields = {"subject": target.name, "languages": ", ".join(left)}
            if not kept:
                raise InputError("no_common_language", **fields)
            fields["count"] = str(len(utterances) - len(kept))
            notes.append(Note(code="languages_left_out", fields=fields))
        utterances = kept
    if settings.limit is not None:
        kept_languages = sorted({one.language for one in utterances})
        utterances = load_corpus(corpus, kept_languages, settings.limit)
    if lengths:
        first = [one for one in utterances if one.language == utterances[0].language]
        return from_lengths(lengths, first, settings.seed), notes
    return from_corpus(utterances, settings.seed), notes


def new_id(name: str) -> str:
    """A name for the run's folder: time, subject, and a few random letters."""
    stem = "".join(c if c.isalnum() or c in "._-+" else "-" for c in Path(name).name)
    now = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    return f"{now}-{stem[:60]}-{secrets.token_hex(2)}"


def _new_run(
    settings: Settings,
    target: Target,
    work: Sequence[WorkItem],
    surroundings: Environment,
    notes: Sequence[Note],
) -> Run:
    claimed = settings.claimed_parameters
    claims = [claim_note(model, claimed) for model in target.models if claimed is not None]
    claim_notes = [Note(code=one.code, fields=dict(one.fields)) for one in claims if one]
    busy = surroundings.load is not None and surroundings.load > 0.5 * surroundings.cores_allowed
    state = []
    if busy:
        fields = {"load": f"{surroundings.load:.2f}", "cores": str(surroundings.cores_allowed)}
        state.append(Note(code="machine_busy", fields=fields))
    if surroundings.power == "battery":
        state.append(Note(code="on_battery"))
    engines = [model.engine for model in target.models]
    return Run(
        id=new_id(target.name),
        created=datetime.now(UTC).isoformat(timespec="milliseconds"),
        vozmetro=version("vozmetro"),
        status="running",
        subject=target.record(engines, [{} for _ in engines], {}, claimed),
        settings=settings,
        environment=surroundings,
        items=[item.record() for item in work],
        sessions=[],
        samples=[],
        notes=[*claim_notes, *state, *notes],
    )


def _noisy_environment(settings: Settings) -> Environment:
    surroundings = environment.read()
    measured = noise.measure(QUICK_NOISE_PAIRS, settings.threads)
    return surroundings.model_copy(update={"noise": noise_record(*measured)})


def _saver(out: Path | None, name: str) -> Callable[[Run | ComparisonRecord], None]:
    if out is None:
        return lambda record: None
    return lambda record: save(record, out / name)


def _stop(is_decided: Callable[[], bool]) -> Callable[[int], bool]:
    """Asks for the verdict at the looks of the sequential test, not after every block."""
    look = 0

    def stop(rounds: int) -> bool:
        nonlocal look
        if rounds < look:
            return False
        look = next_look(rounds)
        return is_decided()

    return stop


def _check_fits(targets: Sequence[Target]) -> None:
    """Refuses what cannot fit in RAM, with the arithmetic.

    Raises:
        ModelError: `does_not_fit`.
    """
    for target in targets:
        left = environment.available_ram()
        for model in target.models:
            check_fits(model, left)
            left -= model.inspection.expected_ram


def _fit_together(targets: Sequence[Target]) -> bool:
    _check_fits(targets)
    return sum(target.expected_ram for target in targets) <= environment.available_ram()


def _unfair(a: Target, b: Target) -> list[Note]:
    """Differences besides the model (DESIGN, rule 10); threads and device are always equal."""
    if a.kind != b.kind:
        return [Note(code="unfair_kind", fields={"a": a.kind, "b": b.kind})]
    floats = [
        "/".join(
            sorted({p.dtype for p in target.models[0].inspection.inputs if "float" in p.dtype})
        )
        for target in (a, b)
    ]
    if floats[0] != floats[1]:
        return [Note(code="unfair_inputs", fields={"a": floats[0], "b": floats[1]})]
    return []


def _check_same(run: Run, target: Target, work: Sequence[WorkItem]) -> None:
    files = {digest for model in target.models for _, _, digest in model.files}
    surroundings = environment.read()
    was, known = run.environment.versions, surroundings.versions
    changed = {
        "model": files != {file.sha256 for file in run.subject.files},
        "corpus": [item.id for item in work] != [item.id for item in run.items],
        "machine": surroundings.cpu != run.environment.cpu,
        "versions": any(known.get(name) != was[name] for name in was if name != "python"),
    }
    what = [name for name, is_changed in changed.items() if is_changed]
    if what:
        raise InputError("resume_changed", what=", ".join(what))


def _resumed(run: Run) -> Run:
    """The run with its measured notes taken off, which are made anew, and one on resuming."""
    kept = ("claim", "machine_busy", "on_battery", "languages_left_out", "resumed")
    notes = [note for note in run.notes if note.code.startswith(kept)]
    fields = {"rounds": str(len(run.samples) // max(1, len(run.items)))}
    notes.append(Note(code="resumed", fields=fields))
    return run.model_copy(update={"notes": notes, "failure": None})
