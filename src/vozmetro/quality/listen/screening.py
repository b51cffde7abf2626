"""Whose answers count: rules that were fixed with the study, each with its reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vozmetro.measure.records import Note
from vozmetro.quality.listen.plan import Trial
from vozmetro.quality.listen.study import RANGES, REFERENCE, Study

ANCHOR = "anchor-7k"
"""The mid-range anchor, which nobody with ears rates like the reference."""


@dataclass(frozen=True)
class Given:
    """A listener's answer to one trial.

    Attributes:
        trial: What was heard.
        values: Answers by scale; one each, in MUSHRA one per clip.
        seconds: From the end of the sounds, played once, to the answer, in seconds; below 0 where
            they were not played to the end, as far as the server's clock tells.
    """

    trial: Trial
    values: Mapping[str, Sequence[int]]
    seconds: float


def screen(study: Study, given: Sequence[Given], planned: int) -> list[Note]:
    """Returns the reasons why a listener's answers do not count; none where they do.

    Args:
        study: With the rules.
        given: All answers of one listener.
        planned: Trials that the listener was to answer.
    """
    reasons = []
    if len(given) < planned:
        fields = {"n": str(len(given)), "total": str(planned)}
        reasons.append(Note(code="listen.screen_incomplete", fields=fields))
    counted = [one for one in given if one.trial.kind != "training"]
    checks = (_traps, _gold, _fast, _straight, _repeats, _mushra)
    return reasons + [note for check in checks if (note := check(study, counted)) is not None]


def _wrong(study: Study, given: Sequence[Given], kind: str) -> tuple[int, int]:
    """Returns how many trials of a kind were answered wrong, and how many there were.

    Checks with a known answer ask every scale; a trap must be right in all, gold on its own scale.
    """
    of_kind = [one for one in given if one.trial.kind == kind]
    wrong = 0
    for one in of_kind:
        scales = study.scales if kind == "trap" else [study.gold_scale or study.scales[0]]
        wrong += not all(one.trial.is_right(study.method, one.values[s][0]) for s in scales)
    return wrong, len(of_kind)


def _traps(study: Study, given: Sequence[Given]) -> Note | None:
    wrong, total = _wrong(study, given, "trap")
    if wrong <= study.rules.traps_missed:
        return None
    return Note(code="listen.screen_traps", fields={"n": str(wrong), "total": str(total)})


def _gold(study: Study, given: Sequence[Given]) -> Note | None:
    wrong, total = _wrong(study, given, "gold")
    if wrong <= study.rules.gold_missed * total:
        return None
    return Note(code="listen.screen_gold", fields={"n": str(wrong), "total": str(total)})


def _fast(study: Study, given: Sequence[Given]) -> Note | None:
    if not given:
        return None
    median = float(np.median([one.seconds for one in given]))
    if median >= study.rules.least_answer_s:
        return None
    return Note(code="listen.screen_fast", fields={"seconds": f"{max(0.0, median):.2f}"})


def _straight(study: Study, given: Sequence[Given]) -> Note | None:
    """The same answer to everything, the spoilt clips included."""
    if _wrong(study, given, "gold") == (0, study.golds) and study.golds:
        return None
    values = [
        value for one in given if one.trial.kind != "trap" for value in one.values[study.scales[0]]
    ]
    if len(values) < study.rules.straight_least:
        return None
    _, counts = np.unique(values, return_counts=True)
    share = float(counts.max()) / len(values)
    if share < study.rules.straight_share:
        return None
    return Note(code="listen.screen_straight", fields={"percent": f"{100 * share:.0f}"})


def _repeats(study: Study, given: Sequence[Given]) -> Note | None:
    """Other answers to the very same clips."""
    first = {one.trial.clips: one for one in given if one.trial.kind == "rating"}
    low, high = RANGES[study.method]
    distances = [
        abs(before - after)
        for again in given
        if again.trial.kind == "repeat" and again.trial.clips in first
        for scale in study.scales
        for before, after in zip(
            first[again.trial.clips].values[scale], again.values[scale], strict=True
        )
    ]
    # One answer out of two that differs says nothing of a choice between two.
    if not distances or study.method == "ab":
        return None
    mean = float(np.mean(distances))
    if mean <= study.rules.repeat_distance * (high - low):
        return None
    return Note(code="listen.screen_repeats", fields={"distance": f"{mean:.1f}"})


def _mushra(study: Study, given: Sequence[Given]) -> Note | None:
    """ITU-R BS.1534-3, 4.1.2: the hidden reference too low, or the mid-range anchor too high."""
    if study.method != "mushra":
        return None
    rated = [one for one in given if one.trial.kind == "rating"]
    low = [_of(one, REFERENCE) < study.rules.reference_least for one in rated]
    high = [_of(one, ANCHOR) > study.rules.anchor_most for one in rated]
    for code, off in (("reference", sum(low)), ("anchor", sum(high))):
        if rated and off > study.rules.mushra_share * len(rated):
            fields = {"n": str(off), "total": str(len(rated))}
            return Note(code=f"listen.screen_{code}", fields=fields)
    return None


def _of(given: Given, condition: str) -> int:
    return given.values["quality"][given.trial.conditions.index(condition)]
