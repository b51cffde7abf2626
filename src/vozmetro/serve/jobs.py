"""Work that may not stop the event loop: in a thread, its pieces taken as they are made."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor
from contextlib import ExitStack, contextmanager
from typing import Any, Generic, TypeVar

from vozmetro.errors import BusyError, InputError
from vozmetro.pipeline.gate import Gate

T = TypeVar("T")
_AGAIN_S = 0.02
"""Between attempts to go on with what has begun, where the gate's queue is full."""


class GoneError(Exception):
    """Nobody waits for the result any more."""


class Job(Generic[T]):
    """A thread's work, whose pieces cross to the event loop through a queue of bounded length.

    Made and read in the event loop; `put` and `check` are for the thread.

    Args:
        work: What to do; gets the job, to hand out pieces with `put`.
        threads: Where it runs.
        ahead: Pieces that may wait to be taken; with more, the thread waits.
        patience_s: For a piece to be taken, in seconds; then the work ends.
        limit_s: For all of it, in seconds.
    """

    def __init__(
        self,
        work: Callable[[Job[T]], None],
        threads: Executor,
        *,
        ahead: int,
        patience_s: float,
        limit_s: float,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._limit = limit_s
        self._deadline = self._loop.time() + limit_s
        self._patience = patience_s
        self._pieces: asyncio.Queue[T] = asyncio.Queue(ahead)
        self._gone = threading.Event()
        self._work = work
        self._done: asyncio.Future[None] = self._loop.run_in_executor(threads, self._run)
        # Whoever has left does not ask how it went.
        self._done.add_done_callback(lambda done: done.cancelled() or done.exception())

    def _run(self) -> None:
        self.check()
        self._work(self)

    def prolong(self) -> None:
        """Gives it all of its time again: what came before was not its own doing."""
        self._deadline = self._loop.time() + self._limit

    @property
    def gone(self) -> bool:
        """Whether nobody waits any more."""
        return self._gone.is_set()

    def check(self) -> None:
        """Ends the work where nobody waits for it.

        Raises:
            GoneError: So it is.
        """
        if self._gone.is_set():
            raise GoneError

    def put(self, piece: T) -> None:
        """Hands out a piece, once there is room for it.

        Raises:
            GoneError: Nobody takes it.
        """
        self.check()
        try:
            taken = asyncio.run_coroutine_threadsafe(self._pieces.put(piece), self._loop)
        except RuntimeError as error:
            raise GoneError from error
        try:
            taken.result(self._patience)
        except (TimeoutError, CancelledError) as error:
            taken.cancel()
            raise GoneError from error
        self.check()

    @contextmanager
    def turn(self, gate: Gate, wait_s: float, *, begun: bool = False) -> Iterator[None]:
        """Waits for the models, and works within.

        Args:
            gate: Where inferences wait for each other.
            wait_s: To wait at most, in seconds.
            begun: The client has part of the answer already: a full queue is no reason to stop.

        Raises:
            BusyError: `server_busy`.
            GoneError: Nobody waits any more.
        """
        left = wait_s
        with ExitStack() as held:
            while True:
                self.check()
                try:
                    held.enter_context(gate.turn(wait_s))
                    break
                except BusyError:
                    left -= _AGAIN_S
                    if not begun or left <= 0:
                        raise
                self._gone.wait(_AGAIN_S)
            self.check()
            yield

    def cancel(self) -> None:
        """Nobody waits any more: the thread ends after what it does just now."""
        self._gone.set()
        # A thread that waits for room gets it, and then sees that it is not wanted.
        while not self._pieces.empty():
            self._pieces.get_nowait()

    async def settled(self) -> None:
        """Waits for the thread to end, however it does, once it was cancelled."""
        while not self._done.done():
            self.cancel()
            await asyncio.wait([self._done], timeout=_AGAIN_S)

    async def all(self) -> list[T]:
        """Returns all pieces; raises what the work raised.

        Raises:
            InputError: `serve_too_slow` where the whole takes too long.
        """
        pieces = []
        while (piece := await self._next()) is not None:
            pieces.append(piece[0])
        await self._done
        return pieces

    async def _next(self) -> tuple[T] | None:
        """Returns the next piece; None where there are no more."""
        if not self._pieces.empty():
            return (self._pieces.get_nowait(),)
        getting: asyncio.Task[T] = asyncio.ensure_future(self._pieces.get())
        waited: set[asyncio.Future[Any]] = {getting, self._done}
        left = max(0.0, self._deadline - self._loop.time())
        try:
            done, _ = await asyncio.wait(waited, timeout=left, return_when="FIRST_COMPLETED")
        except asyncio.CancelledError:
            getting.cancel()
            self.cancel()
            raise
        if getting in done:
            return (getting.result(),)
        getting.cancel()
        if not done:
            self.cancel()
            raise InputError("serve_too_slow")
        return None if self._pieces.empty() else (self._pieces.get_nowait(),)

    async def first(self) -> T | None:
        """Returns the next piece, None where there are no more; raises what the work raised.

        Raises:
            InputError: `serve_too_slow`.
        """
        piece = await self._next()
        if piece is None:
            await self._done
            return None
        return piece[0]
