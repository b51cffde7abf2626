"""Errors of other people's code, which share no base, as vozmetro's own."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from vozmetro.errors import MeasurementError, OutputError, VozmetroError


@contextlib.contextmanager
def as_one_error(code: str = "model_failed") -> Iterator[None]:
    """Turns what a library raises while a model is loaded or run into one error with its line.

    Args:
        code: Of the error; its sentence takes `detail`.

    Raises:
        MeasurementError: Instead of everything that vozmetro did not raise itself.
    """
    try:
        yield
    except VozmetroError:
        raise
    except Exception as error:  # onnxruntime's and PyTorch's errors share no narrower base
        line = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise MeasurementError(code, detail=line) from error


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns errors of the disk into one that names what was to be written.

    Raises:
        OutputError: `disk_full` or `unwritable`.
    """
    try:
        yield
    except OSError as error:
        code = "disk_full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "unwritable"
        raise OutputError(code, path=path, detail=error.strerror or error) from error
