"""Errors of other people's code, which share no base, as vozmetro's own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from vozmetro.errors import MeasurementError, VozmetroError


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
