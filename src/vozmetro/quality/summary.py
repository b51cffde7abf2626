"""What a quality study or a measured run tells: word errors, side by side, and for a budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from vozmetro.measure.quality_records import (
    CLEAN,
    NO_SPEECH,
    Figure,
    Merged,
    QualityStudy,
    SpeechItem,
)
from vozmetro.measure.records import Run
from vozmetro.quality.hallucination import false_words_per_minute, has_loop
from vozmetro.quality.merging import EVERY_LANGUAGE, merged_rate, with_rest
from vozmetro.quality.noise_curve import NoiseCurve, curve
from vozmetro.quality.wer import Scored, Transcribed, heard_items, score
from vozmetro.resampling import LEAST_SPEAKERS, Difference, Estimate, holm, rate, rate_difference
from vozmetro.speech.conditions import parse
from vozmetro.speech.normalize import normalize


@dataclass(frozen=True)
class Take:
    """One item as a subject heard it.

    Attributes:
        item: The recording in its condition.
        output: The words heard.
        ms: Latencies in ms, at least one.
    """

    item: SpeechItem
    output: str
    ms: tuple[float, ...]


@dataclass(frozen=True)
class Row:
    """Word errors of the utterances of one language in one condition.

    Attributes:
        language: ISO 639 code; EVERY_LANGUAGE for all together.
        condition: Its name.
        takes: What it rests on; every one has a reference with words.
    """

    language: str
    condition: str
    takes: tuple[Take, ...]

    @cached_property
    def exact(self) -> Scored:
        """Errors where accents count."""
        return _scored(self.takes, accents=True)

    @cached_property
    def folded(self) -> Scored:
        """Errors where accents do not count."""
        return _scored(self.takes, accents=False)

    @cached_property
    def wer(self) -> Estimate:
        """WER where accents do not count."""
        return _rate(self.folded)

    @cached_property
    def wer_exact(self) -> Estimate:
        """WER where accents count."""
        return _rate(self.exact)

    @property
    def loops(self) -> int:
        """Utterances whose transcript repeats itself as the reference does not."""
        return sum(has_loop(take.output, take.item.text) for take in self.takes)

    @property
    def ms(self) -> list[float]:
        """Latencies in ms."""
        return [ms for take in self.takes for ms in take.ms]

    @property
    def rtfx(self) -> float:
        """Seconds of audio for each second of computing."""
        runs = [(take.item.seconds, ms) for take in self.takes for ms in take.ms]
        return 1000 * sum(one for one, _ in runs) / sum(ms for _, ms in runs)

    @property
    def speakers(self) -> int:
        """People that are known to speak."""
        return len({take.item.speaker for take in self.takes if take.item.speaker})

    @property
    def predicted(self) -> dict[str, float]:
        """Mean predicted quality of the sound, by metric; empty where it was not predicted."""
        return mean_scores([take.item.predicted for take in self.takes])


@dataclass(frozen=True)
class MergedRow(Row):
    """A row of more utterances than are kept one by one.

    Its takes are those with most errors; `exact` and `folded` have a last row for all others
    together.

    Attributes:
        merged: All of them.
    """

    merged: Merged = field(kw_only=True)

    @cached_property
    def exact(self) -> Scored:
        """Errors where accents count."""
        kept = _scored(self.takes, accents=True) if self.takes else None
        return with_rest(kept, self.merged.exact)

    @cached_property
    def folded(self) -> Scored:
        """Errors where accents do not count."""
        kept = _scored(self.takes, accents=False) if self.takes else None
        return with_rest(kept, self.merged.folded)

    @cached_property
    def wer(self) -> Estimate:
        """WER where accents do not count."""
        return merged_rate(self.merged, self.merged.folded)

    @cached_property
    def wer_exact(self) -> Estimate:
        """WER where accents count."""
        return merged_rate(self.merged, self.merged.exact)

    @property
    def loops(self) -> int:
        """Utterances whose transcript repeats itself as the reference does not."""
        return self.merged.loops

    @property
    def ms(self) -> list[float]:
        """Latencies in ms of a fair part of the utterances."""
        return list(self.merged.latencies.values())

    @property
    def rtfx(self) -> float:
        """Seconds of audio for each second of computing."""
        return 1000 * self.merged.audio_ms / max(1, self.merged.computing_us)

    @property
    def speakers(self) -> int:
        """People that are known to speak; of fewer than ten, or of ten and more, all."""
        few = len(self.merged.speakers)
        return max(few, self.merged.folded.by_speaker.units if few >= LEAST_SPEAKERS else 0)

    @property
    def predicted(self) -> dict[str, float]:
        """Nothing: the sound's quality is not predicted for so many."""
        return {}


