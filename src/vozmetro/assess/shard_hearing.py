"""One worker's part of a divided study: it hears utterance after utterance and loses none.

What cannot be heard is put aside with its reason: a file that cannot be read, an engine that
raises, ends its process, or takes too long. Utterances are heard a few at a time; where something
happens to these few, each is heard alone, and once more in a fresh process, before it is put aside.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from vozmetro.assess.shard_plan import Piece
from vozmetro.assess.sound import Sound
from vozmetro.errors import InputError, MeasurementError, VozmetroError
from vozmetro.measure.quality_records import CLEAN, SpeechItem
from vozmetro.measure.records import Subject
from vozmetro.measure.workload import LONGEST_S, WorkItem
from vozmetro.packages import is_file
from vozmetro.speech import conditions
from vozmetro.speech.corpus import seconds_of

BATCH_ITEMS, BATCH_S = 8, 60.0
"""Most utterances, and most seconds of audio, decoded at once; a longer utterance goes alone."""
LIMIT_S = 120.0
"""Longest that one utterance may take, in seconds."""
HOPELESS = 20
"""So many utterances of a part, and none could be heard: it is not they that are bad."""
_OPENINGS = 3
_ENDED = ("worker_died", "worker_killed", "worker_timeout")


class Ear(Protocol):
    """A subject that is loaded and listens; `StudyWorker` is one."""

    subject: Subject
    load_ms: float
    peak_rss: int

    def hear(self, items: Sequence[WorkItem], limit_s: float) -> list[tuple[str, float]]:
        """Returns the words of each item, and its latency in ms."""

    def close(self) -> None:
        """Ends it."""


@dataclass(frozen=True)
class Outcome:
    """What became of one utterance.

    Attributes:
        piece: The utterance.
        seconds: Its length; 0 where its file cannot be read.
        sha256: Of its file; empty where it cannot be read, and for sounds without speech.
        output: The words heard; None where it was put aside.
        ms: Latency.
        code: Why it was put aside, a code of the catalogues' `errors.` section; else empty.
        fields: Of the sentence.
    """

    piece: Piece
    seconds: float
    sha256: str = ""
    output: str | None = None
    ms: float = 0.0
    code: str = ""
    fields: tuple[tuple[str, str], ...] = ()


class Listener:
    """Hears the utterances of parts, with one engine that is loaded once.

    Args:
        open_ear: Loads the subject, in a process of its own.
        limit_s: Longest that one utterance may take, in seconds.
        seed: Of the sounds without speech.
    """

    def __init__(
        self, open_ear: Callable[[], Ear], limit_s: float = LIMIT_S, seed: int = 0
    ) -> None:
        self._open_ear = open_ear
        self._limit_s = limit_s
        self._seed = seed
        self._ear: Ear | None = None
        self._at_once = BATCH_ITEMS

    @property
    def ear(self) -> Ear:
        """The loaded subject; it is loaded where it is not.

        Raises:
            VozmetroError: It cannot be loaded, three times in a row.
        """
        for attempt in range(_OPENINGS):
            if self._ear is not None:
                break
            try:
                self._ear = self._open_ear()
            except VozmetroError:
                if attempt == _OPENINGS - 1:
                    raise
        if self._ear is None:
            raise RuntimeError("no ear")
        return self._ear

    @property
    def is_open(self) -> bool:
        """Whether the subject is loaded."""
        return self._ear is not None

    def close(self) -> None:
        """Ends the subject's process."""
        if self._ear is not None:
            self._ear.close()
            self._ear = None

    def hear(self, pieces: Sequence[Piece]) -> list[Outcome]:
        """Returns what became of each utterance, in their order.

        Args:
            pieces: A part.

        Raises:
            MeasurementError: `shard_hopeless` where none of many can be heard.
            VozmetroError: The subject cannot be loaded.
        """
        found: dict[int, Outcome] = {}
        named = conditions.parse(CLEAN)
        sound = Sound([], named, self._seed, predict=0)
        try:
            for batch in self._batches(self._opened(pieces, found)):
                self._hear_batch(batch, found, sound)
                sound.clear()
                _check_hope([one for one in found.values() if one.sha256])
        finally:
            sound.close()
        _check_hope([found[at] for at in range(len(pieces))])
        return [found[at] for at in range(len(pieces))]

    def _opened(
        self, pieces: Sequence[Piece], found: dict[int, Outcome]
    ) -> Iterator[tuple[int, Outcome]]:
        """Yields utterances whose files can be read, by position; the others are put aside."""
        for at, piece in enumerate(pieces):
            try:
                seconds, sha256 = _looked_at(piece)
            except InputError as error:
                found[at] = _aside(Outcome(piece, 0.0), error)
                continue
            known = Outcome(piece, seconds, sha256)
            if seconds > LONGEST_S:
                limit = f"{LONGEST_S:g}"
                long = InputError("audio_too_long", path=piece.audio, limit=limit)
                found[at] = _aside(known, long)
                continue
            yield at, known

    def _batches(self, ready: Iterator[tuple[int, Outcome]]) -> Iterator[list[tuple[int, Outcome]]]:
        batch: list[tuple[int, Outcome]] = []
        seconds = 0.0
        for at, one in ready:
            if batch and (len(batch) >= self._at_once or seconds + one.seconds > BATCH_S):
                yield batch
                batch, seconds = [], 0.0
            batch.append((at, one))
            seconds += one.seconds
        if batch:
            yield batch

    def _hear_batch(
        self, batch: Sequence[tuple[int, Outcome]], found: dict[int, Outcome], sound: Sound
    ) -> None:
        work = [sound.ready(_item(one))[0] for _, one in batch]
        ear = self.ear
        try:
            told = self._asked(ear, work)
        except MeasurementError as error:
            # Which one it was is not known: each alone.
            for (at, one), item in zip(batch, work, strict=True):
                found[at] = self._hear_alone(one, item)
            if error.code == "worker_timeout" and not any(found[at].code for at, _ in batch):
                # None of them hangs: this subject is too slow for several at once.
                self._at_once = 1
            return
        for (at, one), (text, ms) in zip(batch, told, strict=True):
            found[at] = _told(one, text, ms)

    def _hear_alone(self, one: Outcome, item: WorkItem) -> Outcome:
        # That the subject cannot be loaded again is not the utterance's fault, and is raised.
        ear = self.ear
        try:
            (told,) = self._asked(ear, [item])
        except MeasurementError:
            # The machine may have been short of memory for a moment: once more, in a fresh process.
            self.close()
            ear = self.ear
            try:
                (told,) = self._asked(ear, [item])
            except MeasurementError as error:
                return _aside(one, error)
        return _told(one, *told)

    def _asked(self, ear: Ear, work: Sequence[WorkItem]) -> list[tuple[str, float]]:
        try:
            return ear.hear(work, self._limit_s)
        except MeasurementError as error:
            if error.code in _ENDED:
                self.close()
            raise


