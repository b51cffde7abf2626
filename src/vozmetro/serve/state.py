"""What all that is served shares: the tiers, the limits, who may ask, and whether it still runs."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

from vozmetro.errors import BusyError
from vozmetro.pipeline.tiers import Tiers
from vozmetro.quality.listen.guard import Access
from vozmetro.serve.about import About
from vozmetro.serve.metrics import Metrics


@dataclass(frozen=True)
class Limits:
    """What one client, and all of them, may ask for.

    Attributes:
        active: Requests at once that work, wait for the models, or send audio.
        connections: Connections at once, of each server.
        body_bytes: Of a request over HTTP; OpenAI's own limit is 25 MB.
        body_s: For a request's body to arrive, in seconds.
        header_s: For its head to arrive; then the connection is cut.
        write_s: For a client to take what it was sent; then the connection is cut.
        audio_s: Of a recording to transcribe.
        text: Characters to speak; OpenAI's own limit.
        wait_s: For the models to be free, in seconds.
        work_s: For a whole answer.
        idle_s: Without any event on a Wyoming connection.
        event_bytes: Payload or data of one Wyoming event.
        ahead: Pieces of audio that are made before the client has taken those before.
        drain_s: For what runs when the server is told to stop.
    """

    active: int = 16
    connections: int = 64
    body_bytes: int = 25_000_000
    body_s: float = 60.0
    header_s: float = 10.0
    write_s: float = 20.0
    audio_s: float = 600.0
    text: int = 4096
    wait_s: float = 10.0
    work_s: float = 300.0
    idle_s: float = 60.0
    event_bytes: int = 1 << 20
    ahead: int = 8
    drain_s: float = 30.0


@dataclass(eq=False)
class Serving:
    """A server's state; belongs to one event loop.

    Attributes:
        tiers: Who does the work.
        access: Who may ask over HTTP.
        limits: See there.
        about: What the tiers' models are; one for each name in `tiers.names`, or none.
        metrics: What `/metrics` tells.
        draining: It finishes what runs and refuses everything else.
        active: Requests in hand.
    """

    tiers: Tiers
    access: Access = field(default_factory=Access)
    limits: Limits = field(default_factory=Limits)
    about: Sequence[About] = ()
    metrics: Metrics = field(default_factory=Metrics)
    draining: bool = False
    active: int = 0

    def __post_init__(self) -> None:
        # As many threads as requests: none waits for a thread, where nobody would bound its wait.
        self.threads = ThreadPoolExecutor(self.limits.active, "vozmetro-serve")
        self._idle = asyncio.Event()
        self._idle.set()
        self.metrics.watch(self)

    @contextmanager
    def request(self) -> Iterator[str]:
        """Takes a request in hand; yields its id.

        Raises:
            BusyError: `serve_draining` or `server_busy`.
        """
        if self.draining:
            raise BusyError("serve_draining")
        if self.active >= self.limits.active:
            raise BusyError("server_busy")
        self.active += 1
        self._idle.clear()
        try:
            yield new_turn()
        finally:
            self.active -= 1
            if not self.active:
                self._idle.set()

    def drain(self) -> None:
        """Takes no more requests."""
        self.draining = True

    async def finished(self) -> bool:
        """Waits until nothing is in hand any more; False where that takes too long."""
        try:
            await asyncio.wait_for(self._idle.wait(), self.limits.drain_s)
        except TimeoutError:
            return False
        return True

    def health(self) -> str:
        """Returns `ok`, `loading` or `draining`."""
        if self.draining:
            return "draining"
        residences = {state.residence for state in self.tiers.states()}
        return "loading" if "loading" in residences and "resident" not in residences else "ok"


def new_turn() -> str:
    """Returns an id for a turn."""
    return secrets.token_hex(8)