def mean_scores(scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Returns the mean of each score over those that have it, in the order first seen."""
    names = dict.fromkeys(name for one in scores for name in one)
    return {name: float(np.mean([one[name] for one in scores if name in one])) for name in names}


@dataclass(frozen=True)
class SystemQuality:
    """How well one subject hears.

    Attributes:
        name: The user's words for it.
        rows: By language and condition, all languages together first where there are several.
        false_words: False words per minute, by kind of sound without speech.
        curves: WER against SNR, by kind of noise.
    """

    name: str
    rows: tuple[Row, ...]
    false_words: dict[str, Estimate] = field(default_factory=dict)
    curves: dict[str, NoiseCurve] = field(default_factory=dict)

    def row(self, condition: str = CLEAN, language: str | None = None) -> Row | None:
        """Returns the row of a condition; of the only language, or of all together."""
        found = [one for one in self.rows if one.condition == condition]
        if language is not None:
            found = [one for one in found if one.language == language]
        return found[0] if found else None


@dataclass(frozen=True)
class Pair:
    """Two subjects on the same utterances in one condition; B - A.

    Attributes:
        a: Name of the first.
        b: Name of the second.
        condition: Of the sound.
        language: ISO 639 code; EVERY_LANGUAGE for all together.
        difference: Of the WER (accents do not count), as a fraction.
        p: Its p-value after Holm's correction over all pairs of the study.
        utterances: Heard by both.
    """

    a: str
    b: str
    condition: str
    language: str
    difference: Difference
    p: float
    utterances: int

    @property
    def better(self) -> str:
        """Name of the one with fewer errors; empty where the difference may be none."""
        if self.p > 0.05 or self.difference.low <= 0 <= self.difference.high:
            return ""
        return self.a if self.difference.value > 0 else self.b


def study_takes(study: QualityStudy, number: int) -> list[Take]:
    """Returns what one subject of a study heard."""
    # As asked for, not as heard: which noise comes first must not hang on the draw.
    heard = sorted(study.systems[number].heard, key=lambda one: one.item)
    return [Take(study.items[one.item], one.output, (one.ms,)) for one in heard]


def run_takes(run: Run) -> list[Take]:
    """Returns what a measured run heard last of each item; none where it does not listen."""
    found = []
    for item in heard_items(run):
        speech = SpeechItem(
            id=item.id,
            text=item.text,
            language=item.language,
            speaker=item.speaker,
            seconds=item.seconds,
            synthetic=item.source == "synthetic",
            path=item.path,
        )
        found.append(Take(speech, item.output, tuple(run.latencies_ms(item.id))))
    return found


def summarize(name: str, takes: Sequence[Take], merged: Sequence[Merged] = ()) -> SystemQuality:
    """Returns how well a subject heard.

    Args:
        name: What to call it.
        takes: What it heard.
        merged: Sums of all that it heard, where `takes` holds only a part.
    """
    if merged:
        return SystemQuality(name, tuple(_merged_rows(takes, merged)), _false_words(takes))
    spoken = [take for take in takes if take.item.condition not in NO_SPEECH]
    # What no normalisation leaves a word of has no rate.
    spoken = [take for take in spoken if score_words(take)]
    conditions = list(dict.fromkeys(take.item.condition for take in spoken))
    conditions.sort(key=lambda one: one != CLEAN)
    languages = sorted({take.item.language for take in spoken}, key=lambda one: (one != "es", one))
    groups = [EVERY_LANGUAGE, *languages] if len(languages) > 1 else languages
    rows = []
    for condition in conditions:
        for language in groups:
            kept = tuple(
                take
                for take in spoken
                if take.item.condition == condition
                and language in {EVERY_LANGUAGE, take.item.language}
            )
            if kept:
                rows.append(Row(language, condition, kept))
    return SystemQuality(name, tuple(rows), _false_words(takes), _curves(rows))


def _merged_rows(takes: Sequence[Take], merged: Sequence[Merged]) -> list[Row]:
    found: list[Row] = []
    several = len({one.language for one in merged} - {EVERY_LANGUAGE}) > 1
    for one in merged:
        if one.language == EVERY_LANGUAGE and not several:
            continue
        kept = tuple(
            take
            for take in takes
            if take.item.condition == one.condition
            and one.language in {EVERY_LANGUAGE, take.item.language}
            and score_words(take)
        )
        found.append(MergedRow(one.language, one.condition, kept, merged=one))
    return found


def score_words(take: Take) -> bool:
    """Returns whether the reference of a take has a word to count."""
    return bool(normalize(take.item.text, take.item.language))


def pairs(systems: Sequence[SystemQuality], baseline: int = 0) -> list[Pair]:
    """Returns every subject against the baseline, by condition, on the utterances of both.

    Args:
        systems: In the order of the study.
        baseline: Index of the one that the others are compared with.
    """
    first = systems[baseline]
    found = [
        pair
        for other in systems
        if other is not first
        for row in other.rows
        if (mate := first.row(row.condition, row.language))
        and (pair := _pair(first.name, other.name, mate, row))
    ]
    adjusted = holm([pair.p for pair in found])
    return [
        Pair(one.a, one.b, one.condition, one.language, one.difference, p, one.utterances)
        for one, p in zip(found, adjusted, strict=True)
    ]


def figures(
    system: SystemQuality, against: Sequence[Pair] = (), *, is_baseline: bool = False
) -> list[Figure]:
    """Returns what a budget may limit.

    WER is that of all utterances as recorded, where accents do not count: references of real
    corpora often lack them. The SNR is that of the kind of noise asked for first.

    Args:
        system: How well it hears.
        against: Its differences to the baseline; those of others are left out.
        is_baseline: It is the baseline: its difference to itself is none.
    """
    clean = system.row()
    if clean is None:
        return []
    found = [_figure("wer", clean.wer)]
    if is_baseline:
        found.append(Figure(metric="wer_delta", value=0.0, low=0.0, high=0.0, n=clean.wer.n))
    for pair in against:
        same = pair.b == system.name and pair.condition == CLEAN
        if same and pair.language == clean.language:
            told = pair.difference
            found.append(
                Figure(metric="wer_delta", value=told.value, low=told.low, high=told.high,
                       n=pair.utterances)
            )  # fmt: skip
    noise = next(iter(system.curves.values()), None)
    doubling = None if noise is None else _doubling(noise)
    return [*found, doubling] if doubling else found


def _figure(metric: str, estimate: Estimate) -> Figure:
    return Figure(
        metric=metric,  # type: ignore[arg-type]
        value=estimate.value,
        low=estimate.low,
        high=estimate.high,
        n=estimate.n,
    )


def _pair(a: str, b: str, of_a: Row, of_b: Row) -> Pair | None:
    """Returns two rows compared on the utterances of both; None for none."""
    if isinstance(of_a, MergedRow) or isinstance(of_b, MergedRow):
        # Which utterances both heard wrongly is not in the sums.
        return None
    known = {take.item.id: take for take in of_a.takes}
    shared = [take for take in of_b.takes if take.item.id in known]
    if not shared:
        return None
    scored_a = _scored([known[take.item.id] for take in shared], accents=False)
    scored_b = _scored(shared, accents=False)
    told = rate_difference(scored_a.errors, scored_b.errors, scored_a.words, scored_a.speakers)
    return Pair(a, b, of_b.condition, of_b.language, told, told.p, len(shared))


def _scored(takes: Sequence[Take], *, accents: bool) -> Scored:
    said = [
        Transcribed(take.item.text, take.output, take.item.language, take.item.speaker)
        for take in takes
    ]
    return score(said, accents=accents)


def _rate(scored: Scored) -> Estimate:
    return rate(scored.errors, scored.words, scored.speakers)


def _false_words(takes: Sequence[Take]) -> dict[str, Estimate]:
    found = {}
    for kind in NO_SPEECH:
        mine = [take for take in takes if take.item.condition == kind]
        if mine:
            texts = [take.output for take in mine]
            found[kind] = false_words_per_minute(texts, [take.item.seconds for take in mine])
    return found


def _curves(rows: Sequence[Row]) -> dict[str, NoiseCurve]:
    """WER against SNR by kind of noise, over all languages, on utterances of every condition."""
    clean = next((row for row in rows if row.condition == CLEAN), None)
    if clean is None:
        return {}
    kinds: dict[str, dict[float, Row]] = {}
    for row in rows:
        condition = parse(row.condition)[0]
        if condition.snr_db is not None and row.language == clean.language:
            kinds.setdefault(condition.kind, {})[condition.snr_db] = row
    drawn = {kind: _curve(clean, by_snr) for kind, by_snr in kinds.items()}
    return {kind: found for kind, found in drawn.items() if found}


def _curve(clean: Row, by_snr: dict[float, Row]) -> NoiseCurve | None:
    """None where a study was cut before an utterance was heard in every condition."""
    every = [clean, *by_snr.values()]
    shared = set.intersection(*({take.item.id for take in row.takes} for row in every))
    if not shared:
        return None
    errors = []
    for row in every:
        kept = {take.item.id: take for take in row.takes if take.item.id in shared}
        errors.append(_scored([kept[name] for name in sorted(shared)], accents=False))
    speakers = errors[0].speakers if clean.wer.speakers else ()
    noisy = {snr: one.errors for snr, one in zip(by_snr, errors[1:], strict=True)}
    return curve(errors[0].words, errors[0].errors, noisy, speakers)


def _doubling(found: NoiseCurve) -> Figure | None:
    """The SNR at which WER doubles; an end beyond the grid is open."""
    told = found.doubling
    if told.snr is None or told.low is None or told.high is None:
        return None
    return Figure(
        metric="snr_double",
        value=told.snr.db,
        low=None if told.low.bound == "<=" else told.low.db,
        high=None if told.high.bound == ">=" else told.high.db,
        n=found.utterances,
    )
