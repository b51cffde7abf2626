"""A conversation of the pipeline, used from an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

from vozmetro.audio import Samples
from vozmetro.pipeline.endpoint import Endpointing
from vozmetro.pipeline.protocols import Event, Listener
from vozmetro.pipeline.tiers import Ask, Tiers

_THREADS = ThreadPoolExecutor(32, "line")
"""Where conversations are begun and ended: those that end may have to wait for what they do."""


class Talk(Protocol):
    """What is needed of `pipeline.conversation.Conversation`; see there."""

    def feed(self, samples: Samples) -> None:
        """Takes audio at 16 kHz; raises BusyError where too much of it waits."""

    def commit(self) -> None:
        """The user has finished."""

    def cancel(self) -> None:
        """Stops the answer."""

    def close(self) -> None:
        """Ends its thread."""


Talks = Callable[[Tiers, Listener, str, Ask, bool], Talk]
"""Makes a conversation of tiers, listener, language, ask, and whether it finds the end of speech
itself."""


def conversations(
    tiers: Tiers,
    listener: Listener,
    language: str,
    ask: Ask,
    endpoint: bool,
    *,
    endpointing: Endpointing | None = None,
) -> Talk:
    """Makes the pipeline's conversations: what is served is what was measured."""
    from vozmetro.pipeline.conversation import Conversation

    return Conversation(
        tiers,
        listener,
        language=language,
        ask=ask,
        endpoint=endpoint,
        endpointing=endpointing,
    )


class Line:
    """A conversation whose events arrive on the event loop.

    Made by `open`.

    Attributes:
        talk: The conversation.
        closed: Nobody wants to know of it any more.
    """

    talk: Talk

    def __init__(self) -> None:
        self.closed = False

    @classmethod
    async def open(
        cls,
        talks: Talks,
        tiers: Tiers,
        post: Callable[[Line, Event], None],
        *,
        language: str = "",
        ask: Ask,
        endpoint: bool,
    ) -> Line:
        """Returns a conversation.

        Args:
            talks: Makes it; in a thread, as it may load the endpointer's model.
            tiers: Who answers.
            post: Gets its events, on the loop: those of a line that is closed, too, whose turns
                have to be counted to their end.
            language: ISO 639-1, or empty.
            ask: For which tier.
            endpoint: Whether it finds the end of speech itself.
        """
        line, loop = cls(), asyncio.get_running_loop()

        def listener(event: Event) -> None:
            try:
                loop.call_soon_threadsafe(post, line, event)
            except RuntimeError:
                # The loop has ended, and nobody waits for this any more.
                line.closed = True

        making = _THREADS.submit(talks, tiers, listener, language, ask, endpoint)
        try:
            line.talk = await asyncio.wrap_future(making)
        except asyncio.CancelledError:
            # The client has left: what is being made for it is ended as soon as it is there.
            making.add_done_callback(_end)
            raise
        return line

    async def close(self) -> None:
        """Ends it; what it was working on may have to come to an end first."""
        if not self.closed:
            self.closed = True
            await asyncio.get_running_loop().run_in_executor(_THREADS, self.talk.close)


def _end(making: Future[Talk]) -> None:
    if not making.cancelled() and making.exception() is None:
        making.result().close()
