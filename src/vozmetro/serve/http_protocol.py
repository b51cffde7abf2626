"""HTTP connections that end where their client lets them hang: slow heads, and slow readers."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from vozmetro.serve.state import Limits


class PatientProtocol(H11Protocol):
    """uvicorn's protocol, which has no such limits of its own.

    Attributes:
        limits: Set by `protocol`.
    """

    limits = Limits()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Gives the client some time to say what it wants."""
        super().connection_made(transport)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        """Takes what came; a head that is not whole yet must be so in time."""
        super().data_received(data)
        if self._answering():
            self._forget_head()
        else:
            self._expect_head()

    def on_response_complete(self) -> None:
        """Waits for another request, which may have begun to come already."""
        super().on_response_complete()
        if not self._answering():
            self._expect_head()

    def pause_writing(self) -> None:
        """The client has not taken what it was sent: it must in time."""
        super().pause_writing()
        if self._unread is None:
            self._unread = self.loop.call_later(self.limits.write_s, self.transport.abort)

    def resume_writing(self) -> None:
        """It has."""
        super().resume_writing()
        self._forget_unread()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._forget_head()
        self._forget_unread()
        super().connection_lost(exc)

    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _expect_head(self) -> None:
        if self._head is None:
            self._head = self.loop.call_later(self.limits.header_s, self._too_slow)

    def _too_slow(self) -> None:
        self._head = None
        # A WebSocket has a protocol of its own, with its own limits.
        if not self._answering() and self.transport.get_protocol() is self:
            self.transport.abort()

    def _forget_head(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _forget_unread(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None


def protocol(limits: Limits) -> type[PatientProtocol]:
    """Returns the protocol with these limits."""
    return type("Protocol", (PatientProtocol,), {"limits": limits})
