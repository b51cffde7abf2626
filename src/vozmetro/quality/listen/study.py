"""A study: what is compared, by which method, and by which rules listeners are kept."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from vozmetro.errors import InputError
from vozmetro.measure.records import Record
from vozmetro.measure.storage import write_atomic

SCHEMA_VERSION: Literal[1] = 1
STUDY_FILE, CLIPS, RATINGS_FILE = "study.json", "clips", "ratings.sqlite"
"""Names in a study's folder."""
REFERENCE, GOLD = "reference", "gold"
"""Names of conditions that no system may have: the hidden reference, and a spoilt clip."""
ANCHORS = {"anchor-3.5k": 3500.0, "anchor-7k": 7000.0}
"""Low-pass anchors (ITU-R BS.1534) and their cut-off in Hz."""
RESERVED = frozenset({REFERENCE, GOLD, *ANCHORS})
MOST_SYSTEMS, MOST_ITEMS, MOST_NAME = 10, 500, 40
MOST_STUDY_BYTES = 8 << 20

Method = Literal["acr", "ab", "ccr", "mushra"]
METHODS: tuple[Method, ...] = ("acr", "ab", "ccr", "mushra")
Scale = Literal["quality", "naturalness", "empathy", "appropriateness"]
SCALES: tuple[Scale, ...] = ("quality", "naturalness", "empathy", "appropriateness")
GOLD_SCALES: tuple[Scale, ...] = ("quality", "naturalness")
"""Scales on which speech under noise is bad, whoever listens."""
RANGES: dict[Method, tuple[int, int]] = {
    "acr": (1, 5),
    "ab": (0, 1),
    "ccr": (-3, 3),
    "mushra": (0, 100),
}
"""Least and greatest answer: ACR of ITU-T P.800, which of two, CCR of P.800 Annex E, BS.1534."""
CLIP_ID = re.compile(r"[0-9a-f]{32}")

Name = Annotated[str, Field(min_length=1, max_length=MOST_NAME)]
MOST_NAME_ITEM = 200
"""Characters of an item's name."""
ItemName = Annotated[str, Field(min_length=1, max_length=MOST_NAME_ITEM)]


class Clip(Record):
    """One sound of a study.

    Attributes:
        id: Its opaque name: the file is `clips/ID.wav`.
        condition: The system that made it, `reference`, an anchor, or `gold` (spoilt on purpose).
        item: What is said, by the name that the source files share.
        source: For a `gold` clip, the system whose clip was spoilt; empty for others.
        seconds: Length.
        bytes: Size of the file.
        sha256: Of the file.
    """

    id: str = Field(pattern=r"^[0-9a-f]{32}$")
    condition: Name
    item: ItemName
    source: str = Field(default="", max_length=MOST_NAME)
    seconds: float = Field(gt=0, le=120)
    bytes: int = Field(gt=0, le=64 << 20)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Rules(Record):
    """When a listener's answers do not count. They are fixed when the study is made.

    Attributes:
        traps_missed: Attention checks that may be missed.
        gold_missed: Share of the spoilt clips that may be taken for good ones.
        least_answer_s: Least median time from the end of the sound to the answer, in seconds.
        straight_share: Share of one and the same answer from which on it is straight-lining.
        straight_least: Answers from which on straight-lining is looked for.
        repeat_distance: Largest mean distance between answers to the same clip, as a share of the
            width of the scale.
        reference_least: A hidden reference rated below this counts against a listener (MUSHRA).
        anchor_most: A 7 kHz anchor rated above this counts against a listener (MUSHRA).
        mushra_share: Share of items from which on those two screen a listener out.
    """

    traps_missed: int = Field(default=0, ge=0)
    gold_missed: float = Field(default=0.34, ge=0, le=1)
    least_answer_s: float = Field(default=0.25, ge=0)
    straight_share: float = Field(default=0.95, gt=0, le=1)
    straight_least: int = Field(default=8, ge=2)
    repeat_distance: float = Field(default=0.4, gt=0, le=1)
    reference_least: int = Field(default=90, ge=0, le=100)
    anchor_most: int = Field(default=90, ge=0, le=100)
    mushra_share: float = Field(default=0.15, ge=0, le=1)


