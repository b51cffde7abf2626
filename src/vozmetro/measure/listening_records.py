"""What a listening test leaves behind: versioned JSON, without anybody's name or words.

The answers themselves stay in the study's folder; this is what they come to, so that a verdict and
a report can take it up.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from vozmetro.measure.records import Note, Record
from vozmetro.measure.storage import read_raw, validated, write_atomic

SCHEMA_VERSION: Literal[1] = 1
LISTENING_FILE = "listening.json"
"""Name of the record in its folder."""

Method = Literal["acr", "ab", "ccr", "mushra"]


class SystemScore(Record):
    """What the kept listeners say of one system on one scale.

    Attributes:
        name: The system, `reference`, or an anchor.
        scale: `quality`, `naturalness`, `empathy` or `appropriateness`.
        value: ACR: mean opinion score, 1 to 5. A/B: share of its comparisons won, 0 to 1. CCR: mean
            score against the others, -3 to 3. MUSHRA: mean, 0 to 100.
        low: Lower end of the 95 % interval over other listeners and other items (two-way
            bootstrap); None with fewer than two listeners.
        high: Its upper end.
        t_low: Lower end of the 95 % t-interval over votes (ITU-T P.800, P.808), which takes votes
            for independent; None with fewer than two votes.
        t_high: Its upper end.
        sd: Standard deviation of the votes; None with fewer than two.
        ratings: Votes.
        listeners: Who gave them.
        items: What they were given on.
        more_listeners: Listeners still needed for the wanted half-width; 0 where it is reached;
            None where no number of listeners reaches it, because there are too few items, or where
            it cannot be told.
    """

    name: str
    scale: str
    value: float
    low: float | None = None
    high: float | None = None
    t_low: float | None = None
    t_high: float | None = None
    sd: float | None = None
    ratings: int
    listeners: int
    items: int
    more_listeners: int | None = None


class PairTest(Record):
    """Two systems on one scale.

    Attributes:
        a: The one.
        b: The other.
        scale: As in `SystemScore`.
        difference: By how much a is above b: of the scores, for A/B the share won less the share
            lost, for CCR the mean of their direct comparisons.
        low: Lower end of its 95 % interval (two-way bootstrap); None with fewer than two listeners.
        high: Its upper end.
        p: Two-sided Wilcoxon signed-rank test over listeners, one mean difference each.
        p_holm: The same after Holm's correction over all pairs of the scale.
        ratings: Comparisons behind it.
        listeners: Listeners behind it.
    """

    a: str
    b: str
    scale: str
    difference: float
    low: float | None = None
    high: float | None = None
    p: float
    p_holm: float
    ratings: int
    listeners: int


class Strength(Record):
    """A system's Bradley-Terry strength on one scale, in log-odds, their mean 0.

    Attributes:
        name: The system.
        scale: As in `SystemScore`.
        value: Strength.
        low: Lower end of its 95 % interval over other listeners; it decides the place.
        high: Upper end.
        place: From 1 on.
    """

    name: str
    scale: str
    value: float
    low: float
    high: float
    place: int


class Separation(Record):
    """Whether the first two systems can be told apart.

    Attributes:
        scale: As in `SystemScore`.
        first: The best by its score.
        second: The next one.
        told_apart: Whether the corrected test says so at 5 %.
        more_listeners: Listeners still needed to tell them apart at 5 % with a power of 80 %, if
            the difference is as it was found and as many pairs are tested; None where it cannot be
            told, or is beyond 10,000.
    """

    scale: str
    first: str
    second: str
    told_apart: bool
    more_listeners: int | None = None


class Listened(Record):
    """One listener, without name.

    Attributes:
        number: In the order of joining, from 1 on.
        kept: Whether the answers count.
        reasons: Why not.
        answered: Trials answered.
        trials: Trials planned.
        lang: Language of the page.
        first_language: As given.
        hearing: As given.
        device: `headphones` or `speakers`; None where the page was not reached.
        tones_right: Rounds of the headphone check answered right, of three; None if skipped.
    """

    number: int
    kept: bool
    reasons: list[Note] = Field(default_factory=list)
    answered: int
    trials: int
    lang: str
    first_language: str
    hearing: str
    device: str | None = None
    tones_right: int | None = None


class ListeningRecord(Record):
    """The results of one listening test.

    Attributes:
        id: Of the study.
        created: When the results were computed; UTC, ISO 8601.
        vozmetro: Version that computed them.
        method: `acr`, `ab`, `ccr` or `mushra`.
        scales: What was asked.
        names: Systems as given, without reference and anchors.
        study_sha256: Digest of the study.
        half_width: Wanted half-width of the intervals, in units of the scores.
        kept: Listeners whose answers count.
        screened: Listeners whose answers do not.
        systems: Scores by scale, best first.
        pairs: All pairs by scale, save those with an anchor.
        strengths: Bradley-Terry by scale, by place.
        separations: The first two of each scale.
        listeners: Everybody who joined.
        comments: How many left one.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    type: Literal["listening"] = "listening"
    id: str
    created: str
    vozmetro: str
    method: Method
    scales: list[str]
    names: list[str]
    study_sha256: str
    half_width: float
    kept: int
    screened: int
    systems: list[SystemScore]
    pairs: list[PairTest] = Field(default_factory=list)
    strengths: list[Strength] = Field(default_factory=list)
    separations: list[Separation] = Field(default_factory=list)
    listeners: list[Listened] = Field(default_factory=list)
    comments: int = Field(default=0, ge=0)


def save(record: ListeningRecord, folder: Path) -> Path:
    """Writes `listening.json` into a folder, atomically, and returns its path.

    Raises:
        OutputError: `unwritable` or `disk_full`.
    """
    path = folder / LISTENING_FILE
    write_atomic(path, record.model_dump_json(indent=1).encode())
    return path


def load(path: Path) -> ListeningRecord:
    """Reads the results of a listening test.

    Args:
        path: `listening.json`, or the folder that holds it.

    Raises:
        InputError: `run_missing`, `run_unreadable` or `run_newer`.
    """
    path = path / LISTENING_FILE if path.is_dir() else path
    return validated(ListeningRecord, read_raw(path, SCHEMA_VERSION), path)
