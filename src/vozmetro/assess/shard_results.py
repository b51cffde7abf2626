"""From the files of all parts to the record of a study."""

from __future__ import annotations

import heapq
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vozmetro.assess.shard_files import About, about_of, columns_of, rows_of
from vozmetro.assess.shard_hearing import Outcome
from vozmetro.assess.shard_plan import Plan
from vozmetro.measure.quality_records import (
    CLEAN,
    CorpusFacts,
    Heard,
    LeftOut,
    Merged,
    QualityStudy,
    Shards,
    SpeechItem,
    System,
)
from vozmetro.measure.records import Note
from vozmetro.quality.merging import merge
from vozmetro.speech.corpus import Taken, taken_info

MOST_KEPT = 20_000
"""Utterances that a record keeps one by one; of more, sums and those with most errors."""
WORST = 100
"""How many of these."""
MOST_LEFT_OUT = 1000
"""Utterances that could not be heard which a record names."""

_Name = tuple[str, str]


@dataclass(frozen=True)
class Done:
    """The parts that one subject has heard.

    Attributes:
        files: By number of the part.
        abouts: What they say of themselves, their sums apart: those of all together fit into
            memory, those of each do not.
        merged: All sums together.
        spoken: Parts with sums.
    """

    files: Mapping[int, Path]
    abouts: Mapping[int, About]
    merged: tuple[Merged, ...]
    spoken: frozenset[int]

    @classmethod
    def of(cls, files: Mapping[int, Path]) -> Done:
        """Reads what files say of themselves, in the order of their numbers."""
        abouts: dict[int, About] = {}
        merged: list[Merged] = []
        spoken = set()
        for number in sorted(files):
            about = about_of(files[number])
            if about.merged:
                spoken.add(number)
                merged = merge([*merged, *about.merged])
            abouts[number] = about.model_copy(update={"merged": []})
        in_order = {number: files[number] for number in sorted(files)}
        return cls(in_order, abouts, tuple(merged), frozenset(spoken))

    @property
    def left_out(self) -> int:
        """Utterances put aside."""
        return sum(one.left_out for one in self.abouts.values())


def with_results(record: QualityStudy, plan: Plan, done: Sequence[Done]) -> QualityStudy:
    """Returns a study with what its parts' files hold.

    Args:
        record: The study without results; its systems name the subjects.
        plan: How the speech was divided.
        done: Of each system.

    Raises:
        InputError: `shard_damaged`.
    """
    whole = plan.utterances <= MOST_KEPT
    kept = [_kept(one, whole) for one in done]
    # A recording that one subject could not hear may have been heard by another.
    by_name: dict[_Name, Outcome] = {}
    for outcomes in kept:
        for one in outcomes:
            known = by_name.get(_name(one))
            if known is None or not known.seconds:
                by_name[_name(one)] = one
    order = sorted(by_name.values(), key=_order)
    places = {_name(one): at for at, one in enumerate(order)}
    systems = [
        _system(system, one, outcomes, places, whole)
        for system, one, outcomes in zip(record.systems, done, kept, strict=True)
    ]
    machines: Counter[str] = Counter()
    for mine in done:
        machines.update(about.cpu for about in mine.abouts.values())
    return record.model_copy(
        update={
            "items": [_item(one) for one in order],
            "systems": systems,
            "corpora": _corpora(record.settings.corpus, done[0], order if whole else ()),
            "notes": [*record.notes, *_notes(record, done)],
            "shards": Shards(
                count=plan.shards,
                by=plan.by,
                corpus_sha256=plan.corpus_sha256,
                utterances=plan.utterances,
                machines=dict(sorted(machines.items())),
            ),
        }
    )


def _kept(done: Done, whole: bool) -> list[Outcome]:
    """The utterances that the record will hold one by one."""
    if whole:
        return [row.outcome for path in done.files.values() for row in rows_of(path)]
    worst: list[tuple[int, str, int, int]] = []
    unspoken = []
    for number, path in done.files.items():
        if number not in done.spoken:
            # Sounds without speech are a part of their own.
            unspoken += [
                row.outcome for row in rows_of(path) if row.outcome.piece.condition != CLEAN
            ]
            continue
        told = columns_of(path, ("id", "substitutions", "deletions", "insertions"))
        wrong = [sum(row) for row in zip(*list(told.values())[1:], strict=True)]
        names = enumerate(zip(wrong, told["id"], strict=True))
        rows = [(errors, name, number, at) for at, (errors, name) in names if errors > 0]
        worst = heapq.nlargest(WORST, [*worst, *rows])
    wanted: dict[int, set[int]] = {}
    for _, _, number, at in worst:
        wanted.setdefault(number, set()).add(at)
    found = [
        row.outcome
        for number, positions in wanted.items()
        for at, row in enumerate(rows_of(done.files[number]))
        if at in positions
    ]
    return [*found, *unspoken]


