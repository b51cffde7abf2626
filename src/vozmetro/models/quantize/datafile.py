"""The file of weights beside a new `.onnx`: written in parts, put in place at the end."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from vozmetro import units
from vozmetro.errors import OutputError

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto

_ALIGN, _PAGE = 64, 4096


class DataFile:
    """Weights of the `.onnx` to be written at `path`; a context manager.

    Nothing is under the final names before `publish`, and nothing is left behind without it.

    Raises:
        OutputError: `unwritable` or `disk_full`, here and in every method.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data_path = path.with_name(f"{path.name}.data")
        self._offset = 0
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.data.")
        self._temporary = Path(name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        self._temporary.unlink(missing_ok=True)

    def reserve(self, tensor: TensorProto, size: int) -> int:
        """Makes `tensor` refer to the next `size` bytes and returns their offset."""
        # ONNX Runtime maps pages of the file; small tensors need only be aligned for SIMD loads.
        self._offset += -self._offset % (_PAGE if size >= _PAGE else _ALIGN)
        offset = self._offset
        self._offset += size
        for field in ("raw_data", "float_data", "double_data", "external_data"):
            tensor.ClearField(field)
        tensor.data_location = tensor.EXTERNAL
        place = {"location": self.data_path.name, "offset": str(offset), "length": str(size)}
        for key, value in place.items():
            tensor.external_data.add(key=key, value=value)
        return offset

    def write(self, offset: int, data: bytes | NDArray[np.generic]) -> int:
        """Writes bytes or a contiguous array at an offset and returns how many bytes."""
        view = memoryview(data) if isinstance(data, bytes) else _bytes_of(data)
        with writing(self.data_path):
            done = 0
            while done < len(view):
                done += _write_at(self._file, view[done:], offset + done)
        return len(view)

    def append(
        self, tensor: TensorProto, size: int, pieces: Iterable[bytes | NDArray[np.generic]]
    ) -> None:
        """Stores `size` bytes that come in pieces as the values of `tensor`."""
        offset = self.reserve(tensor, size)
        for piece in pieces:
            offset += self.write(offset, piece)

    def publish(self, model: ModelProto) -> None:
        """Writes the model and puts the files in place; there may be no weights to put."""
        with writing(self.path):
            # A tensor may end in bytes that were reserved and never written.
            os.truncate(self._file, self._offset)
            os.fsync(self._file)
            os.close(self._file)
            self._file = -1
            handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")
            temporary = Path(name)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(model.SerializeToString())
                    file.flush()
                    os.fsync(file.fileno())
                # mkstemp is private to the user; models are as readable as any file they write.
                for private in (temporary, self._temporary):
                    private.chmod(0o644)
                if self._offset:
                    self._temporary.replace(self.data_path)
                else:
                    self.data_path.unlink(missing_ok=True)
                temporary.replace(self.path)
            finally:
                temporary.unlink(missing_ok=True)


def check_space(path: Path, needed: int) -> None:
    """Refuses to begin what cannot end for lack of disk space.

    Args:
        path: What will be written.
        needed: Its bytes.

    Raises:
        OutputError: `quantize_disk`.
    """
    folder = path.parent
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OutputError(
            "quantize_disk", path=path, needed=units.size(needed), free=units.size(free)
        )


def _bytes_of(array: NDArray[np.generic]) -> memoryview:
    return memoryview(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def _write_at(file: int, data: memoryview, offset: int) -> int:
    if hasattr(os, "pwrite"):
        return os.pwrite(file, data, offset)
    os.lseek(file, offset, os.SEEK_SET)
    return os.write(file, data)


@contextmanager
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