class Study(Record):
    """What is compared and how.

    Attributes:
        id: Names the study in cookies.
        created: UTC, ISO 8601.
        vozmetro: Version that made it.
        title: Shown to listeners; empty for none.
        method: `acr` (one clip, 1 to 5), `ab` (the better of two), `ccr` (the second against the
            first, -3 to 3), `mushra` (all of them against the reference, 0 to 100).
        scales: What is asked of each clip.
        systems: Names, as given.
        reference: Whether there is a reference; a condition like the others, save in MUSHRA.
        items: Items that are rated.
        training_item: Where the training, the attention checks and the spoilt clips come from; one
            of `items` only where there were too few to set one aside.
        items_per_listener: Items that each listener rates; every system of each.
        traps: Attention checks per listener.
        golds: Spoilt clips per listener.
        repeats: Trials that each listener gets twice.
        seed: Decides the order.
        language: Language of the page where the browser does not tell.
        loudness: Level of all clips (LUFS, ITU-R BS.1770).
        rules: When a listener's answers do not count.
        clips: All sounds.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    type: Literal["listening-study"] = "listening-study"
    id: str = Field(pattern=r"^[0-9a-f]{16}$")
    created: str = Field(max_length=40)
    vozmetro: str = Field(max_length=40)
    title: str = Field(default="", max_length=120)
    method: Method
    scales: list[Scale] = Field(min_length=1, max_length=len(SCALES))
    systems: list[Name] = Field(min_length=1, max_length=MOST_SYSTEMS)
    reference: bool = False
    items: list[ItemName] = Field(min_length=1, max_length=MOST_ITEMS)
    training_item: ItemName
    items_per_listener: int = Field(ge=1, le=MOST_ITEMS)
    traps: int = Field(ge=0, le=10)
    golds: int = Field(ge=0, le=10)
    repeats: int = Field(ge=0, le=10)
    seed: int = Field(ge=0, lt=1 << 63)
    language: Literal["es", "en"] = "es"
    loudness: float
    rules: Rules = Rules()
    clips: list[Clip] = Field(min_length=1, max_length=(MOST_SYSTEMS + 4) * (MOST_ITEMS + 1))

    @property
    def conditions(self) -> tuple[str, ...]:
        """What is rated: the systems, the reference where there is one, MUSHRA's anchors."""
        named = [*self.systems, *([REFERENCE] if self.reference else [])]
        return (*named, *ANCHORS) if self.method == "mushra" else tuple(named)

    @property
    def gold_scale(self) -> Scale | None:
        """The scale on which a spoilt clip has a known answer: noise may well sound empathic."""
        return next((scale for scale in GOLD_SCALES if scale in self.scales), None)

    def by_id(self) -> dict[str, Clip]:
        """Returns the clips by their opaque names."""
        return {clip.id: clip for clip in self.clips}

    @model_validator(mode="after")
    def _is_whole(self) -> Study:
        if len(set(self.systems)) != len(self.systems) or RESERVED & set(self.systems):
            raise ValueError("systems: names must differ, and not be reserved")
        if len(set(self.items)) != len(self.items) or len(set(self.scales)) != len(self.scales):
            raise ValueError("items and scales: each once")
        if len({clip.id for clip in self.clips}) != len(self.clips):
            raise ValueError("clips: the same id twice")
        if self.items_per_listener > len(self.items):
            raise ValueError("items_per_listener: more than items")
        if self.method == "mushra" and not self.reference:
            raise ValueError("mushra: needs a reference")
        if self.method in ("ab", "ccr") and len(self.conditions) < 2:
            raise ValueError("systems: a comparison needs two")
        there = {(clip.condition, clip.item) for clip in self.clips}
        items = {*self.items, self.training_item}
        if not {(name, item) for name in self.conditions for item in items} <= there:
            raise ValueError("clips: a condition lacks an item")
        if self.method == "mushra" and (self.traps or self.golds):
            raise ValueError("mushra: has checks of its own")
        self._check_clips(items)
        if self.golds and self.gold_scale is None:
            raise ValueError("golds: no scale with a known answer")
        if self.golds and GOLD not in {clip.condition for clip in self.clips}:
            raise ValueError("golds: no spoilt clip")
        return self

    def _check_clips(self, items: set[str]) -> None:
        """Checks that every clip belongs to something that the study has."""
        for clip in self.clips:
            spoilt = clip.condition == GOLD
            if spoilt and (clip.source not in self.systems or clip.item != self.training_item):
                raise ValueError("clips: a spoilt clip of nothing")
            if not spoilt and (clip.condition not in self.conditions or clip.item not in items):
                raise ValueError("clips: one that belongs to nothing")


