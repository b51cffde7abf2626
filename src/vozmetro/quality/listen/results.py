"""From answers to results: who is kept, what each system scores, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import combinations
from pathlib import Path

import numpy as np

from vozmetro.errors import InputError
from vozmetro.measure.listening_records import (
    Listened,
    ListeningRecord,
    PairTest,
    Separation,
    Strength,
    SystemScore,
)
from vozmetro.measure.records import Note
from vozmetro.quality.listen import estimates
from vozmetro.quality.listen.estimates import Votes
from vozmetro.quality.listen.plan import Trial, loaded
from vozmetro.quality.listen.screening import Given, screen
from vozmetro.quality.listen.store import Answered, Listener, Store
from vozmetro.quality.listen.study import ANCHORS, RANGES, RATINGS_FILE, Study, digest, load
from vozmetro.resampling import holm

HALF_WIDTHS = {"acr": 0.25, "ab": 0.1, "ccr": 0.25, "mushra": 5.0}
"""Half-width of an interval that is aimed at where none is asked for, in units of the scores."""


@dataclass(frozen=True)
class Comment:
    """What a listener left to say, cleaned. `number` from 1 on, as in the record."""

    number: int
    name: str
    text: str


def read(folder: Path, half_width: float | None = None) -> tuple[ListeningRecord, list[Comment]]:
    """Computes the results of a study from its folder.

    Args:
        folder: The study's.
        half_width: Wanted half-width of the intervals; None for what is usual with the method.

    Raises:
        InputError: `listen_*`: the study or its answers are missing or damaged, or `half_width` is
            not above 0.
        MissingExtraError: choix is not installed.
    """
    study = load(folder)
    if half_width is not None and not 0 < half_width < math.inf:
        raise InputError("listen_half_width", value=half_width)
    if not (folder / RATINGS_FILE).is_file():
        raise InputError("listen_no_ratings", path=folder)
    store = Store(folder, digest(study))
    try:
        listeners, answered = store.listeners(), store.answered()
    finally:
        store.close()
    if not listeners:
        raise InputError("listen_no_ratings", path=folder)
    comments = [Comment(one.number + 1, one.name, one.comment) for one in listeners if one.comment]
    return evaluate(study, listeners, answered, half_width), comments


def evaluate(
    study: Study,
    listeners: Sequence[Listener],
    answered: Iterable[Answered],
    half_width: float | None = None,
) -> ListeningRecord:
    """Returns the results of a study.

    Args:
        study: What was compared.
        listeners: Everybody who joined.
        answered: All answers; what does not fit the study's plan is left out.
        half_width: As for `read`.
    """
    wanted = half_width or HALF_WIDTHS[study.method]
    plans = {one.number: loaded(one.plan, study) for one in listeners}
    given = _given(study, plans, answered)
    notes = {
        one.number: screen(study, given[one.number], len(plans[one.number])) for one in listeners
    }
    kept = {number: given[number] for number, reasons in notes.items() if not reasons}
    scores, pairs, strengths, separations = [], [], [], []
    for scale in study.scales:
        table = _Table(study, scale, kept)
        if not table.rows:
            continue
        ranked = sorted(table.scores(wanted), key=lambda score: -score.value)
        tested = table.pairs()
        scores += ranked
        pairs += tested
        strengths += table.strengths()
        separations += table.separation(ranked, tested)
    return ListeningRecord(
        id=study.id,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        vozmetro=version("vozmetro"),
        method=study.method,
        scales=list(study.scales),
        names=study.systems,
        study_sha256=digest(study),
        half_width=wanted,
        kept=len(kept),
        screened=len(listeners) - len(kept),
        systems=scores,
        pairs=pairs,
        strengths=strengths,
        separations=separations,
        listeners=[
            _listened(one, notes[one.number], len(given[one.number]), len(plans[one.number]))
            for one in listeners
        ],
        comments=sum(bool(one.comment) for one in listeners),
    )


def _given(
    study: Study, plans: Mapping[int, Sequence[Trial]], answered: Iterable[Answered]
) -> dict[int, list[Given]]:
    """Answers by listener, beside the trials that they are to; what fits none is left out."""
    given: dict[int, list[Given]] = {number: [] for number in plans}
    lengths = {clip.id: clip.seconds for clip in study.clips}
    for one in answered:
        plan = plans.get(one.listener, ())
        if 0 <= one.position < len(plan) and _fits(study, plan[one.position], one):
            trial = plan[one.position]
            heard = sum(lengths[clip] for clip in (*trial.clips, trial.reference) if clip)
            given[one.listener].append(Given(trial, one.values, one.seconds - heard))
    return given


def _listened(one: Listener, reasons: list[Note], answered: int, trials: int) -> Listened:
    return Listened(
        number=one.number + 1,
        kept=not reasons,
        reasons=reasons,
        answered=answered,
        trials=trials,
        lang=one.lang,
        first_language=one.first_language,
        hearing=one.hearing,
        device=one.device,
        tones_right=one.tones_right,
    )


def _fits(study: Study, trial: Trial, one: Answered) -> bool:
    """Returns whether stored answers have the form that the server lets in."""
    low, high = RANGES[study.method]
    wanted = len(trial.clips) if study.method == "mushra" else 1
    return set(one.values) == set(study.scales) and all(
        len(values) == wanted and all(low <= value <= high for value in values)
        for values in one.values.values()
    )


class _Table:
    """The votes of the kept listeners on one scale.

    Attributes:
        rows: By condition, votes as (listener, item, value): of A/B 1 for the chosen one and 0
            for the other, of CCR the score for the second and its negative for the first.
        direct: By pair, what one listener's trial says of a above b: (listener, item, value).
    """

    def __init__(self, study: Study, scale: str, kept: dict[int, list[Given]]) -> None:
        self.study, self.scale = study, scale
        self.number = {item: n for n, item in enumerate(study.items)}
        self.place = {name: n for n, name in enumerate(study.conditions)}
        self.rows: dict[str, list[tuple[int, int, float]]] = {}
        self.direct: dict[tuple[str, str], list[tuple[int, int, float]]] = {}
        rated: dict[tuple[int, int], dict[str, float]] = {}
        for listener, given in kept.items():
            for one in given:
                if one.trial.kind != "rating":
                    continue
                item = self.number[one.trial.item]
                values = one.values[scale]
                if study.method in ("acr", "mushra"):
                    for name, value in zip(one.trial.conditions, values, strict=True):
                        self.rows.setdefault(name, []).append((listener, item, float(value)))
                        rated.setdefault((listener, item), {})[name] = float(value)
                else:
                    self._compared(listener, item, one.trial.conditions, values[0])
        for (listener, item), by_name in rated.items():
            for a, b in combinations(sorted(by_name, key=self.place.__getitem__), 2):
                told = (listener, item, by_name[a] - by_name[b])
                self.direct.setdefault((a, b), []).append(told)

    def _compared(self, listener: int, item: int, names: Sequence[str], answer: int) -> None:
        first, second = names
        if self.study.method == "ab":
            self.rows.setdefault(first, []).append((listener, item, float(answer == 0)))
            self.rows.setdefault(second, []).append((listener, item, float(answer == 1)))
            above = 1.0 if answer == 0 else -1.0
        else:
            above = float(-answer)
            self.rows.setdefault(first, []).append((listener, item, above))
            self.rows.setdefault(second, []).append((listener, item, -above))
        if self.place[first] > self.place[second]:
            first, second, above = second, first, -above
        self.direct.setdefault((first, second), []).append((listener, item, above))

    def scores(self, wanted: float) -> list[SystemScore]:
        """What each condition scores, and how sure that is."""
        found = []
        for name in sorted(self.rows, key=self.place.__getitem__):
            votes = Votes.of(self.rows[name])
            whole = estimates.two_way(votes, self.study.seed)
            naive = estimates.t_interval(votes.values)
            low, high = RANGES[self.study.method]
            many = len(votes.values) > 1
            found.append(
                SystemScore(
                    name=name,
                    scale=self.scale,
                    value=whole.value,
                    low=_end(whole.low, low, high),
                    high=_end(whole.high, low, high),
                    t_low=_end(naive.low, low, high),
                    t_high=_end(naive.high, low, high),
                    sd=float(np.std(votes.values, ddof=1)) if many else None,
                    ratings=len(votes.values),
                    listeners=len(np.unique(votes.listeners)),
                    items=len(np.unique(votes.items)),
                    more_listeners=estimates.more_for_half_width(votes, wanted, self.study.seed),
                )
            )
        return found

    def pairs(self) -> list[PairTest]:
        """All pairs but those with an anchor: it is there to check listeners, not to be tested."""
        named = [pair for pair in self.direct if not set(pair) & set(ANCHORS)]
        keys = sorted(named, key=lambda pair: tuple(self.place[name] for name in pair))
        low, high = RANGES[self.study.method]
        most = high if self.study.method == "ccr" else high - low
        votes = [Votes.of(self.direct[key]) for key in keys]
        raw = [estimates.paired_p(one.per_listener()) for one in votes]
        found = []
        for key, one, p, corrected in zip(keys, votes, raw, holm(raw), strict=True):
            whole = estimates.two_way(one, self.study.seed)
            found.append(
                PairTest(
                    a=key[0],
                    b=key[1],
                    scale=self.scale,
                    difference=whole.value,
                    low=_end(whole.low, -most, most),
                    high=_end(whole.high, -most, most),
                    p=p,
                    p_holm=corrected,
                    ratings=len(one.values),
                    listeners=len(np.unique(one.listeners)),
                )
            )
        return found

    def strengths(self) -> list[Strength]:
        """By who is above whom in each listener's comparisons; ties say nothing."""
        names = sorted(self.rows, key=self.place.__getitem__)
        people = sorted({row[0] for rows in self.direct.values() for row in rows})
        if len(names) < 2 or len(people) < 2:
            return []
        wins = np.zeros((len(people), len(names), len(names)))
        for (a, b), rows in self.direct.items():
            for listener, _, value in rows:
                i, j = names.index(a), names.index(b)
                who = people.index(listener)
                wins[who, i, j] += value > 0
                wins[who, j, i] += value < 0
        table = estimates.strengths(wins, self.study.seed)
        order = sorted(range(len(names)), key=lambda n: -table[n, 1])
        return [
            Strength(
                name=names[n],
                scale=self.scale,
                value=float(table[n, 0]),
                low=float(table[n, 1]),
                high=float(table[n, 2]),
                place=place,
            )
            for place, n in enumerate(order, 1)
        ]

    def separation(
        self, ranked: Sequence[SystemScore], tested: Sequence[PairTest]
    ) -> list[Separation]:
        """Whether the best two systems as given differ; reference and anchors do not compete."""
        own = [score.name for score in ranked if score.name in self.study.systems]
        if len(own) < 2:
            return []
        pair = next(one for one in tested if {one.a, one.b} == set(own[:2]))
        apart = pair.p_holm < estimates.ALPHA
        votes = Votes.of(self.direct[(pair.a, pair.b)])
        level = estimates.ALPHA / len(tested)
        more = 0 if apart else estimates.more_to_tell_apart(votes.per_listener(), level)
        return [
            Separation(
                scale=self.scale,
                first=own[0],
                second=own[1],
                told_apart=apart,
                more_listeners=more,
            )
        ]


def _end(value: float, low: float, high: float) -> float | None:
    """Returns an interval's end within the scale, which an interval cannot leave."""
    return None if math.isnan(value) else min(max(value, low), high)
