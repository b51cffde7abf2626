"""From what was said to the audio of an answer, a clause at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import perf_counter_ns

from vozmetro.pipeline.protocols import Audio, Cancelled, Event, ReplyText
from vozmetro.pipeline.reply.dialogue import Dialogue
from vozmetro.pipeline.tiers import Stages, Tiers
from vozmetro.speech.clauses import ClauseCutter

GATE_S = 30.0
"""Seconds that a turn waits for its place at most."""


@dataclass
class Given:
    """What was given of an answer so far.

    Attributes:
        said: Its text.
        clause_ns: When its first clause was known; 0 before.
    """

    said: str = ""
    clause_ns: int = 0


def answer(
    tiers: Tiers,
    stages: Stages,
    dialogue: Dialogue,
    given: Given,
    *,
    turn: str,
    text: str,
    cancelled: Cancelled,
    tell: Callable[[Event], None],
) -> None:
    """Answers, and speaks as soon as a clause of the answer is known.

    Args:
        tiers: For the place to work in.
        stages: Who answers and who speaks.
        dialogue: What was said before.
        given: Filled as the answer is given, also where it fails.
        turn: Id of the turn.
        text: What the user said.
        cancelled: Ends it early.
        tell: Gets `ReplyText` and `Audio`.

    Raises:
        BusyError: No place was free in time.
    """
    pieces = dialogue.pieces(stages.reply, text, stages.language, cancelled)
    for clause in _clauses(pieces, turn, given, cancelled, tell):
        given.clause_ns = given.clause_ns or perf_counter_ns()
        for event in _spoken(tiers, stages, turn, clause, cancelled):
            tell(event)


def _clauses(
    pieces: Iterator[str],
    turn: str,
    given: Given,
    cancelled: Cancelled,
    tell: Callable[[Event], None],
) -> Iterator[str]:
    cutter = ClauseCutter()
    for piece in pieces:
        if cancelled():
            return
        given.said += piece
        tell(ReplyText(turn, perf_counter_ns(), piece))
        yield from cutter.feed(piece)
    rest = cutter.rest()
    if rest and not cancelled():
        yield rest


def _spoken(
    tiers: Tiers, stages: Stages, turn: str, clause: str, cancelled: Cancelled
) -> Iterator[Audio]:
    chunks = stages.tts.stream(clause)
    while not cancelled():
        # The place is free between chunks, so that several turns are spoken side by side.
        with tiers.gate.turn(GATE_S):
            chunk = next(chunks, None)
        if chunk is None:
            return
        if len(chunk):
            yield Audio(turn, perf_counter_ns(), chunk, stages.tts.sample_rate)
