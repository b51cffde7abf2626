"""The parent's side of a worker process: starts it, asks, and sleeps until it answers."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import threading
from types import TracebackType
from typing import Any, Self

from vozmetro.errors import MeasurementError, MissingExtraError, VozmetroError

_KILL = -9
_STDERR_TAIL = 400


class WorkerProcess:
    """A live worker. Use it in a `with` block: leaving it ends the process.

    Args:
        module: What the process runs.
    """

    def __init__(self, module: str = "vozmetro.measure.worker") -> None:
        # A file, not a pipe: nobody has to read it while the worker times.
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()
        self._process = subprocess.Popen(  # noqa: S603 - one of our own modules
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            encoding="utf-8",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """Process id of the worker."""
        return self._process.pid

    def ask(self, op: str, limit_s: float | None = None, **fields: Any) -> dict[str, Any]:
        """Sends one request and blocks until the reply.

        Args:
            op: Operation of the worker.
            limit_s: Seconds after which the worker is killed; None for no limit.
            **fields: The request.

        Raises:
            MeasurementError: `worker_died`, `worker_killed`, `worker_timeout`, or the error that
                the model raised.
            MissingExtraError: The engine is not installed.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise RuntimeError("the worker has no pipes")
        timed_out = threading.Event()

        def give_up() -> None:
            timed_out.set()
            self._process.kill()

        timer = threading.Timer(limit_s, give_up) if limit_s is not None else None
        if timer:
            timer.daemon = True
            timer.start()
        try:
            stdin.write(json.dumps({"op": op, **fields}) + "\n")
            stdin.flush()
            line = stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            if timer:
                timer.cancel()
        if timed_out.is_set():
            raise MeasurementError("worker_timeout", op=op, limit=f"{limit_s:g}")
        # A worker killed while it answers leaves a line without its end.
        if not line.endswith("\n"):
            raise self._death()
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise _raised(reply["error"])
        return reply

    def _death(self) -> MeasurementError:
        code = self._process.wait()
        if code == _KILL:
            return MeasurementError("worker_killed", pid=self.pid)
        self._stderr.seek(0)
        tail = self._stderr.read().decode(errors="replace").strip()[-_STDERR_TAIL:]
        last = tail.splitlines()[-1] if tail else "–"
        return MeasurementError("worker_died", status=code, detail=last)

    def close(self) -> None:
        """Ends the worker at once; what it was doing is lost."""
        if self._stderr.closed:
            return
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._stderr):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


def _raised(error: dict[str, Any]) -> VozmetroError:
    if error["type"] == "missing_extra":
        return MissingExtraError(error["fields"]["extra"], error["fields"]["package"])
    return MeasurementError(error["code"], **error["fields"])
