"""What was said in one conversation, for replies that answer better for it.

It is kept by the conversation and not by the reply: a tier's reply serves many people at once, and
none may hear of another's words.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from vozmetro.pipeline.protocols import Cancelled, Reply

TURNS = 16
"""Exchanges that are kept."""
MOST_CHARACTERS = 2000
"""Of each side of an exchange."""


@dataclass(frozen=True)
class Exchange:
    """What the user said, and as much of the answer as was given."""

    heard: str
    said: str


@runtime_checkable
class Remembering(Protocol):
    """A reply that can be told what was said before."""

    def answer(
        self, history: Sequence[Exchange], text: str, language: str, cancelled: Cancelled
    ) -> Iterator[str]:
        """As `Reply.stream`, after `history`, the oldest first."""


class Dialogue:
    """One conversation's memory. One turn at a time."""

    def __init__(self) -> None:
        self._past: deque[Exchange] = deque(maxlen=TURNS)

    @property
    def history(self) -> tuple[Exchange, ...]:
        """What was said, the oldest first."""
        return tuple(self._past)

    def stream(self, reply: Reply, text: str, language: str, cancelled: Cancelled) -> Iterator[str]:
        """Yields the answer of whichever reply, and remembers what was given of it."""
        said: list[str] = []
        try:
            for piece in self.pieces(reply, text, language, cancelled):
                said.append(piece)
                yield piece
        finally:
            self.keep(text, "".join(said))

    def pieces(self, reply: Reply, text: str, language: str, cancelled: Cancelled) -> Iterator[str]:
        """Yields the answer of whichever reply; nothing of it is remembered."""
        if isinstance(reply, Remembering):
            pieces = reply.answer(self.history, text, language, cancelled)
        else:
            pieces = reply.stream(text, language, cancelled)
        try:
            yield from pieces
        finally:
            close = getattr(pieces, "close", None)
            if close is not None:
                close()

    def keep(self, heard: str, said: str) -> None:
        """Remembers an exchange, unless nothing was said."""
        if said:
            self._past.append(Exchange(heard[:MOST_CHARACTERS], said[:MOST_CHARACTERS]))
