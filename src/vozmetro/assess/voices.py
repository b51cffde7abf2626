"""What voices make of the texts of a corpus: clips, and what can be told from them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import asdict
from pathlib import Path

from vozmetro.assess.growing import Growing
from vozmetro.assess.worker import Spoken, StudyWorker
from vozmetro.audio import read
from vozmetro.errors import InputError, OutputError
from vozmetro.measure.quality_records import Clip, SpeechItem
from vozmetro.measure.schedule import Progress
from vozmetro.measure.subject import Target, resolve_subject
from vozmetro.measure.workload import WorkItem
from vozmetro.units import file_name

CLIPS = "clips"
"""Folder of the clips, one below it for each voice and repeat; `human` holds the recordings."""
HUMAN = "human"
_BATCH = 8


def speak(growing: Growing, targets: Sequence[Target]) -> None:
    """Has every voice say every text, and scores the clips.

    Args:
        growing: The study.
        targets: Its voices.

    Raises:
        VozmetroError: As a voice or the judge fails.
    """
    names = folder_names([target.name for target in targets])
    for number, target in enumerate(targets):
        folder = _made(growing.out / CLIPS / names[number])
        growing.listen(Progress("loading", target.name))
        with closing(StudyWorker(target, growing.record.settings.threads)) as worker:
            growing.systems[number] = growing.systems[number].model_copy(
                update={"subject": worker.subject, "load_ms": worker.load_ms}
            )
            _say_all(growing, number, worker, folder)
    _humans(growing)
    if growing.record.settings.judge:
        _judge(growing)


def folder_names(subjects: Sequence[str]) -> list[str]:
    """Returns a plain and different folder name for each subject."""
    found: list[str] = []
    for name in subjects:
        plain = file_name(name) or "voice"
        taken = [HUMAN, *found]
        number, chosen = 2, plain
        while chosen in taken:
            chosen, number = f"{plain}-{number}", number + 1
        found.append(chosen)
    return found


def _say_all(growing: Growing, number: int, worker: StudyWorker, folder: Path) -> None:
    repeats = growing.record.settings.repeats
    done = {(clip.item, clip.repeat) for clip in growing.systems[number].clips}
    every = [(index, turn) for turn in range(repeats) for index in range(len(growing.items))]
    waiting = [one for one in every if one not in done]
    name = growing.systems[number].subject.name
    for start in range(0, len(waiting), _BATCH):
        growing.listen(Progress("measuring", name, len(every) - len(waiting) + start, len(every)))
        batch = waiting[start : start + _BATCH]
        paths = [
            _made(folder.with_name(folder.name + (f"-repeat{turn}" if turn else "")))
            / _file(growing.items[index], index)
            for index, turn in batch
        ]
        told = worker.speak([_text(growing.items[index]) for index, _ in batch], paths)
        clips = [
            _clip(growing, index, turn, path, one)
            for (index, turn), path, one in zip(batch, paths, told, strict=True)
        ]
        last = growing.systems[number]
        growing.systems[number] = last.model_copy(
            update={
                "clips": [*last.clips, *clips],
                "peak_rss": max(last.peak_rss, worker.peak_rss),
            }
        )
        growing.save()


def _clip(growing: Growing, index: int, turn: int, path: Path, told: Spoken) -> Clip:
    predicted, activity = _scores(path, growing.items[index], growing.record.settings.threads)
    return Clip(
        item=index,
        repeat=turn,
        path=path.relative_to(growing.out).as_posix(),
        seconds=told.seconds,
        ms=told.ms,
        first_audio_ms=told.first_audio_ms,
        predicted=predicted,
        prosody=activity,
    )


def _scores(
    path: Path, item: SpeechItem, threads: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Predicted quality and prosodic activity of a clip."""
    from vozmetro.quality.predicted import predict
    from vozmetro.quality.prosody import prosody

    waveform = read(path)
    predicted: dict[str, float] = {}
    found: dict[str, float | None] = {}
    # Some clips are too short, or too quiet, for the one or the other.
    with suppress(InputError):
        predicted = predict(waveform, threads)
    with suppress(InputError):
        found = asdict(prosody(waveform, item.text, item.language))
    return predicted, {name: value for name, value in found.items() if value is not None}


def _humans(growing: Growing) -> None:
    """Scores the recordings of the same texts, where people speak in them."""
    known = {clip.item for clip in growing.human}
    spoken = [
        index
        for index, item in enumerate(growing.items)
        if not item.synthetic and item.path and index not in known
    ]
    folder = _made(growing.out / CLIPS / HUMAN) if spoken else growing.out
    for done, index in enumerate(spoken):
        growing.listen(Progress("scoring", HUMAN, done, len(spoken)))
        item = growing.items[index]
        path = folder / _file(item, index)
        _copy(Path(item.path), path)
        predicted, activity = _scores(path, item, growing.record.settings.threads)
        growing.human.append(
            Clip(
                item=index,
                path=path.relative_to(growing.out).as_posix(),
                seconds=item.seconds,
                ms=0.0,
                first_audio_ms=0.0,
                predicted=predicted,
                prosody=activity,
            )
        )
    growing.save()


def _judge(growing: Growing) -> None:
    """Has speech to text listen to every clip, and to the recordings."""
    settings = growing.record.settings
    target = resolve_subject(settings.judge, device=settings.device)
    growing.listen(Progress("loading", target.name))
    with closing(StudyWorker(target, settings.threads)) as worker:
        growing.judge = worker.subject
        growing.human = _judged(growing, worker, growing.human, HUMAN)
        for number, system in enumerate(growing.systems):
            clips = _judged(growing, worker, system.clips, system.subject.name)
            growing.systems[number] = growing.systems[number].model_copy(update={"clips": clips})
            growing.save()


def _judged(growing: Growing, worker: StudyWorker, clips: Sequence[Clip], name: str) -> list[Clip]:
    found = list(clips)
    waiting = [index for index, clip in enumerate(found) if clip.heard is None]
    for start in range(0, len(waiting), _BATCH):
        growing.listen(Progress("scoring", name, start, len(waiting)))
        batch = waiting[start : start + _BATCH]
        told = worker.hear([_recording(growing, found[index]) for index in batch])
        for index, (words, _) in zip(batch, told, strict=True):
            found[index] = found[index].model_copy(update={"heard": words})
    return found


def _recording(growing: Growing, clip: Clip) -> WorkItem:
    item = growing.items[clip.item]
    path = str(growing.out / clip.path)
    return WorkItem(clip.path, clip.seconds, item.language, item.text, (path,), 0, True)


def _text(item: SpeechItem) -> WorkItem:
    return WorkItem(item.id, item.seconds, item.language, item.text, (), 0, True)


def _file(item: SpeechItem, index: int) -> str:
    # The same in every voice's folder, as a listening test wants it.
    return f"{index:04d}-{file_name(item.id)}.wav"


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError("unwritable", path=folder, detail=error.strerror or error) from error
    return folder


def _copy(source: Path, path: Path) -> None:
    """Writes a recording as 16-bit WAV at its own rate, as the clips are."""
    import soundfile

    samples, rate = soundfile.read(source, dtype="float32", always_2d=True)
    soundfile.write(path, samples.mean(axis=1), rate, subtype="PCM_16")
