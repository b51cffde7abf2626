"""An ONNX file's structure without its weights: protobuf walked in place, payloads left out.

`onnx.load` reads every inline weight into RAM, up to 2 GB and twice over, to answer questions about
names and shapes. Here the file is mapped, the few messages that lead to tensors are rewritten
without their data, and only the rest (kilobytes) is parsed.
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

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
HERE = "vozmetro.here"
"""Key in a tensor's `external_data` of a payload left out by `read(located=True)`: its offset and
length in the `.onnx` itself, in bytes, as `OFFSET:LENGTH`."""
_EXTERNAL_DATA = 13
_AS_STORED = frozenset({4, 9, 10})
"""Payloads whose bytes are the values as they lie in memory: float_data, raw_data, double_data."""
MAX_DEPTH = 100
"""Nesting of messages beyond which a file is not a model but an attack on the reader."""
MOST_FIELDS, MOST_STRUCTURE = 3_000_000, 256 << 20
"""Fields walked and bytes kept of one file: beyond, parsing takes minutes and gigabytes."""
MOST_MESSAGES = 10_000_000
"""Short messages in those bytes: one of two bytes becomes an object of up to 200 when parsed. A
mixture of experts with 100 000 operators has about 5 million."""
_SHORT = 16
PROTOBUF_LIMIT = 2**31 - 1
"""Largest file, in bytes, that protobuf and so ONNX Runtime parse."""


class _MalformedError(Exception):
    """Not protobuf as ONNX writes it."""


class _AbsurdError(Exception):
    """More structure than any model has."""


class _TruncatedError(Exception):
    """A field of a model announces more bytes than there are."""


def read(path: Path, *, located: bool = False) -> ModelProto:
    """Returns the model with payloads above `KEEP` bytes left out.

    Args:
        path: The `.onnx`.
        located: Whether to say in each tensor where its payload lies (`HERE`), for who reads the
            values one by one. Payloads that are not stored as in memory then stay.

    Raises:
        ModelError: `file_missing`, `model_unreadable`, `onnx_empty`, `onnx_too_large`,
            `onnx_truncated`, `onnx_invalid` or `graph_absurd`.
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
            walk = _Walk(located)
            structure = bytes(_slim(data, (0, size), "Model", 0, walk))
        if not located and _messages(structure) > MOST_MESSAGES:
            raise _AbsurdError
    except _TruncatedError as error:
        raise ModelError("onnx_truncated", path=path) from error
    except _MalformedError as error:
        raise ModelError("onnx_invalid", path=path) from error
    except _AbsurdError as error:
        raise ModelError("graph_absurd", path=path, name="protobuf") from error
    except OSError as error:
        detail = error.strerror or error
        raise ModelError("model_unreadable", path=path, detail=detail) from error
    return _parse(structure, path)


def _messages(structure: bytes) -> int:
    """Returns how many messages and texts of up to `_SHORT` bytes these may hold, rather too many.

    The walk does not look into messages of up to `KEEP` bytes, nor into value infos of any size. A
    field with a length begins with a byte whose lower three bits are 2; the length follows, or the
    rest of the field's number.
    """
    data = np.frombuffer(structure, np.uint8)
    return int(np.count_nonzero((data[:-1] & 7 == 2) & (data[1:] & 0x7F <= _SHORT)))


def _parse(structure: bytes, path: Path) -> ModelProto:
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from onnx import ModelProto

    model = ModelProto()
    try:
        model.ParseFromString(structure)
    except DecodeError as error:
        raise ModelError("onnx_invalid", path=path) from error
    if not model.HasField("graph") or not _is_readable(model):
        raise ModelError("onnx_invalid", path=path)
    return model


def _is_readable(model: ModelProto) -> bool:
    """Returns whether every name is text; protobuf gives what is no UTF-8 as bytes."""
    waiting: list[Any] = [model]
    while waiting:
        message = waiting.pop()
        if hasattr(message, "op_type"):  # a node: of these there may be 100 000
            texts = [message.op_type, message.name, message.domain, message.overload]
            texts += [*message.input, *message.output, message.doc_string]
            waiting += message.metadata_props
            for attribute in message.attribute:
                texts += [attribute.name, attribute.doc_string, attribute.ref_attr_name]
                waiting += attribute.graphs
                waiting += attribute.tensors
                waiting += attribute.sparse_tensors
                for field in ("g", "t", "sparse_tensor"):
                    if attribute.HasField(field):
                        waiting.append(getattr(attribute, field))
        else:
            texts = []
            for field, value in message.ListFields():
                values = value if hasattr(value, "extend") else [value]
                if field.type == field.TYPE_STRING:
                    texts += values
                elif field.type == field.TYPE_MESSAGE:
                    waiting += values
        if any(isinstance(text, bytes) for text in texts):
            return False
    return True


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


def _reference(offset: int, length: int) -> bytes:
    """Returns the field of a TensorProto that says where its payload lies."""
    pair = bytearray()
    for number, text in ((1, HERE), (2, f"{offset}:{length}")):
        pair += _encoded(number << 3 | 2) + _encoded(len(text)) + text.encode()
    return _encoded(_EXTERNAL_DATA << 3 | 2) + _encoded(len(pair)) + pair


class _Walk:
    """What a walk may still take, and whether it says where payloads lie."""

    def __init__(self, located: bool) -> None:
        self.located = located
        self.payloads = _AS_STORED if located else _PAYLOAD
        self._fields = MOST_FIELDS
        self._bytes = MOST_STRUCTURE

    def take(self, kept: int) -> None:
        """Counts a field, and the bytes of it that stay."""
        self._fields -= 1
        self._bytes -= 0 if self.located else kept
        if self._fields < 0 or self._bytes < 0:
            raise _AbsurdError


def _slim(data: mmap.mmap, span: tuple[int, int], kind: str, depth: int, walk: _Walk) -> bytearray:
    """Returns the message of this kind between two offsets without its tensors' payloads."""
    if depth > MAX_DEPTH:
        raise _MalformedError
    children = _CHILDREN[kind]
    at, end = span
    out = bytearray()
    while at < end:
        start = at
        tag, at = _varint(data, at, end)
        number, wire = tag >> 3, tag & 7
        if kind == "Model" and number not in _MODEL_FIELDS:
            raise _MalformedError
        at, body = _skip(data, at, end, wire)
        large = wire == 2 and at - body > KEEP
        if large and kind == "Tensor" and number in walk.payloads:
            walk.take(0)
            out += _reference(body, at - body) if walk.located else b""
            continue
        if large and number in children:
            walk.take(0)
            inner = _slim(data, (body, at), children[number], depth + 1, walk)
            out += _encoded(tag) + _encoded(len(inner)) + inner
        else:
            walk.take(at - start)
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
