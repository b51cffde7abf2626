"""From options to what is measured: settings, items of work, new runs, and what is refused."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from vozmetro.errors import InputError
from vozmetro.judge.budget import Budget
from vozmetro.measure import environment
from vozmetro.measure.records import Device, Environment, Note, Run, Settings
from vozmetro.measure.schedule import Listener, Progress
from vozmetro.measure.subject import CASCADE, Target
from vozmetro.measure.workload import (
    AUDIO_SECONDS,
    MOST_TOKENS,
    NEW_TOKENS,
    PROMPT_TOKENS,
    WorkItem,
    from_corpus,
    from_lengths,
    from_prompts,
)
from vozmetro.models.checks import check_fits as check_model_fits
from vozmetro.models.checks import claim_note
from vozmetro.models.resolve import PIPER_PREFIXES, split_options
from vozmetro.pipeline.endpoint import HANGOVER_S, Endpointing
from vozmetro.speech.corpus import DEFAULT_CORPUS, Utterance, load_corpus

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
        device: Where to run: `cpu` or `cuda`. A subject's own option `provider` goes before it.
        prompt_tokens: Lengths of the prompts for a language model; empty for the default ones.
        new_tokens: Tokens that a language model gives for each prompt, the first one included.
        layers: Depths of a study of depths; empty for automatic ones.
        check_full: Whether a study of depths measures the full depth too.
        turns: Whether a cascade is measured in whole turns, at the pace of speech.
        hangover_s: Seconds of silence that end such a turn; None for the pipeline's default.
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
    device: Device = "cpu"
    prompt_tokens: Sequence[int] = ()
    new_tokens: int | None = None
    layers: Sequence[int] = ()
    check_full: bool = False
    turns: bool = False
    hangover_s: float | None = None

    def settings(self, subject: str) -> Settings:
        """Returns the record of these options for one subject.

        Raises:
            InputError: `iterations_range`, `threads_range`, `max_time_range` or `tokens_range`.
        """
        if not 1 <= self.iterations <= _MAX_ITERATIONS:
            raise InputError("iterations_range", given=self.iterations, most=_MAX_ITERATIONS)
        threads = self.threads if self.threads is not None else environment.cores_allowed()
        if not 1 <= threads <= 1024:
            raise InputError("threads_range", given=threads)
        if not self.max_time_s > 0:
            raise InputError("max_time_range", given=self.max_time_s)
        for tokens in (*self.prompt_tokens, self.new_tokens or 1):
            if not 1 <= tokens <= MOST_TOKENS:
                raise InputError("tokens_range", given=tokens, most=MOST_TOKENS)
        return Settings(
            subject=from_anywhere(subject),
            iterations=self.iterations,
            until=self.until,
            max_time_s=self.max_time_s,
            threads=threads,
            seed=self.seed,
            corpus=self.corpus and corpus_from_anywhere(self.corpus),
            audio_seconds=list(self.audio_seconds),
            shapes={name: list(shape) for name, shape in self.shapes.items()},
            languages=list(self.languages),
            limit=self.limit,
            budget=self.budget.to_mapping(),
            claimed_parameters=self.claimed_parameters,
            command=list(self.command),
            device=self.device,
            prompt_tokens=list(self.prompt_tokens),
            new_tokens=self.new_tokens or 0,
            layers=list(self.layers),
            check_full=self.check_full,
            hangover_s=self._hangover(),
        )

    def _hangover(self) -> float | None:
        if not self.turns:
            if self.hangover_s is not None:
                raise InputError("hangover_alone")
            return None
        asked = HANGOVER_S if self.hangover_s is None else self.hangover_s
        return Endpointing(asked).hangover_s


def from_anywhere(words: str) -> str:
    """The same words with the paths in them absolute, so that a resume finds them from any folder.

    Args:
        words: A path, a name, `piper:` or `piper-onnx:` and a path, with engine options or
            without, or two of them joined by `+`.
    """
    if Path(words).exists():
        return str(Path(words).resolve())
    if CASCADE in words:
        return CASCADE.join(from_anywhere(part.strip()) for part in words.split(CASCADE))
    bare, options = split_options(words)
    if options:
        return from_anywhere(bare) + words[len(bare) :]
    for prefix in PIPER_PREFIXES:
        if words.startswith(prefix):
            return prefix + from_anywhere(words.removeprefix(prefix))
    return words


def corpus_from_anywhere(words: str) -> str:
    """The same corpora, joined by commas, with the paths in them absolute.

    Args:
        words: As `speech.corpus.load_corpus` takes them.
    """
    if Path(words).exists():
        return str(Path(words).resolve())
    found = []
    for part in words.split(","):
        scheme, colon, rest = part.strip().partition(":")
        local = colon and Path(rest).exists()
        found.append(f"{scheme}:{Path(rest).resolve()}" if local else from_anywhere(part.strip()))
    return ",".join(found)


def work_for(
    settings: Settings, targets: Sequence[Target], listen: Listener = lambda _: None
) -> tuple[list[WorkItem], list[Note]]:
    """Items for all the targets, and notes on what was left out.

    Args:
        settings: How they will be measured.
        targets: The subjects.
        listen: Told what is being downloaded.

    Raises:
        InputError: Options that do not go with the subjects, or a corpus without their languages.
    """
    kind = targets[0].kind
    kinds = {target.kind for target in targets}
    if "lm" in kinds:
        if len(kinds) > 1:
            raise InputError("lm_alone", a=targets[0].kind, b=targets[1].kind)
        return _prompts(settings), []
    if settings.prompt_tokens or settings.new_tokens:
        raise InputError("prompts_only", kind=kind)
    if kind == "tts" and settings.audio_seconds:
        raise InputError("audio_seconds_tts")
    if settings.hangover_s is not None and (kinds != {"cascade"} or settings.audio_seconds):
        raise InputError("turns_cascade")
    notes: list[Note] = []
    lengths = settings.audio_seconds
    if kind == "graph" and not settings.corpus:
        # With a fixed shape, the length of the audio changes nothing.
        lengths = lengths or ([1.0] if settings.shapes else list(AUDIO_SECONDS))
        return from_lengths(lengths, [], settings.seed), notes
    corpus = settings.corpus or DEFAULT_CORPUS
    utterances, notes = utterances_for(corpus, settings.languages, settings.limit, targets, listen)
    if lengths:
        first = [one for one in utterances if one.language == utterances[0].language]
        return from_lengths(lengths, first, settings.seed), notes
    return from_corpus(utterances, settings.seed), notes


def utterances_for(
    corpus: str,
    languages: Sequence[str],
    limit: int | None,
    targets: Sequence[Target],
    listen: Listener = lambda _: None,
) -> tuple[list[Utterance], list[Note]]:
    """Utterances in languages that all the targets know, and notes on what was left out.

    Args:
        corpus: As `load_corpus` takes it.
        languages: Languages to keep; empty for all.
        limit: Most utterances; None for all.
        targets: What will listen or speak.
        listen: Told what is being downloaded, where the corpus is not here.

    Raises:
        InputError: `no_common_language`, and what `load_corpus` raises.
    """
    notes: list[Note] = []
    utterances = load_corpus(
        corpus, languages, listen=lambda name: listen(Progress("fetching", name))
    )
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
    if limit is not None:
        kept_languages = sorted({one.language for one in utterances})
        utterances = load_corpus(corpus, kept_languages, limit)
    return utterances, notes


def _prompts(settings: Settings) -> list[WorkItem]:
    """Prompts for language models.

    Raises:
        InputError: `tokens_only` where something was asked for that only speech has.
    """
    if settings.corpus or settings.audio_seconds or settings.shapes:
        raise InputError("tokens_only")
    lengths = settings.prompt_tokens or PROMPT_TOKENS
    return from_prompts(lengths, settings.new_tokens or NEW_TOKENS, settings.seed)


def new_id(name: str) -> str:
    """A name for the run's folder: time, subject, and a few random letters."""
    stem = "".join(c if c.isalnum() or c in "._-+" else "-" for c in Path(name).name)
    now = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    return f"{now}-{stem[:60]}-{secrets.token_hex(2)}"


