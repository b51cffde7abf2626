"""Record of a quality study: what subjects heard or said of the same speech, and how long it took.

Rates, intervals and verdicts are derived from it when it is read. See `records` for what holds for
all records.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from vozmetro.measure.records import (
    SCHEMA_VERSION,
    Environment,
    Failure,
    Note,
    Record,
    Status,
    Subject,
)

CLEAN = "clean"
"""Name of the condition in which recordings are as they are."""
NO_SPEECH = ("silence", "noise")
"""Conditions without speech: every word heard there is false."""


class Figure(Record):
    """One number on quality, for a limit of the budget.

    Attributes:
        metric: `wer`, `wer_delta`, `snr_double` or `mos`.
        value: In its unit: a fraction, dB, or points from 1 to 5.
        low: Lower end of its interval; None where it is open.
        high: Upper end.
        n: Utterances, or ratings, that it rests on.
    """

    metric: Literal["wer", "wer_delta", "snr_double", "mos"]
    value: float
    low: float | None = None
    high: float | None = None
    n: int = 0


class CorpusFacts(Record):
    """Where speech came from.

    Attributes:
        name: As `--corpus` names it.
        licence: SPDX-like name, empty where unknown.
        voice: `human` or `synthetic`, empty where unknown.
        source: Packages, folder or repository.
        sha256: Over the digests of its files, empty where they were not hashed.
        utterances: Taken from it.
        seconds: Of those.
    """

    name: str
    licence: str = ""
    voice: str = ""
    source: str = ""
    sha256: str = ""
    utterances: int = 0
    seconds: float = 0.0


class SpeechItem(Record):
    """One recording in one condition; what all subjects get.

    Attributes:
        id: Of the utterance in its corpus.
        condition: `clean`, or the noise or channel that was added, e.g. `ssn@10`.
        text: Reference transcript; empty where nobody speaks.
        language: ISO 639 code, empty where unknown.
        speaker: Who speaks, empty where unknown.
        seconds: Length.
        synthetic: Spoken by a machine.
        path: File of the recording as it is without the condition, empty for none.
        snr_db: Signal-to-noise ratio that was reached (active level, ITU-T P.56), None for none.
        scale: What speech and noise were multiplied by so that their sum does not clip.
        predicted: Predicted quality of the sound as it was given, by metric.
    """

    id: str
    condition: str = CLEAN
    text: str = ""
    language: str = ""
    speaker: str = ""
    seconds: float
    synthetic: bool = False
    path: str = ""
    snr_db: float | None = None
    scale: float = 1.0
    predicted: dict[str, float] = Field(default_factory=dict)


class Heard(Record):
    """What a subject made of one item.

    Attributes:
        item: Index into `QualityStudy.items`.
        output: The words.
        ms: Latency on the subject's clock.
    """

    item: int
    output: str
    ms: float


class Clip(Record):
    """What a voice made of one text.

    Attributes:
        item: Index into `QualityStudy.items`; its text was spoken.
        repeat: Counts from 0.
        path: WAV file, relative to the record's folder.
        seconds: Length.
        ms: Time to the last sample of audio.
        first_audio_ms: Time to the first.
        predicted: Predicted quality, by metric.
        prosody: Prosodic activity, by feature.
        heard: What the judge heard; None where none listened.
    """

    item: int
    repeat: int = 0
    path: str
    seconds: float
    ms: float
    first_audio_ms: float
    predicted: dict[str, float] = Field(default_factory=dict)
    prosody: dict[str, float] = Field(default_factory=dict)
    heard: str | None = None


class LeftOut(Record):
    """An utterance that could not be heard.

    Attributes:
        id: Of the utterance in its corpus.
        code: Why, a code of the catalogues' `errors.` section.
        fields: Of the sentence.
    """

    id: str
    code: str
    fields: dict[str, str] = Field(default_factory=dict)


class ErrorSums(Record):
    """What an interval of errors over words needs to know of many units.

    Attributes:
        units: Utterances, or speakers with all their utterances.
        errors: Of all.
        words: Of all.
        errors_squared: Sum of the squares of each unit's errors.
        words_squared: The same of its words.
        errors_words: Sum of the products of each unit's errors and words.
    """

    units: int = 0
    errors: int = 0
    words: int = 0
    errors_squared: int = 0
    words_squared: int = 0
    errors_words: int = 0


class ErrorCounts(Record):
    """Errors of many utterances.

    Attributes:
        substitutions: Words heard as others.
        deletions: Words not heard.
        insertions: Words that nobody said.
        words: Words of the references.
        char_errors: Characters changed, left out or added.
        chars: Characters of the references.
        by_utterance: For an interval that draws utterances.
        by_speaker: For one that draws speakers; utterances without a speaker are not in it.
    """

    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    words: int = 0
    char_errors: int = 0
    chars: int = 0
    by_utterance: ErrorSums = ErrorSums()
    by_speaker: ErrorSums = ErrorSums()


class Merged(Record):
    """Many utterances of one language in one condition, in whole numbers that add up.

    Attributes:
        language: ISO 639 code; `*` for all together.
        condition: Its name.
        utterances: How many; every one has a reference with words.
        nameless: How many of them without a speaker.
        speakers: Names of speakers, at most ten: the first ones in their alphabet.
        folded: Errors where accents do not count.
        exact: Errors where they do.
        loops: Transcripts that repeat themselves.
        audio_ms: Length of all.
        computing_us: Time that hearing them took, in microseconds.
        latencies: Latencies in ms of a fair part of the utterances, by digest of their names.
    """

    language: str
    condition: str = CLEAN
    utterances: int = 0
    nameless: int = 0
    speakers: list[str] = Field(default_factory=list)
    folded: ErrorCounts = ErrorCounts()
    exact: ErrorCounts = ErrorCounts()
    loops: int = 0
    audio_ms: int = 0
    computing_us: int = 0
    latencies: dict[str, float] = Field(default_factory=dict)


class System(Record):
    """One subject of the study.

    Attributes:
        subject: What it is; its name alone before it was loaded.
        load_ms: Loading it.
        peak_rss: Highest RSS of its process, in bytes; inputs of a batch included.
        heard: For what listens.
        clips: For what speaks.
        failure: Why it ended before the others; None where it did not.
        left_out: Utterances that could not be heard, in the order of their names; the first 1,000.
        left_out_count: How many there are.
        merged: Errors of more utterances than `heard` holds, by language; empty where `heard` holds
            them all. Then `heard` holds those with most errors.
    """

    subject: Subject
    load_ms: float = 0.0
    peak_rss: int = 0
    heard: list[Heard] = Field(default_factory=list)
    clips: list[Clip] = Field(default_factory=list)
    failure: Failure | None = None
    left_out: list[LeftOut] = Field(default_factory=list)
    left_out_count: int = 0
    merged: list[Merged] = Field(default_factory=list)


class QualitySettings(Record):
    """How a study was asked for.

    Attributes:
        subjects: The words that name the subjects, with absolute paths.
        baseline: The one of them that others are compared with, empty for the first.
        corpus: As `--corpus` says it.
        languages: Languages kept; empty for all.
        limit: Most utterances; None for all.
        conditions: Conditions by name, `clean` first.
        judge: What listens to voices; empty for nothing.
        repeats: Times that a voice says each text.
        threads: Threads of an engine.
        device: Where to run.
        seed: Of noise, rooms and draws.
        budget: The limits, as in their TOML.
        command: Command line, for the report.
        executor: What heard: `local`, one process after another here, or `ray`.
    """

    subjects: list[str]
    baseline: str = ""
    corpus: str
    languages: list[str] = Field(default_factory=list)
    limit: int | None = None
    conditions: list[str] = Field(default_factory=lambda: [CLEAN])
    judge: str = ""
    repeats: int = 1
    threads: int
    device: Literal["cpu", "cuda"] = "cpu"
    seed: int = 0
    budget: dict[str, Any] = Field(default_factory=dict)
    command: list[str] = Field(default_factory=list)
    executor: Literal["local", "ray"] = "local"


class Shards(Record):
    """How the speech was divided among machines.

    Attributes:
        count: Parts.
        by: What stays together in one part: `speaker` or `utterance`.
        corpus_sha256: Over every utterance's name, file, text, language and speaker, in any order.
        utterances: In all parts.
        machines: Parts that each kind of processor did, by its name, of all subjects.
    """

    count: int
    by: Literal["speaker", "utterance"]
    corpus_sha256: str
    utterances: int
    machines: dict[str, int] = Field(default_factory=dict)


class QualityStudy(Record):
    """Subjects on the same speech.

    Attributes:
        status: `running` while it grows.
        corpora: Where the speech came from.
        normalizers: By language, how words were made comparable.
        items: The speech, every utterance in every condition.
        systems: In the order asked for.
        human: The recordings themselves as clips, beside voices.
        judge: What listened to the voices; None for nothing.
        shards: How the speech was divided among machines; None where it was not.
    """

    schema_version: Literal[4] = SCHEMA_VERSION
    type: Literal["quality"] = "quality"
    id: str
    created: str
    vozmetro: str
    status: Status
    settings: QualitySettings
    environment: Environment
    corpora: list[CorpusFacts] = Field(default_factory=list)
    normalizers: dict[str, str] = Field(default_factory=dict)
    items: list[SpeechItem]
    systems: list[System]
    human: list[Clip] = Field(default_factory=list)
    judge: Subject | None = None
    notes: list[Note] = Field(default_factory=list)
    failure: Failure | None = None
    shards: Shards | None = None
