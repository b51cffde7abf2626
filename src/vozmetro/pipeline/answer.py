"""From what was said to the audio of an answer, a clause at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import perf_counter_ns

from vozmetro.pipeline.protocols import Audio, Cancelled, Event, ReplyText
from vozmetro.pipeline.tiers import Stages, Tiers
from vozmetro.speech.clauses import ClauseCutter
from vozmetro.units import NS_PER_MS

GATE_S = 30.0
"""Seconds that a turn waits for its place at most."""


def answer(
    tiers: Tiers,
    stages: Stages,
    *,
    turn: str,
    text: str,
    cancelled: Cancelled,
    tell: Callable[[Event], None],
) -> dict[str, float]:
    """Answers, and speaks as soon as a clause of the answer is known.

    Args:
        tiers: For the place to work in.
        stages: Who answers and who speaks.
        turn: Id of the turn.
        text: What the user said.
        cancelled: Ends it early.
        tell: Gets `ReplyText` and `Audio`.

    Returns:
        `reply` and `tts_first_audio` in ms, as far as it has come.

    Raises:
        BusyError: No place was free in time.
    """
    start = perf_counter_ns()
    parts: dict[str, float] = {}
    clause_ns = 0
    for clause in _clauses(stages, turn, text, cancelled, tell):
        if not clause_ns:
            clause_ns = perf_counter_ns()
            parts["reply"] = (clause_ns - start) / NS_PER_MS
        for event in _spoken(tiers, stages, turn, clause, cancelled):
            if "tts_first_audio" not in parts:
                parts["tts_first_audio"] = (event.at_ns - clause_ns) / NS_PER_MS
            tell(event)
    return parts


def _clauses(
    stages: Stages, turn: str, text: str, cancelled: Cancelled, tell: Callable[[Event], None]
) -> Iterator[str]:
    cutter = ClauseCutter()
    for piece in stages.reply.stream(text, stages.language, cancelled):
        if cancelled():
            return
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