def _check_hope(tried: Sequence[Outcome]) -> None:
    """Gives a part up of which nothing can be heard, for a reason that is not in it.

    Args:
        tried: While it goes on, recordings that the subject was given; at its end, all.

    Raises:
        MeasurementError: `shard_hopeless`.
    """
    if len(tried) >= HOPELESS and all(one.code for one in tried):
        first = tried[0]
        reason = VozmetroError(first.code, **dict(first.fields))
        raise MeasurementError("shard_hopeless", id=first.piece.id, detail=str(reason))


def _looked_at(piece: Piece) -> tuple[float, str]:
    """Length and digest of an utterance's file.

    Raises:
        InputError: It is none, or cannot be read.
    """
    if piece.condition != CLEAN:
        return piece.seconds, ""
    path = Path(piece.audio)
    if not is_file(path):
        raise InputError("file_missing", path=path)
    try:
        seconds = seconds_of(path)
        with path.open("rb") as file:
            return seconds, hashlib.file_digest(file, "sha256").hexdigest()
    # A type error is how the decoder says that a headerless file needs its rate.
    except (OSError, TypeError, ValueError) as error:
        raise InputError("not_audio", path=path, detail=error) from error


def _item(one: Outcome) -> SpeechItem:
    piece = one.piece
    return SpeechItem(
        id=piece.id,
        condition=piece.condition,
        text=piece.text,
        language=piece.language,
        speaker=piece.speaker,
        seconds=round(one.seconds, 3),
        synthetic=piece.synthetic,
        path=piece.audio,
    )


def _told(one: Outcome, text: str, ms: float) -> Outcome:
    return Outcome(one.piece, one.seconds, one.sha256, text, ms)


def _aside(one: Outcome, error: VozmetroError) -> Outcome:
    fields = tuple(sorted(error.fields.items()))
    return Outcome(one.piece, one.seconds, one.sha256, code=error.code, fields=fields)