def digest(study: Study) -> str:
    """Returns the SHA-256 of a study's content, however its file is laid out."""
    text = json.dumps(study.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def save(study: Study, folder: Path) -> Path:
    """Writes `study.json` and returns its path.

    Raises:
        OutputError: `unwritable` or `disk_full`.
    """
    path = folder / STUDY_FILE
    write_atomic(path, study.model_dump_json(indent=1).encode())
    return path


def load(folder: Path) -> Study:
    """Reads a study from its folder.

    Raises:
        InputError: `listen_no_study`, `listen_study_unreadable` or `listen_study_newer`.
    """
    path = folder / STUDY_FILE
    try:
        with path.open("rb") as file:
            data = file.read(MOST_STUDY_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError("listen_no_study", path=folder) from error
    except (OSError, ValueError) as error:
        detail = type(error).__name__
        raise InputError("listen_study_unreadable", path=path, detail=detail) from error
    if len(data) > MOST_STUDY_BYTES:
        raise InputError("listen_study_unreadable", path=path, detail=f"> {MOST_STUDY_BYTES} B")
    try:
        raw = json.loads(data)
        version = raw["schema_version"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        detail = type(error).__name__
        raise InputError("listen_study_unreadable", path=path, detail=detail) from error
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise InputError("listen_study_newer", path=path, version=version, known=SCHEMA_VERSION)
    try:
        return Study.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        detail = f"{where}: {first['msg']}".removeprefix(": ")
        raise InputError("listen_study_unreadable", path=path, detail=detail) from error


def clip_path(folder: Path, clip: str) -> Path | None:
    """Returns where a clip lies; None for a name that is none, or a file not in the folder.

    Args:
        folder: The study's.
        clip: An opaque name, from outside.
    """
    if not CLIP_ID.fullmatch(clip):
        return None
    path = folder / CLIPS / f"{clip}.wav"
    # A link could lead anywhere: neither the file nor its folder may be one.
    if path.is_symlink() or path.parent.is_symlink() or not path.is_file():
        return None
    return path


def read_clip(folder: Path, clip: Clip) -> bytes | None:
    """Returns a clip's file; None where it is not there, is a link, or has another size."""
    path = clip_path(folder, clip.id)
    if path is None:
        return None
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    except OSError:
        return None
    with os.fdopen(handle, "rb") as file:
        data = file.read(clip.bytes + 1)
    return data if len(data) == clip.bytes else None


def check_clips(study: Study, folder: Path) -> None:
    """Checks that every clip is there with the size and content that were recorded.

    Raises:
        InputError: `listen_clip_damaged`.
    """
    for clip in study.clips:
        data = read_clip(folder, clip)
        if data is None or hashlib.sha256(data).hexdigest() != clip.sha256:
            raise InputError("listen_clip_damaged", path=folder / CLIPS / f"{clip.id}.wav")
