"""The values of stored tensors, read in parts from where they lie, never whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from vozmetro import packages
from vozmetro.errors import ModelError
from vozmetro.models import slim, weights

if TYPE_CHECKING:
    from onnx import TensorProto

Floats = NDArray[np.float32]


class Payloads:
    """Reads tensors of one model; a context manager that closes its files.

    Files are read, not mapped: pages of a map that were touched count as memory of the process.
    Every place was checked by `checks.check_onnx` before.

    Args:
        path: The `.onnx`; its model was read with `slim.read(located=True)`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files: dict[Path, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for file in self._files.values():
            os.close(file)

    def place(self, tensor: TensorProto) -> tuple[Path, int] | None:
        """Returns the file and the offset of the values; None where the message holds them.

        Raises:
            ModelError: `onnx_invalid` where the values are fewer than the dimensions say.
        """
        entry = {item.key: item.value for item in tensor.external_data}
        if slim.HERE in entry:
            offset, length = map(int, entry[slim.HERE].split(":"))
            if length < weights.payload_bytes(tensor):
                raise ModelError("onnx_invalid", path=self._path)
            return self._path, offset
        if tensor.data_location == tensor.EXTERNAL:
            return self._path.parent / entry["location"], int(entry.get("offset", 0))
        return None

    def size(self, tensor: TensorProto) -> int:
        """Returns the bytes of the values of a tensor whose message does not hold them."""
        entry = {item.key: item.value for item in tensor.external_data}
        if slim.HERE in entry:
            return int(entry[slim.HERE].split(":")[1])
        return int(entry.get("length", 0)) or weights.payload_bytes(tensor)

    def array(self, tensor: TensorProto) -> NDArray[Any]:
        """Returns a small tensor whole."""
        from onnx import helper, numpy_helper

        found = self.place(tensor)
        if found is None:
            return np.asarray(numpy_helper.to_array(tensor))
        dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
        data = bytearray(weights.payload_bytes(tensor))
        self._fill(memoryview(data), found)
        return np.frombuffer(data, dtype).reshape(tuple(tensor.dims))

    def pieces(self, tensor: TensorProto) -> Iterator[bytes]:
        """Yields the bytes of a tensor whose message does not hold them, in order."""
        found = self.place(tensor)
        if found is None:
            raise ValueError(tensor.name)
        left, (file, offset) = self.size(tensor), found
        while left:
            data = bytearray(min(left, packages.CHUNK))
            self._fill(memoryview(data), (file, offset))
            yield bytes(data)
            left -= len(data)
            offset += len(data)

    def rows(self, tensor: TensorProto, start: int, stop: int) -> Floats:
        """Returns rows of a float32 matrix."""
        columns = int(tensor.dims[1])
        found = self.place(tensor)
        if found is None:
            return np.asarray(self.array(tensor)[start:stop], np.float32)
        file, offset = found
        part = np.empty((stop - start, columns), np.float32)
        self._fill(memoryview(part.data).cast("B"), (file, offset + 4 * start * columns))
        return part

    def columns(self, tensor: TensorProto, start: int, stop: int) -> Floats:
        """Returns columns of a float32 matrix, [rows, stop - start]."""
        rows, columns = tensor.dims
        found = self.place(tensor)
        if found is None:
            return np.ascontiguousarray(self.array(tensor)[:, start:stop], np.float32)
        if (start, stop) == (0, columns):
            return self.rows(tensor, 0, rows)
        file, offset = found
        part = np.empty((rows, stop - start), np.float32)
        for row in range(rows):
            place = (file, offset + 4 * (row * columns + start))
            self._fill(memoryview(part[row].data).cast("B"), place)
        return part

    def _fill(self, buffer: memoryview, place: tuple[Path, int]) -> None:
        """Reads into the whole buffer from a place."""
        path, offset = place
        try:
            if path not in self._files:
                self._files[path] = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
            file, done = self._files[path], 0
            while done < len(buffer):
                read = _read_at(file, buffer[done:], offset + done)
                if read == 0:
                    raise ModelError("onnx_truncated", path=path)
                done += read
        except OSError as error:
            detail = error.strerror or error
            raise ModelError("model_unreadable", path=path, detail=detail) from error


def _read_at(file: int, buffer: memoryview, offset: int) -> int:
    if hasattr(os, "preadv"):
        return os.preadv(file, [buffer], offset)
    os.lseek(file, offset, os.SEEK_SET)
    data = os.read(file, len(buffer))
    buffer[: len(data)] = data
    return len(data)
