"""Tensors of a Hugging Face folder, read one at a time from its safetensors files.

Format (https://huggingface.co/docs/safetensors): u64 length of the header, little-endian; the
header, a JSON object of name -> dtype, shape and data_offsets, padded with spaces; then the data,
which the offsets cover from end to end without holes. Large models are split into shards, which
`model.safetensors.index.json` lists.

Plain reads instead of a memory map: mapped pages would count as this process's memory, and the
whole point is to convert models larger than that.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any, Literal, TypeGuard

from vozmetro import packages
from vozmetro.errors import ModelError
from vozmetro.models.convert.raw import FLOATS, read_bytes, widen
from vozmetro.models.convert.source import Weights

FILE, INDEX = "model.safetensors", "model.safetensors.index.json"
MAX_HEADER = 100_000_000
"""Bytes of header that the format's own reader accepts."""
MAX_RANK = 16
ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
ITEM_BYTES |= {"I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1}
ITEM_BYTES |= {"BOOL": 1, "F8_E5M2": 1, "F8_E4M3": 1, "C64": 8}
"""Bytes per element of the dtypes that files may hold."""
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")


@dataclass(frozen=True)
class Stored:
    """Where a tensor lies.

    Attributes:
        path: The file.
        dtype: As the header names it.
        shape: Sizes.
        offset: Of the first byte, from the start of the file.
    """

    path: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int


class SafetensorsSource:
    """Implements `WeightSource` and `RowSource` on a folder of safetensors.

    Args:
        folder: Holds `model.safetensors`, or `model.safetensors.index.json` and its shards.

    Raises:
        ModelError: `weights_pickle`, `weights_none`, `model_unreadable`, `safetensors_damaged` or
            `safetensors_shard`.
    """

    weights: Literal["real", "dummy"] = "real"

    def __init__(self, folder: Path) -> None:
        self.files: tuple[Path, ...]
        self._folder = folder
        # Where both lie there, the one file is what transformers reads.
        if packages.is_file(folder / FILE):
            self.files = (folder / FILE,)
            self._tensors = read_header(folder / FILE)
        elif packages.is_file(folder / INDEX):
            self._tensors, self.files = _indexed(folder)
        else:
            raise _absent(folder)

    def names(self) -> Sequence[str]:
        """See `WeightSource.names`."""
        return list(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        """See `WeightSource.shape`."""
        return self._found(name).shape

    def read(self, name: str) -> Weights:
        """See `WeightSource.read`. F16 and BF16 are widened, which is exact.

        Raises:
            ModelError: `weight_missing`, `weight_dtype`, `model_unreadable` or
                `safetensors_damaged`.
        """
        found = self._found(name)
        return _read(found, name, 0, math.prod(found.shape)).reshape(found.shape)

    def read_rows(self, name: str, start: int, stop: int) -> Weights:
        """See `RowSource.read_rows`. Raises what `read` does."""
        found = self._found(name)
        start, stop, _ = slice(start, stop).indices(found.shape[0])
        row = math.prod(found.shape[1:])
        rows = max(0, stop - start)
        return _read(found, name, start * row, rows * row).reshape(rows, *found.shape[1:])

    def _found(self, name: str) -> Stored:
        found = self._tensors.get(name)
        if found is None:
            raise ModelError("weight_missing", path=self._folder, name=name)
        return found


def read_header(path: Path) -> dict[str, Stored]:
    """Returns where every tensor of a file lies, after checking all that the header says.

    Raises:
        ModelError: `model_unreadable` or `safetensors_damaged`.
    """
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            start = file.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
            if not 2 <= length <= min(MAX_HEADER, size - 8):
                raise _damaged(path, f"header: {length} B, file: {size} B")
            raw = file.read(length)
    except OSError as error:
        raise _unreadable(path, error) from error
    tensors = _parse(path, raw)
    _check_cover(path, tensors, size - 8 - length)
    return {
        name: Stored(path, dtype, shape, 8 + length + begin)
        for name, (dtype, shape, begin, _) in tensors.items()
    }


_Entry = tuple[str, tuple[int, ...], int, int]


def _parse(path: Path, raw: bytes) -> dict[str, _Entry]:
    try:
        header = json.loads(raw.decode("utf-8"), object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"header: {str(error)[:80]}") from error
    if not isinstance(header, dict):
        raise _damaged(path, "header: no JSON object")
    header.pop("__metadata__", None)
    return {name: _entry(path, name, value) for name, value in header.items()}


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("repeated name")
    return found


def _entry(path: Path, name: str, value: Any) -> _Entry:
    label = name[:80]
    fields = value if isinstance(value, Mapping) else {}
    dtype, shape, span = (fields.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise _damaged(path, f"{label}: dtype {str(dtype)[:20]}")
    if not _naturals(shape) or len(shape) > MAX_RANK:
        raise _damaged(path, f"{label}: shape")
    if not _naturals(span) or len(span) != 2 or span[0] > span[1]:
        raise _damaged(path, f"{label}: data_offsets")
    if math.prod(shape) * ITEM_BYTES[dtype] != span[1] - span[0]:
        raise _damaged(path, f"{label}: shape {tuple(shape)}, {span[1] - span[0]} B")
    return dtype, tuple(shape), span[0], span[1]


def _naturals(values: object) -> TypeGuard[list[int]]:
    """Whether it is a list of whole numbers from 0 on (JSON's true is none)."""
    return isinstance(values, list) and all(type(one) is int and one >= 0 for one in values)


def _check_cover(path: Path, tensors: Mapping[str, _Entry], size: int) -> None:
    """Refuses tensors that overlap, leave holes or pass the end: the format forbids each."""
    reached = 0
    for name, (_, _, begin, end) in sorted(tensors.items(), key=lambda one: one[1][2:]):
        if begin != reached:
            raise _damaged(path, f"{name[:80]}: offset {begin}, expected {reached}")
        reached = end
    if reached != size:
        raise _damaged(path, f"data: {size} B, expected {reached}")


def _indexed(folder: Path) -> tuple[dict[str, Stored], tuple[Path, ...]]:
    """Reads the index and the header of every shard that it names."""
    index = folder / INDEX
    try:
        if index.stat().st_size > MAX_HEADER:
            raise _damaged(index, f"{index.stat().st_size} B")
        found = json.loads(index.read_bytes(), object_pairs_hook=_without_repeats)
    except OSError as error:
        raise _unreadable(index, error) from error
    except (ValueError, RecursionError) as error:
        raise _damaged(index, str(error)[:80]) from error
    listed = found.get("weight_map") if isinstance(found, dict) else None
    if not isinstance(listed, dict) or not listed:
        raise _damaged(index, "weight_map")
    shards: dict[str, dict[str, Stored]] = {}
    for shard in listed.values():
        if not isinstance(shard, str) or not _is_plain(shard):
            raise ModelError("safetensors_shard", path=index, shard=str(shard)[:80])
        if shard not in shards:
            if not packages.is_file(folder / shard):
                raise ModelError("safetensors_shard", path=index, shard=shard)
            shards[shard] = read_header(folder / shard)
    tensors = {}
    for name, shard in listed.items():
        if name not in shards[shard]:
            raise _damaged(index, f"{name[:80]}: {shard}")
        tensors[name] = shards[shard][name]
    return tensors, tuple(folder / shard for shard in sorted(shards))


def _is_plain(name: str) -> bool:
    """Whether a name can only mean a safetensors file of the folder itself."""
    windows = PureWindowsPath(name)
    return windows.name == name == Path(name).name and name.endswith(".safetensors")


def _read(stored: Stored, name: str, first: int, count: int) -> Weights:
    """Reads `count` elements from the one with number `first` on, as float32."""
    if stored.dtype not in FLOATS:
        raise ModelError("weight_dtype", path=stored.path, name=name, dtype=stored.dtype)
    item = ITEM_BYTES[stored.dtype]
    try:
        return widen(
            read_bytes(stored.path, stored.offset + first * item, count * item), stored.dtype
        )
    except EOFError as error:
        raise _damaged(stored.path, f"{name}: EOF") from error
    except OSError as error:
        raise _unreadable(stored.path, error) from error


def _absent(folder: Path) -> ModelError:
    """The error for a folder without safetensors: which fix depends on what is there instead."""
    if not packages.is_dir(folder):
        return ModelError("file_missing", path=folder)
    for pattern in _PICKLES:
        pickled = sorted(folder.glob(pattern))
        if pickled:
            return ModelError("weights_pickle", path=folder, found=pickled[0].name)
    return ModelError("weights_none", path=folder)


def _damaged(path: Path, detail: str) -> ModelError:
    return ModelError("safetensors_damaged", path=path, detail=detail)


def _unreadable(path: Path, error: OSError) -> ModelError:
    return ModelError("model_unreadable", path=path, detail=error.strerror or error)
