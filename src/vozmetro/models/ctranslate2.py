"""CTranslate2's `model.bin`, read header by header; data is skipped, lengths are never trusted.

Layout of version 6, little-endian: u32 version, string name, u32 revision, u32 count; then per
variable a string name, u8 rank, u32 dims, u8 dtype, u32 bytes and the data; then u32 count of
aliases, each two strings. A string is a u16 length, which includes a final NUL.
"""

from __future__ import annotations

import math
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from vozmetro.errors import ModelError
from vozmetro.models.inspection import Inspection, ctranslate2_ram, majority

KNOWN_VERSION = 6
"""The layout that this reader knows, which converters have written since CTranslate2 3."""
DTYPES = {0: ("FP32", 4), 1: ("INT8", 1), 2: ("INT16", 2), 3: ("INT32", 4), 4: ("FP16", 2)}
DTYPES |= {5: ("BF16", 2)}
"""dtype id -> label and bytes per element."""
WHISPER_ENGLISH_VOCABULARY = 51864
"""Tokens of an English-only Whisper; the multilingual ones have one more, or two."""
MAX_RANK = 8


@dataclass(frozen=True)
class Variable:
    """One stored tensor: its name, dimensions, dtype label, bytes, and where these begin."""

    name: str
    shape: tuple[int, ...]
    label: str
    bytes: int
    offset: int


class _Reader:
    """Reads fields in order and refuses to pass the end of the file."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file = file
        self._path = path
        self._size = self._left = os.fstat(file.fileno()).st_size

    @property
    def offset(self) -> int:
        """Bytes read so far."""
        return self._size - self._left

    def damaged(self, why: str) -> ModelError:
        return ModelError("ctranslate2_damaged", path=self._path, detail=why)

    def take(self, size: int) -> bytes:
        if size > self._left:
            raise self.damaged("EOF")
        self._left -= size
        return self._file.read(size)

    def skip(self, size: int) -> None:
        if size > self._left:
            raise self.damaged("EOF")
        self._left -= size
        self._file.seek(size, os.SEEK_CUR)

    def number(self, code: str) -> int:
        value: int = struct.unpack(f"<{code}", self.take(struct.calcsize(f"<{code}")))[0]
        return value

    def string(self) -> str:
        raw = self.take(self.number("H"))
        if not raw.endswith(b"\0"):
            raise self.damaged("string")
        return raw[:-1].decode("utf-8", errors="replace")


def read_variables(path: Path) -> list[Variable]:
    """Returns the tensors stored in a `model.bin`, aliases left out.

    Raises:
        ModelError: `model_unreadable`, `ctranslate2_version` or `ctranslate2_damaged`.
    """
    try:
        with path.open("rb") as file:
            reader = _Reader(file, path)
            version = reader.number("I")
            if version != KNOWN_VERSION:
                raise ModelError("ctranslate2_version", path=path, version=version)
            reader.string()
            reader.number("I")
            # A false count ends at the end of the file, so nothing is reserved for it.
            variables = [_variable(reader) for _ in range(reader.number("I"))]
            for _ in range(reader.number("I")):
                reader.string(), reader.string()
            return variables
    except OSError as error:
        detail = error.strerror or error
        raise ModelError("model_unreadable", path=path, detail=detail) from error


def _variable(reader: _Reader) -> Variable:
    name = reader.string()
    rank = reader.number("B")
    if rank > MAX_RANK:
        raise reader.damaged(f"{name}: rank {rank}")
    shape = tuple(reader.number("I") for _ in range(rank))
    dtype = reader.number("B")
    size = reader.number("I")
    if dtype not in DTYPES:
        raise reader.damaged(f"{name}: dtype {dtype}")
    label, item = DTYPES[dtype]
    if math.prod(shape) * item != size:
        raise reader.damaged(f"{name}: {size} B")
    offset = reader.offset
    reader.skip(size)
    return Variable(name, shape, label, size, offset)


def inspect(folder: Path) -> Inspection:
    """Inspects the `model.bin` of a CTranslate2 folder.

    Scalars (settings such as the number of heads) and `weight_scale` / `weight_zero` tensors are
    not parameters. Whisper's k projections have no bias, but CTranslate2 stores q, k and v stacked
    with zeros there, so its count is a little above the paper's: 72,603,136 for base, of which
    9,216 are such zeros.

    Raises:
        ModelError: `model_unreadable`, `ctranslate2_version` or `ctranslate2_damaged`.
    """
    stored: dict[str, int] = {}
    weights: dict[str, int] = {}
    parameters = 0
    english_only: bool | None = None
    for variable in read_variables(folder / "model.bin"):
        stored[variable.label] = stored.get(variable.label, 0) + variable.bytes
        if not variable.shape or variable.name.endswith(("_scale", "_zero")):
            continue
        weights[variable.label] = weights.get(variable.label, 0) + variable.bytes
        parameters += math.prod(variable.shape)
        if variable.name == "decoder/embeddings/weight":
            english_only = variable.shape[0] == WHISPER_ENGLISH_VOCABULARY
    return Inspection(
        format="CTranslate2",
        precision=majority(weights),
        parameters=parameters,
        bytes_by_dtype=stored,
        weight_bytes=sum(stored.values()),
        expected_ram=ctranslate2_ram(stored),
        english_only=english_only,
    )
