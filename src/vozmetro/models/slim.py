"""An ONNX file's structure without its weights: protobuf walked in place, payloads left out.

`onnx.load` reads every inline weight into RAM, up to 2 GB and twice over, to answer questions about
names and shapes. Here the file is mapped, the few messages that lead to tensors are rewritten
without their data, and only the rest (kilobytes) is parsed.
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from vozmetro import packages
from vozmetro.errors import ModelError

if TYPE_CHECKING:
    from onnx import ModelProto

# Field numbers of onnx.proto. A message's children are the fields that can hold tensors.
_CHILDREN: Mapping[str, Mapping[int, str]] = {
    "Model": {7: "Graph", 25: "Function"},
    "Graph": {1: "Node", 5: "Tensor", 15: "Sparse"},
    "Function": {7: "Node", 11: "Attribute"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "Sparse", 23: "Sparse"},
    "Sparse": {1: "Tensor", 2: "Tensor"},
    "Tensor": {},
}
_PAYLOAD = frozenset({4, 5, 6, 7, 9, 10, 11})
"""Fields of TensorProto that hold its values."""
_MODEL_FIELDS = frozenset({1, 2, 3, 4, 5, 6, 7, 8, 14, 20, 25, 26})
KEEP = 1024
"""Payloads up to this many bytes stay: shapes and scalars are worth reading."""
MAX_DEPTH = 100
"""Nesting of messages beyond which a file is not a model but an attack on the reader."""
PROTOBUF_LIMIT = 2**31 - 1
"""Largest file, in bytes, that protobuf and so ONNX Runtime parse."""


class _MalformedError(Exception):
    """Not protobuf as ONNX writes it."""


class _TruncatedError(Exception):
    """A field of a model announces more bytes than there are."""


def read(path: Path) -> ModelProto:
    """Returns the model with payloads above `KEEP` bytes left out.

    Raises:
        ModelError: `file_missing`, `model_unreadable`, `onnx_empty`, `onnx_too_large`,
            `onnx_truncated` or `onnx_invalid`.
    """
    if not packages.is_file(path):
        raise ModelError("file_missing", path=path)
    size = path.stat().st_size
    if size == 0:
        raise ModelError("onnx_empty", path=path)
    if size > PROTOBUF_LIMIT:
        raise ModelError("onnx_too_large", path=path)
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            structure = bytes(_slim(data, 0, size, "Model", 0))
    except _TruncatedError as error:
        raise ModelError("onnx_truncated", path=path) from error
    except _MalformedError as error:
        raise ModelError("onnx_invalid", path=path) from error
    except OSError as error:
        detail = error.strerror or error
        raise ModelError("model_unreadable", path=path, detail=detail) from error
    return _parse(structure, path)


def _parse(structure: bytes, path: Path) -> ModelProto:
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from onnx import ModelProto

    model = ModelProto()
    try:
        model.ParseFromString(structure)
    except DecodeError as error:
        raise ModelError("onnx_invalid", path=path) from error
    if not model.HasField("graph"):
        raise ModelError("onnx_invalid", path=path)
    return model


def _varint(data: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    """Returns a base-128 number and the offset behind it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            raise _TruncatedError
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise _MalformedError


def _encoded(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _slim(data: mmap.mmap, at: int, end: int, kind: str, depth: int) -> bytearray:
    """Returns the message of this kind between two offsets without its tensors' payloads."""
    if depth > MAX_DEPTH:
        raise _MalformedError
    children = _CHILDREN[kind]
    out = bytearray()
    while at < end:
        start = at
        tag, at = _varint(data, at, end)
        number, wire = tag >> 3, tag & 7
        if kind == "Model" and number not in _MODEL_FIELDS:
            raise _MalformedError
        at, body = _skip(data, at, end, wire)
        large = wire == 2 and at - body > KEEP
        if large and kind == "Tensor" and number in _PAYLOAD:
            continue
        if large and number in children:
            inner = _slim(data, body, at, children[number], depth + 1)
            out += _encoded(tag) + _encoded(len(inner)) + inner
        else:
            out += data[start:at]
    return out


def _skip(data: mmap.mmap, at: int, end: int, wire: int) -> tuple[int, int]:
    """Returns the offset behind a field's value, and where its body begins."""
    body = at
    if wire == 0:
        _, at = _varint(data, at, end)
    elif wire == 1:
        at += 8
    elif wire == 5:
        at += 4
    elif wire == 2:
        size, body = _varint(data, at, end)
        at = body + size
    else:
        raise _MalformedError
    if at > end:
        raise _TruncatedError
    return at, body
