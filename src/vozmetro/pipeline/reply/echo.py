"""Says what it heard: a cascade of speech to text and text to speech, as the guide budgets it."""

from __future__ import annotations

from collections.abc import Iterator

from vozmetro.pipeline.protocols import Cancelled


class Echo:
    """Implements `Reply`."""

    eager = True

    def stream(self, text: str, language: str, cancelled: Cancelled) -> Iterator[str]:
        """See `Reply.stream`."""
        del language
        if text and not cancelled():
            yield text
