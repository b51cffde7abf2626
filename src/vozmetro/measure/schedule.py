"""The measuring loop: rounds in blocks, one subject or two in ABBA order, saved as it goes."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from time import perf_counter
from typing import Literal

from vozmetro.errors import VozmetroError
from vozmetro.measure.live import Block, LiveSubject
from vozmetro.measure.records import Failure, Note, Settings, Status

BLOCK_S = 1.0
"""Longest block in seconds, unless one inference takes longer."""
TURN_S = 0.25
"""The same for two live workers: the shorter their turns, the less drifts between A and B."""
ALTERNATING_BLOCK_S = 30.0
"""The same where every block begins with loading the model again."""


@dataclass(frozen=True)
class Progress:
    """How far a measurement is.

    Attributes:
        phase: `fetching` (a corpus), `verifying`, `building`, `loading`, `measuring`,
            `resting`, `preparing` (sound for a quality study) or `scoring`.
        subject: Name of the subject it is about.
        rounds: Rounds done.
        expected: Rounds asked for at least.
        eta_s: Seconds until that many rounds, None if unknown.
        audio_s: Seconds of audio heard so far, None where they are not counted.
        speed: Seconds of audio heard in each second.
    """

    phase: Literal[
        "fetching",
        "verifying",
        "building",
        "loading",
        "measuring",
        "resting",
        "preparing",
        "scoring",
    ]
    subject: str
    rounds: int = 0
    expected: int = 0
    eta_s: float | None = None
    audio_s: float | None = None
    speed: float = 0.0


Listener = Callable[[Progress], None]
Stop = Callable[[int], bool]
"""Told the number of rounds, says whether the verdict is decided."""


@dataclass(frozen=True)
class Outcome:
    """How the loop ended."""

    status: Status
    failure: Failure | None = None


class Schedule:
    """Measures one or two live subjects on the same items.

    Args:
        lives: One subject, or A and B.
        settings: How; the first subject's count for both.
        save: Called after each block; writes the record atomically.
        stop: Says whether the verdict is decided.
        listen: Told about progress between blocks, never during one.
        alternating: Whether only one subject may be in RAM at a time.
    """

    def __init__(
        self,
        lives: Sequence[LiveSubject],
        settings: Settings,
        *,
        save: Callable[[Status], None],
        stop: Stop,
        listen: Listener,
        alternating: bool = False,
    ) -> None:
        self._lives = lives
        self._settings = settings
        self._save = save
        self._stop = stop
        self._listen = listen
        self._alternating = alternating
        self._started = 0.0
        self._resumed_at = lives[0].sample_count / lives[0].item_count

    def run(self) -> Outcome:
        """Measures until the settings are met, an error or Ctrl-C; everything kept is saved.

        Raises:
            VozmetroError: The subject failed before the first block was kept.
            KeyboardInterrupt: Ctrl-C before the first block was kept.
        """
        with ExitStack() as stack:
            for live in self._lives:
                stack.callback(live.close)
            try:
                self._open_all()
                self._measure()
                self._rest()
            except (VozmetroError, KeyboardInterrupt) as error:
                if not self._lives[0].sample_count:
                    raise
                if isinstance(error, KeyboardInterrupt):
                    outcome = Outcome("interrupted")
                else:
                    outcome = Outcome("failed", Failure(code=error.code, fields=error.fields))
            else:
                outcome = Outcome("complete")
        return outcome

    def _open_all(self) -> None:
        if self._alternating:
            return
        for live in self._lives:
            self._open(live)

    def _open(self, live: LiveSubject) -> None:
        self._listen(Progress("loading", live.name))
        live.open()

    def _measure(self) -> None:
        self._started = perf_counter()
        number = self._lives[0].next_block
        while not self._finished():
            order = self._next_items()
            lives = self._lives if number % 2 == 0 else self._lives[::-1]
            blocks: list[tuple[LiveSubject, Block]] = []
            for live in lives:
                self._tell(live)
                if self._alternating:
                    self._open(live)
                blocks.append((live, live.block(number, order)))
                if self._alternating:
                    live.close()
            # Both or neither: a pair with one side is of no use.
            for live, block in blocks:
                live.keep(block)
            self._save("running")
            number += 1

    def _items_of_round(self, number: int) -> list[int]:
        """Items of a round, shuffled by the seed, the same for both subjects."""
        indices = list(range(self._lives[0].item_count))
        random.Random(f"{self._settings.seed}/{number}").shuffle(indices)  # noqa: S311
        return indices

    def _next_items(self) -> list[int]:
        """Items of the next block: the next of the endless sequence of rounds."""
        items, done = self._lives[0].item_count, self._lives[0].sample_count
        first, offset = divmod(done, items)
        wanted = self._next_count()
        sequence: list[int] = []
        for number in range(first, first + 2 + wanted // items):
            sequence += self._items_of_round(number)
        return sequence[offset : offset + wanted]

    def _next_count(self) -> int:
        """Samples of the next block."""
        items, done = self._lives[0].item_count, self._lives[0].sample_count
        asked = self._settings.iterations * items
        longest = BLOCK_S if len(self._lives) == 1 else TURN_S
        if self._alternating:
            # Before the first block nothing is known about the speed.
            if not done:
                return items
            longest = ALTERNATING_BLOCK_S
        slowest = max(1e-9, *(one.sample_seconds for one in self._lives))
        by_time = max(1, int(longest / slowest))
        # A tenth of the run: enough turns for ABBA, and saving stays cheap as the run grows.
        tenth = max(1, max(done, asked) // 10)
        # To the end of what was asked for, then whole rounds, because verdicts count those.
        left = asked - done if done < asked else items * max(1, tenth // items) - done % items
        return min(by_time, tenth, left)

    def _finished(self) -> bool:
        done, rounds = self._lives[0].sample_count, self._lives[0].rounds
        settings = self._settings
        if perf_counter() - self._started > settings.max_time_s and done:
            fields = {"limit": f"{settings.max_time_s:g}", "rounds": str(rounds)}
            for live in self._lives:
                live.notes.append(Note(code="max_time_reached", fields=fields))
            return True
        if rounds < settings.iterations:
            return False
        return settings.until == "iterations" or self._stop(rounds)

    def _tell(self, live: LiveSubject) -> None:
        first = self._lives[0]
        expected = self._settings.iterations
        done = first.sample_count / first.item_count
        left = max(0.0, expected - done)
        eta = None
        if done > self._resumed_at:
            eta = left * (perf_counter() - self._started) / (done - self._resumed_at)
        elif not self._alternating:
            per_round = sum(one.sample_seconds for one in self._lives) * first.item_count
            eta = left * per_round
        self._listen(Progress("measuring", live.name, first.rounds, expected, eta))

    def _rest(self) -> None:
        """After-idle latency; with two live workers the other one would not be idle."""
        if len(self._lives) > 1:
            return
        live = self._lives[0]
        self._listen(Progress("resting", live.name))
        live.rest()
