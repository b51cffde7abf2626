"""Who hears what, in which order: decided by the study's seed and the listener's number alone.

Each listener gets a subset of the items and, of each of these, every system. Over the listeners,
items are used equally often, and systems stand at each place, and after each other, equally often:
rounds follow the rows of a Williams design (Williams 1949, Aust. J. Sci. Res. A 2), in which a
round has every system once and, where there are items enough, no item twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import combinations
from typing import Literal

import numpy as np
from pydantic import TypeAdapter

from vozmetro.errors import InputError
from vozmetro.quality.listen.study import GOLD, RANGES, RATINGS_FILE, REFERENCE, Study

Kind = Literal["training", "rating", "gold", "trap", "repeat"]
TRIALS_WANTED = 40
"""Trials per listener that a study aims at where nothing else is asked for."""
MOST_TRIALS = 500
"""Trials per listener that a study may have, checks and training aside."""
GOLD_MOST = 2
"""Highest ACR score that a spoilt clip may get."""


@dataclass(frozen=True)
class Trial:
    """One page of the test.

    Attributes:
        kind: `training` does not count; `gold` holds a spoilt clip; `trap` says which answer to
            give; `repeat` is a `rating` once more.
        item: What is said.
        conditions: What is heard, in the order in which it is offered.
        clips: Opaque names of the clips, in the same order.
        reference: Clip of the open reference (MUSHRA), or empty.
        expected: The answer that a trap asks for.
    """

    kind: Kind
    item: str
    conditions: tuple[str, ...]
    clips: tuple[str, ...]
    reference: str = ""
    expected: int | None = None

    def is_right(self, method: str, answer: int) -> bool:
        """Returns whether an answer is the one known to be right; True where there is none."""
        if self.kind == "trap":
            return answer == self.expected
        if self.kind != "gold":
            return True
        if method == "acr":
            return answer <= GOLD_MOST
        spoilt = self.conditions.index(GOLD)
        return answer != spoilt if method == "ab" else (answer < 0) == (spoilt == 1) and answer != 0


def dumped(plan: Sequence[Trial]) -> str:
    """Returns a plan as JSON, to be kept: numpy may shuffle otherwise in another version."""
    return _plans().dump_json(list(plan)).decode()


def loaded(text: str, study: Study) -> tuple[Trial, ...]:
    """Reads a plan that was kept.

    Raises:
        InputError: `listen_ratings_damaged` where it is none, or not of this study.
    """
    known = {clip.id: (clip.condition, clip.item) for clip in study.clips}
    try:
        found: list[Trial] = _plans().validate_json(text)
        for one in found:
            pairs = list(zip(one.conditions, one.clips, strict=True))
            if one.reference:
                pairs.append((REFERENCE, one.reference))
            if not pairs or any(known.get(clip) != (name, one.item) for name, clip in pairs):
                raise ValueError("clips of another study")
            if one.kind == "rating" and one.item not in study.items:
                raise ValueError("an item of another study")
    except ValueError as error:
        raise InputError("listen_ratings_damaged", path=RATINGS_FILE, detail="plan") from error
    return tuple(found)


@cache
def _plans() -> TypeAdapter[list[Trial]]:
    return TypeAdapter(list[Trial])


def units(conditions: Sequence[str], method: str) -> list[tuple[str, ...]]:
    """Returns what one trial of a method holds: one condition, a pair, or all of them."""
    if method == "acr":
        return [(name,) for name in conditions]
    return [tuple(conditions)] if method == "mushra" else list(combinations(conditions, 2))


def default_items(conditions: int, method: str, items: int) -> int:
    """Returns how many items a listener gets: as many as fit into about forty trials."""
    return max(1, min(items, TRIALS_WANTED // trials_per_item(conditions, method)))


def trials_per_item(conditions: int, method: str) -> int:
    """Returns how many trials a listener has with each of their items, checks aside."""
    return len(units([str(n) for n in range(conditions)], method))


def williams(count: int) -> list[list[int]]:
    """Returns rows in which each of `count` treatments follows each other one equally often.

    An even number needs as many rows as treatments, an odd one twice as many.
    """
    zigzag = [(step + 1) // 2 if step % 2 else -step // 2 for step in range(count)]
    rows = [[(place + row) % count for place in zigzag] for row in range(count)]
    return rows + [row[::-1] for row in rows] if count % 2 and count > 1 else rows


@lru_cache(maxsize=256)
def item_subset(count: int, per_listener: int, listener: int, seed: int) -> tuple[int, ...]:
    """Returns which of `count` items a listener gets; none twice, and all equally often.

    The items are dealt like cards from shuffled decks, so that at any time no item has been used
    more than once more often than another.
    """
    dealt: list[int] = []
    deck = 0
    while len(dealt) < (listener + 1) * per_listener:
        cards = [int(card) for card in np.random.default_rng((seed, 1, deck)).permutation(count)]
        begun = len(dealt) % per_listener
        held = set(dealt[len(dealt) - begun :])
        # Who still holds cards of the last deck must not get one of them again.
        first = [card for card in cards if card not in held][: per_listener - begun]
        given = set(first)
        dealt += first + [card for card in cards if card not in given]
        deck += 1
    return tuple(dealt[listener * per_listener : (listener + 1) * per_listener])


def trials(study: Study, listener: int) -> tuple[Trial, ...]:
    """Returns a listener's trials in order.

    Args:
        study: What is compared.
        listener: Number, from 0 on, in the order in which they begin.
    """
    make = _Maker(study, listener)
    main = make.main()
    extras = [*make.golds(), *make.traps()]
    make.rng.shuffle(extras)
    placed = [(float(place), trial) for place, trial in enumerate(main)]
    for index, trial in enumerate(extras):
        # Spread over the whole test, and not at its very beginning.
        share = (index + make.rng.uniform(0.25, 0.75)) / len(extras)
        placed.append((0.6 + share * (len(main) - 1), trial))
    early = main[: max(1, len(main) // 2)]
    chosen = make.rng.permutation(len(early))[: study.repeats]
    for index in chosen:
        again = Trial("repeat", *_parts(early[index]))
        placed.append((len(main) * make.rng.uniform(0.75, 1.0), again))
    placed.sort(key=lambda one: one[0])
    return (*make.training(), *(trial for _, trial in placed))


def _parts(trial: Trial) -> tuple[str, tuple[str, ...], tuple[str, ...], str]:
    return trial.item, trial.conditions, trial.clips, trial.reference


class _Maker:
    """Makes the trials of one listener."""

    def __init__(self, study: Study, listener: int) -> None:
        self.study = study
        self.listener = listener
        self.rng = np.random.default_rng((study.seed, 2, listener))
        self.clips = {(c.condition, c.item): c.id for c in study.clips if c.condition != GOLD}
        self.spoilt = sorted(
            (clip for clip in study.clips if clip.condition == GOLD), key=lambda clip: clip.source
        )
        self.units = units(study.conditions, study.method)

    def main(self) -> list[Trial]:
        """The trials that count, each unit with each of the listener's items once."""
        study = self.study
        wanted = study.items_per_listener
        chosen = item_subset(len(study.items), wanted, self.listener, study.seed)
        names = [study.items[index] for index in chosen]
        relabel = np.random.default_rng((study.seed, 3)).permutation(len(self.units))
        rows = williams(len(self.units))
        found = []
        for turn in range(wanted):
            for place in rows[(self.listener + turn) % len(rows)]:
                swapped = (self.listener // len(rows) + self.listener + turn + place) % 2 == 1
                unit = self.units[relabel[place]]
                item = names[(turn + place) % wanted]
                found.append(self.trial("rating", item, unit, swapped))
        return found

    def trial(self, kind: Kind, item: str, unit: Sequence[str], swapped: bool = False) -> Trial:
        """A trial with the clips of one unit, in the order in which they are offered."""
        order = list(unit)
        reference = ""
        if self.study.method == "mushra":
            order = [unit[index] for index in self.rng.permutation(len(unit))]
            reference = self.clips[(REFERENCE, item)]
        elif swapped:
            order.reverse()
        clips = tuple(self.clips[(name, item)] for name in order)
        return Trial(kind, item, tuple(order), clips, reference)

    def gold(self, kind: Kind, number: int) -> Trial:
        """A trial with a spoilt clip, alone or beside the clip that it was made of."""
        clip = self.spoilt[number % len(self.spoilt)]
        if self.study.method == "acr":
            return Trial(kind, clip.item, (GOLD,), (clip.id,))
        pair = [(GOLD, clip.id), (clip.source, self.clips[(clip.source, clip.item)])]
        if self.rng.random() < 0.5:
            pair.reverse()
        return Trial(kind, clip.item, tuple(n for n, _ in pair), tuple(c for _, c in pair))

    def golds(self) -> list[Trial]:
        """The spoilt clips, beginning with another one for each listener."""
        return [self.gold("gold", self.listener + n) for n in range(self.study.golds)]

    def traps(self) -> list[Trial]:
        """Attention checks: the text beside the clip says which answer to give."""
        study = self.study
        low, high = RANGES[study.method]
        # In CCR, "about the same" is what somebody who does not read would leave it at.
        answers = [value for value in range(low, high + 1) if study.method != "ccr" or value]
        found = []
        for _ in range(study.traps):
            unit = self.units[int(self.rng.integers(len(self.units)))]
            plain = self.trial("trap", study.training_item, unit)
            expected = int(self.rng.choice(answers))
            found.append(Trial(*("trap", *_parts(plain)), expected=expected))
        return found

    def training(self) -> list[Trial]:
        """What a listener begins with: both ends of the scale, so that they are known."""
        if self.study.method == "mushra":
            return [self.trial("training", self.study.training_item, self.units[0])]
        first = self.units[self.listener % len(self.units)]
        found = [self.trial("training", self.study.training_item, first)]
        if self.spoilt:
            found.append(self.gold("training", self.listener))
        return found