def new_run(
    settings: Settings,
    target: Target,
    work: Sequence[WorkItem],
    surroundings: Environment,
    notes: Sequence[Note],
) -> Run:
    """Returns an empty run with what is known before measuring.

    Args:
        settings: How it will be measured.
        target: The subject.
        work: Its items.
        surroundings: The machine.
        notes: What `work_for` noted.
    """
    claimed = settings.claimed_parameters
    claims = [claim_note(model, claimed) for model in target.models if claimed is not None]
    claim_notes = [Note(code=one.code, fields=dict(one.fields)) for one in claims if one]
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
        notes=[*claim_notes, *machine_notes(surroundings), *notes],
    )


def machine_notes(surroundings: Environment) -> list[Note]:
    """Notes on what else the machine does, and on its power."""
    # What runs now; the load average would still count what we measured a minute ago.
    load = environment.cores_in_use()
    found = []
    if load > 0.5 * surroundings.cores_allowed:
        fields = {"load": f"{load:.2f}", "cores": str(surroundings.cores_allowed)}
        found.append(Note(code="machine_busy", fields=fields))
    if surroundings.power == "battery":
        found.append(Note(code="on_battery"))
    return found


def check_fits(targets: Sequence[Target]) -> None:
    """Refuses what cannot fit in RAM, with the arithmetic.

    Raises:
        ModelError: `does_not_fit`.
    """
    for target in targets:
        left = environment.available_ram()
        for model in target.models:
            check_model_fits(model, left)
            left -= model.inspection.expected_ram


