"""Stored numbers, read with plain file reads and widened to float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FLOATS = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}
"""Floating-point dtypes that can be widened exactly -> numpy's dtype that carries them."""


def read_bytes(path: Path, offset: int, size: int) -> NDArray[np.uint8]:
    """Returns `size` bytes from `offset` on, owned by the caller.

    Raises:
        EOFError: The file ends before.
        OSError: It cannot be read.
    """
    raw = np.empty(size, np.uint8)
    view = raw.data
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        filled = 0
        while filled < size:  # a raw read may give less than asked for
            got = file.readinto(view[filled:])
            if not got:
                raise EOFError(path)
            filled += got
    return raw


def widen(raw: NDArray[np.uint8], dtype: str) -> NDArray[np.float32]:
    """Returns stored floats (`FLOATS`) as float32, which is exact."""
    stored: NDArray[Any] = raw.view(FLOATS[dtype])
    if dtype != "BF16":
        return np.asarray(stored.astype(np.float32, copy=False))
    # bfloat16 is the upper half of a float32.
    wide = stored.astype(np.uint32)
    wide <<= np.uint32(16)
    return wide.view(np.float32)
