"""Quality of subjects on real speech: the public function, and what goes on with a saved study."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from vozmetro.assess import voices
from vozmetro.assess.growing import Growing
from vozmetro.assess.options import QualityOptions
from vozmetro.assess.sound import Sound, items_of
from vozmetro.assess.worker import StudyWorker
from vozmetro.errors import InputError, ModelError, OutputError, VozmetroError
from vozmetro.measure import environment
from vozmetro.measure.quality_records import (
    CLEAN,
    CorpusFacts,
    Heard,
    QualityStudy,
    SpeechItem,
    System,
)
from vozmetro.measure.records import Failure, Subject
from vozmetro.measure.schedule import Listener, Progress
from vozmetro.measure.storage import QUALITY_FILE, load_quality
from vozmetro.measure.subject import Target, resolve_subject
from vozmetro.planning import (
    fit_together,
    from_anywhere,
    machine_notes,
    new_id,
    refuse_changed,
    utterances_for,
)
from vozmetro.speech import conditions
from vozmetro.speech.conditions import Condition
from vozmetro.speech.corpus import Utterance, corpora_info
from vozmetro.speech.normalize import normalizer_name

_BATCH_ITEMS, _BATCH_S = 32, 90.0
"""Most items, and most seconds of audio, that a worker holds at once."""


def quality(
    subjects: Sequence[str],
    options: QualityOptions,
    *,
    out: Path,
    listen: Listener = lambda _: None,
    predict: bool = True,
) -> QualityStudy:
    """Has subjects hear, or say, the same speech, and keeps what came out.

    Args:
        subjects: What listens (speech to text, or a cascade), or voices; not both.
        options: How.
        out: Folder for `quality.json`, saved after every batch, and for the clips of voices.
        listen: Told about progress, between batches.
        predict: Whether the quality of sound in other conditions is predicted, where it can be.

    Returns:
        The study. Its `status` is `complete`, or `interrupted` (Ctrl-C) or `failed`, where
        something was kept before.

    Raises:
        VozmetroError: A subject, the corpus or an option cannot be used, or nothing was kept.
    """
    named = _conditions(options.conditions)
    settings = options.settings(subjects, [one.name for one in named])
    if (out / QUALITY_FILE).exists():
        raise InputError("out_taken", path=out)
    targets = subjects_of(options.named(subjects), listen, options)
    utterances, notes = utterances_for(
        settings.corpus, settings.languages, settings.limit, targets, listen
    )
    speaks = targets[0].kind == "tts"
    if speaks and len(named) > 1:
        raise InputError("conditions_voice")
    items = items_of(utterances, named, unspoken=not speaks)
    surroundings = environment.read()
    record = QualityStudy(
        id=new_id("quality"),
        created=datetime.now(UTC).isoformat(timespec="milliseconds"),
        vozmetro=version("vozmetro"),
        status="running",
        settings=settings,
        environment=surroundings,
        corpora=[CorpusFacts(**asdict(one)) for one in corpora_info(settings.corpus, utterances)],
        normalizers=normalizers_of(one.language for one in utterances),
        items=items,
        systems=[System(subject=unloaded(target)) for target in targets],
        notes=[*machine_notes(surroundings), *notes],
    )
    growing = _growing(record, out, listen)
    return _go_on(growing, targets, utterances, named, predict and _can_predict())


def resume(path: Path, *, listen: Listener = lambda _: None) -> QualityStudy:
    """Goes on with a saved study where it stopped, and saves it in place.

    Raises:
        InputError: `resume_changed` where speech, models or machine are not the same any more.
    """
    folder = path if path.is_dir() else path.parent
    record = load_quality(path)
    settings = record.settings
    named = _conditions(",".join(settings.conditions))
    targets = [
        resolve_subject(words, system.subject.name, settings.device)
        for words, system in zip(settings.subjects, record.systems, strict=True)
    ]
    utterances, _ = utterances_for(
        settings.corpus, settings.languages, settings.limit, targets, listen
    )
    again = items_of(utterances, named, unspoken=targets[0].kind != "tts")
    keys = [[(one.id, one.condition, one.text, one.seconds) for one in items]
            for items in (record.items, again)]  # fmt: skip
    changed = any(
        {digest for model in target.models for _, _, digest in model.files}
        != {file.sha256 for file in system.subject.files}
        for target, system in zip(targets, record.systems, strict=True)
    )
    refuse_changed(record.environment, corpus=keys[0] != keys[1], model=changed)
    record = record.model_copy(update={"failure": None})
    growing = _growing(record, folder, listen)
    return _go_on(growing, targets, utterances, named, _can_predict())


def _growing(record: QualityStudy, out: Path, listen: Listener) -> Growing:
    return Growing(
        record,
        list(record.items),
        list(record.systems),
        out,
        listen,
        list(record.human),
        record.judge,
    )


def _go_on(
    growing: Growing,
    targets: Sequence[Target],
    utterances: Sequence[Utterance],
    named: Sequence[Condition],
    predict: bool,
) -> QualityStudy:
    try:
        if targets[0].kind == "tts":
            voices.speak(growing, targets)
        else:
            _listen(growing, targets, utterances, named, predict)
    except (VozmetroError, KeyboardInterrupt) as error:
        if isinstance(error, OutputError) or not any(
            one.heard or one.clips for one in growing.systems
        ):
            raise
        if isinstance(error, KeyboardInterrupt):
            return growing.save("interrupted")
        return growing.save("failed", Failure(code=error.code, fields=error.fields))
    return growing.save("complete")


def _listen(
    growing: Growing,
    targets: Sequence[Target],
    utterances: Sequence[Utterance],
    named: Sequence[Condition],
    predict: bool,
) -> None:
    """Has every subject hear every item, by turns where they fit in RAM together."""
    settings = growing.record.settings
    together = fit_together(targets)
    groups = [list(enumerate(targets))] if together else [[one] for one in enumerate(targets)]
    order = list(range(len(growing.items)))
    # Mixed, so that a study that was cut short is a fair part, and drift meets all conditions.
    random.Random(settings.seed).shuffle(order)  # noqa: S311
    threads = settings.threads if len(named) > 1 and predict else 0
    with closing(Sound(utterances, named, settings.seed, predict=threads)) as sound:
        for group in groups:
            with ExitStack() as stack:
                workers = {}
                for number, target in group:
                    growing.listen(Progress("loading", target.name))
                    worker = StudyWorker(target, settings.threads)
                    workers[number] = stack.enter_context(closing(worker))
                    _describe(growing, number, workers[number])
                _hear_all(growing, workers, order, sound)


def _hear_all(
    growing: Growing, workers: dict[int, StudyWorker], order: Sequence[int], sound: Sound
) -> None:
    done = {number: {one.item for one in growing.systems[number].heard} for number in workers}
    waiting = [index for index in order if any(index not in known for known in done.values())]
    reached = len(order) - len(waiting)
    name = ", ".join(growing.systems[number].subject.name for number in workers)
    for turn, batch in enumerate(_batches(waiting, growing.items)):
        growing.listen(Progress("measuring", name, reached, len(order)))
        ready = []
        for index in batch:
            work, growing.items[index] = sound.ready(growing.items[index])
            ready.append(work)
        # Who is first changes, so that neither always meets the machine as the other left it.
        for number in list(workers) if turn % 2 == 0 else list(workers)[::-1]:
            todo = [at for at, index in enumerate(batch) if index not in done[number]]
            if not todo:
                continue
            try:
                told = workers[number].hear([ready[at] for at in todo])
            except VozmetroError as error:
                _lost(growing, workers, number, error)
                continue
            heard = [
                Heard(item=batch[at], output=text, ms=ms)
                for at, (text, ms) in zip(todo, told, strict=True)
            ]
            last = growing.systems[number]
            growing.systems[number] = last.model_copy(
                update={
                    "heard": [*last.heard, *heard],
                    "peak_rss": max(last.peak_rss, workers[number].peak_rss),
                }
            )
        reached += len(batch)
        growing.save()
        sound.clear()


def _lost(
    growing: Growing, workers: dict[int, StudyWorker], number: int, error: VozmetroError
) -> None:
    """Goes on without a subject that failed.

    Raises:
        VozmetroError: None is left.
    """
    failure = Failure(code=error.code, fields=error.fields)
    growing.systems[number] = growing.systems[number].model_copy(update={"failure": failure})
    workers.pop(number).close()
    if not workers:
        raise error


def _batches(order: Sequence[int], items: Sequence[SpeechItem]) -> Iterator[list[int]]:
    batch: list[int] = []
    seconds = 0.0
    for index in order:
        if batch and (len(batch) == _BATCH_ITEMS or seconds + items[index].seconds > _BATCH_S):
            yield batch
            batch, seconds = [], 0.0
        batch.append(index)
        seconds += items[index].seconds
    if batch:
        yield batch


def _describe(growing: Growing, number: int, worker: StudyWorker) -> None:
    growing.systems[number] = growing.systems[number].model_copy(
        update={"subject": worker.subject, "load_ms": worker.load_ms}
    )


def _conditions(text: str) -> list[Condition]:
    """Returns the conditions, `clean` first."""
    parsed = conditions.parse(text)
    others = [one for one in parsed if one.name != CLEAN]
    return [*conditions.parse(CLEAN), *others]


def subjects_of(names: Sequence[str], listen: Listener, options: QualityOptions) -> list[Target]:
    """Returns the subjects, which must all listen or all speak.

    Raises:
        InputError: `quality_kind`, `quality_kinds`, `judge_voice` or `judge_kind`.
        ModelError: `dummy_quality` for random weights.
    """
    listen(Progress("verifying", ", ".join(names)))
    # Called as the user calls them, as in a measurement: that is how records find each other.
    targets = [resolve_subject(from_anywhere(one), one, options.device) for one in names]
    for target in targets:
        if target.kind not in ("stt", "cascade", "tts"):
            raise InputError("quality_kind", name=target.name, kind=target.kind)
        _check_weights(target)
    if len({target.kind == "tts" for target in targets}) > 1:
        raise InputError("quality_kinds", names=", ".join(names))
    if options.judge:
        if targets[0].kind != "tts":
            raise InputError("judge_voice")
        # Before any voice speaks: afterwards it would be hours too late.
        judge = resolve_subject(options.judge, device=options.device)
        if judge.kind != "stt":
            raise InputError("judge_kind", name=judge.name, kind=judge.kind)
        _check_weights(judge)
    return targets


def _check_weights(target: Target) -> None:
    if any(model.inspection.weights == "dummy" for model in target.models):
        raise ModelError("dummy_quality", name=target.name)


def unloaded(target: Target) -> Subject:
    """The record of a subject before it was loaded."""
    return target.record([], [{} for _ in target.models], {}, None)


def normalizers_of(languages: Iterable[str]) -> dict[str, str]:
    """Returns, by language, how words are made comparable."""
    return {code: normalizer_name(code) for code in sorted(set(languages))}


def _can_predict() -> bool:
    """Whether the extra that predicts quality is installed; without it, words are counted alone."""
    from importlib.util import find_spec

    return find_spec("speechmos") is not None