def fit_together(targets: Sequence[Target]) -> bool:
    """Whether all the targets fit in RAM at once; each has to fit alone, as in `check_fits`."""
    check_fits(targets)
    return sum(target.expected_ram for target in targets) <= environment.available_ram()


def unfairness(a: Target, b: Target) -> list[Note]:
    """Differences besides the model (DESIGN, rule 10); threads are always equal."""
    found = []
    if a.device != b.device:
        found.append(Note(code="unfair_device", fields={"a": a.device, "b": b.device}))
    if a.kind != b.kind:
        return [*found, Note(code="unfair_kind", fields={"a": a.kind, "b": b.kind})]
    if a.kind == "lm":
        # They take token numbers; their floating-point inputs are their own caches.
        return found
    floats = [
        "/".join(
            sorted({p.dtype for p in target.models[0].inspection.inputs if "float" in p.dtype})
        )
        for target in (a, b)
    ]
    if floats[0] != floats[1]:
        found.append(Note(code="unfair_inputs", fields={"a": floats[0], "b": floats[1]}))
    return found


def check_same(run: Run, target: Target, work: Sequence[WorkItem]) -> None:
    """Refuses to go on with a run where what is measured, or on what, has changed.

    Raises:
        InputError: `resume_changed`, naming what.
    """
    files = {digest for model in target.models for _, _, digest in model.files}
    refuse_changed(
        run.environment,
        model=files != {file.sha256 for file in run.subject.files},
        corpus=[(one.id, one.seconds, one.text, one.new_tokens) for one in work]
        != [(one.id, one.seconds, one.text, one.new_tokens) for one in run.items],
    )


def refuse_changed(was: Environment, **changed: bool) -> None:
    """Refuses to go on where something has changed, or the machine or its packages have.

    Args:
        was: The machine then.
        **changed: Whether each thing has changed, by its name.

    Raises:
        InputError: `resume_changed`, naming what.
    """
    now = environment.read()
    changed["machine"] = now.cpu != was.cpu
    changed["versions"] = any(
        now.versions.get(name) != known for name, known in was.versions.items() if name != "python"
    )
    what = [name for name, is_changed in changed.items() if is_changed]
    if what:
        raise InputError("resume_changed", what=", ".join(what))


def resumed(run: Run) -> Run:
    """The run with a note on resuming, and without those that the rest of it will settle."""
    rounds = len(run.samples) // max(1, len(run.items))
    return run.model_copy(update={"notes": resumed_notes(run.notes, rounds), "failure": None})


def resumed_notes(notes: Sequence[Note], rounds: int) -> list[Note]:
    """The notes of a measurement that goes on after so many rounds."""
    kept = [note for note in notes if note.code not in ("max_time_reached", "resumed")]
    return [*kept, Note(code="resumed", fields={"rounds": str(rounds)})]
