"""One inference at a time, a bounded queue, and a clear `busy`.

Two inferences at once on the same cores take longer than one after the other, and both would be
late; so there is one place, in which what a user waits for goes before what is only ahead of time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition

from vozmetro.errors import BusyError


class Gate:
    """Lets one caller work at a time, in the order of arrival.

    Args:
        waiting: Callers that may wait for their turn; one more is told that it is busy.
    """

    def __init__(self, waiting: int = 8) -> None:
        self._most = waiting
        self._free = Condition()
        self._busy = False
        self._queue: list[object] = []

    @property
    def load(self) -> int:
        """Callers that work or wait."""
        with self._free:
            return len(self._queue) + self._busy

    @contextmanager
    def turn(self, timeout_s: float | None = None) -> Iterator[None]:
        """Works within; waits for those who came before.

        Args:
            timeout_s: Seconds to wait at most.

        Raises:
            BusyError: Too many wait already, or it took too long.
        """
        mine = object()
        with self._free:
            if len(self._queue) >= self._most:
                raise BusyError("server_busy")
            self._queue.append(mine)
            ready = self._free.wait_for(
                lambda: not self._busy and self._queue[0] is mine, timeout_s
            )
            self._queue.remove(mine)
            if not ready:
                self._free.notify_all()
                raise BusyError("server_busy")
            self._busy = True
        try:
            yield
        finally:
            with self._free:
                self._busy = False
                self._free.notify_all()

    @contextmanager
    def spare(self) -> Iterator[bool]:
        """Yields True, and keeps the place, only where nobody works or waits."""
        with self._free:
            got = not self._busy and not self._queue
            self._busy = self._busy or got
        try:
            yield got
        finally:
            if got:
                with self._free:
                    self._busy = False
                    self._free.notify_all()