def _name(one: Outcome) -> _Name:
    """What tells an utterance from all others; a recording may be called as a silence is."""
    return one.piece.condition, one.piece.id


def _order(one: Outcome) -> tuple[object, ...]:
    """Recordings as a corpus is sorted, then sounds without speech as they are listed."""
    piece = one.piece
    if piece.condition == CLEAN:
        return (False, piece.language != "es", piece.language, piece.id, 0.0)
    return (True, piece.condition != "silence", piece.language, "", piece.seconds)


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


def _system(
    system: System,
    done: Done,
    outcomes: Sequence[Outcome],
    places: Mapping[_Name, int],
    whole: bool,
) -> System:
    if not done.abouts:
        return system
    abouts = list(done.abouts.values())
    heard = [
        Heard(item=places[_name(one)], output=one.output, ms=one.ms)
        for one in outcomes
        if one.output is not None
    ]
    return system.model_copy(
        update={
            # Its files as they lie here.
            "subject": abouts[0].subject.model_copy(update={"files": system.subject.files}),
            "load_ms": abouts[0].load_ms,
            "peak_rss": max(one.peak_rss for one in abouts),
            "heard": sorted(heard, key=lambda one: one.item),
            "left_out": _left_out(done),
            "left_out_count": done.left_out,
            "merged": [] if whole else list(done.merged),
        }
    )


def _left_out(done: Done) -> list[LeftOut]:
    found: list[tuple[str, str, str]] = []
    for number, path in done.files.items():
        if done.abouts[number].left_out:
            told = columns_of(path, ("id", "code", "fields"))
            rows = zip(told["id"], told["code"], told["fields"], strict=True)
            found = heapq.nsmallest(MOST_LEFT_OUT, [*found, *(row for row in rows if row[1])])
    return [LeftOut(id=name, code=code, fields=json.loads(fields)) for name, code, fields in found]


def _corpora(spec: str, done: Done, order: Sequence[Outcome]) -> list[CorpusFacts]:
    taken: dict[str, Taken] = {}
    # In the order of the items, where they are here.
    for one in order:
        if one.piece.condition == CLEAN:
            taken.setdefault(one.piece.corpus, Taken())
    for about in done.abouts.values():
        for name, known in about.taken.items():
            more = Taken(known.utterances, known.seconds, known.synthetic)
            taken[name] = taken.get(name, Taken()) + more
    return [
        CorpusFacts(
            name=one.name,
            licence=one.licence,
            voice=one.voice,
            source=one.source,
            sha256=one.sha256,
            utterances=one.utterances,
            seconds=one.seconds,
        )
        for one in taken_info(spec, taken)
    ]


def _notes(record: QualityStudy, done: Sequence[Done]) -> list[Note]:
    found = []
    for system, one in zip(record.systems, done, strict=True):
        if one.left_out:
            total = sum(about.heard + about.left_out for about in one.abouts.values())
            reasons: Counter[str] = Counter()
            for number, about in one.abouts.items():
                if about.left_out:
                    reasons.update(
                        code for code in columns_of(one.files[number], ("code",))["code"] if code
                    )
            fields = {
                "subject": system.subject.name,
                "count": str(one.left_out),
                "total": str(total),
                "reasons": ", ".join(f"{code} ({n})" for code, n in sorted(reasons.items())),
            }
            found.append(Note(code="utterances_left_out", fields=fields))
        engines = {tuple(about.subject.engines) for about in one.abouts.values()}
        if len(engines) > 1:
            told = " / ".join(sorted(", ".join(each) for each in engines))
            fields = {"subject": system.subject.name, "engines": told}
            found.append(Note(code="mixed_engines", fields=fields))
    return found
