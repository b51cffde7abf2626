"""A Whisper in CTranslate2's format, seen as the Hugging Face checkpoint that it was made from.

CTranslate2 stacks q, k and v of self-attention into `self_attention/linear_0` and k and v of
cross-attention into `attention/linear_1`. It stores zeros for the bias that Whisper's k has not; a
bias there would change nothing, because it adds the same to every key's score.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vozmetro.errors import ModelError
from vozmetro.models.convert.raw import read_bytes, widen
from vozmetro.models.convert.source import Weights
from vozmetro.models.ctranslate2 import Variable, read_variables

HEAD_WIDTH = 64
"""Of every Whisper; old files do not store the number of heads."""
_GELU = 3
"""`decoder/activation` of Whisper (0 is ReLU)."""
_FLOATS = {"FP32": "F32", "FP16": "F16", "BF16": "BF16"}
_INTEGERS = {"INT8": "<i1", "INT16": "<i2"}
_NORM = (("weight", "gamma"), ("bias", "beta"))
_LINEAR = (("weight", "weight"), ("bias", "bias"))


@dataclass(frozen=True)
class _Part:
    """Rows of a variable, and what its integers are divided by."""

    variable: Variable
    start: int
    stop: int
    scale: Variable | None

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.stop - self.start, *self.variable.shape[1:])


class CTranslate2Source:
    """Implements `WeightSource` and `RowSource` on a folder with a Whisper's `model.bin`.

    Attributes:
        config: The architecture, as `config.json` of Hugging Face names it.
        files: What is read.

    Raises:
        ModelError: `model_unreadable`, `ctranslate2_version`, `ctranslate2_damaged` or
            `ctranslate2_not_whisper`.
    """

    weights: Literal["real", "dummy"] = "real"

    def __init__(self, folder: Path) -> None:
        self._path = folder / "model.bin"
        self.files: tuple[Path, ...] = (self._path,)
        self._variables = {variable.name: variable for variable in read_variables(self._path)}
        self._parts: dict[str, _Part] = {}
        if not {"encoder/conv1/weight", "decoder/embeddings/weight"} <= self._variables.keys():
            raise ModelError("ctranslate2_not_whisper", path=self._path)
        self._map()
        self.config = self._config()

    def names(self) -> Sequence[str]:
        """See `WeightSource.names`."""
        return list(self._parts)

    def shape(self, name: str) -> tuple[int, ...]:
        """See `WeightSource.shape`."""
        return self._part(name).shape

    def read(self, name: str) -> Weights:
        """See `WeightSource.read`: F16 widened, integers divided by their scale.

        Raises:
            ModelError: `weight_missing`, `model_unreadable` or `ctranslate2_damaged`.
        """
        return self.read_rows(name, 0, self.shape(name)[0])

    def read_rows(self, name: str, start: int, stop: int) -> Weights:
        """See `RowSource.read_rows`. Raises what `read` does."""
        part = self._part(name)
        start, stop, _ = slice(start, stop).indices(part.stop - part.start)
        start, stop = part.start + start, part.start + max(start, stop)
        values = self._numbers(part.variable, start, stop)
        if part.scale is not None:
            # One scale a row in INT8, one for all in INT16.
            by_row = part.scale.shape == part.variable.shape[:1]
            scale = self._numbers(part.scale, *((start, stop) if by_row else ()))
            with np.errstate(all="ignore"):
                values /= scale.reshape(-1, *[1] * (values.ndim - 1))
            if not np.isfinite(values).all():
                raise self._damaged(f"{part.scale.name}: 0 or NaN")
        return values

    def _part(self, name: str) -> _Part:
        found = self._parts.get(name)
        if found is None:
            raise ModelError("weight_missing", path=self._path, name=name)
        return found

    def _numbers(
        self, variable: Variable, start: int = 0, stop: int | None = None
    ) -> NDArray[np.float32]:
        """Reads rows of a variable as float32, its integers as they are; a scalar is one row."""
        rows = (variable.shape or (1,))[0]
        stop = rows if stop is None else stop
        row = variable.bytes // max(1, rows)
        try:
            raw = read_bytes(self._path, variable.offset + start * row, (stop - start) * row)
        except EOFError as error:
            raise self._damaged(f"{variable.name}: EOF") from error
        except OSError as error:
            detail = error.strerror or error
            raise ModelError("model_unreadable", path=self._path, detail=detail) from error
        if variable.label in _INTEGERS:
            values = raw.view(_INTEGERS[variable.label]).astype(np.float32)
        elif variable.label in _FLOATS:
            values = widen(raw, _FLOATS[variable.label])
        else:
            raise self._damaged(f"{variable.name}: {variable.label}")
        return np.asarray(values.reshape(stop - start, *variable.shape[1:]))

    def _damaged(self, detail: str) -> ModelError:
        return ModelError("ctranslate2_damaged", path=self._path, detail=detail)

    # The map of names ----------------------------------------------------------------------------

    def _map(self) -> None:
        for side in ("encoder", "decoder"):
            theirs, ours = side, f"model.{side}"
            self._whole(f"{theirs}/position_encodings", f"{ours}.embed_positions", _POSITIONS)
            self._whole(f"{theirs}/layer_norm", f"{ours}.layer_norm", _NORM)
            for index in range(self._layers(side)):
                self._map_layer(f"{theirs}/layer_{index}", f"{ours}.layers.{index}")
        for name in ("conv1", "conv2"):
            self._whole(f"encoder/{name}", f"model.encoder.{name}", _LINEAR)
        self._whole("decoder/embeddings", "model.decoder.embed_tokens", _LINEAR[:1])

    def _map_layer(self, theirs: str, ours: str) -> None:
        self._stacked(f"{theirs}/self_attention/linear_0", f"{ours}.self_attn", "qkv")
        self._whole(f"{theirs}/self_attention/linear_1", f"{ours}.self_attn.out_proj", _LINEAR)
        self._whole(f"{theirs}/self_attention/layer_norm", f"{ours}.self_attn_layer_norm", _NORM)
        if f"{theirs}/attention/linear_0/weight" in self._variables:
            self._stacked(f"{theirs}/attention/linear_0", f"{ours}.encoder_attn", "q")
            self._stacked(f"{theirs}/attention/linear_1", f"{ours}.encoder_attn", "kv")
            self._whole(f"{theirs}/attention/linear_2", f"{ours}.encoder_attn.out_proj", _LINEAR)
            self._whole(f"{theirs}/attention/layer_norm", f"{ours}.encoder_attn_layer_norm", _NORM)
        self._whole(f"{theirs}/ffn/linear_0", f"{ours}.fc1", _LINEAR)
        self._whole(f"{theirs}/ffn/linear_1", f"{ours}.fc2", _LINEAR)
        self._whole(f"{theirs}/ffn/layer_norm", f"{ours}.final_layer_norm", _NORM)

    def _whole(self, theirs: str, ours: str, suffixes: Sequence[tuple[str, str]]) -> None:
        for suffix, stored in suffixes:
            self._add(f"{ours}.{suffix}", f"{theirs}/{stored}", 0, 1)

    def _stacked(self, theirs: str, ours: str, letters: str) -> None:
        for index, letter in enumerate(letters):
            name = f"{ours}.{letter}_proj"
            self._add(f"{name}.weight", f"{theirs}/weight", index, len(letters))
            if letter != "k":
                self._add(f"{name}.bias", f"{theirs}/bias", index, len(letters))

    def _add(self, ours: str, theirs: str, index: int, count: int) -> None:
        """Maps the part `index` of `count` equal parts of a variable, where there is one."""
        variable = self._variables.get(theirs)
        if variable is None:
            return
        if not variable.shape or variable.shape[0] % count:
            raise self._damaged(f"{theirs}: {variable.shape}")
        scale = self._variables.get(f"{theirs}_scale") if variable.label in _INTEGERS else None
        if variable.label in _INTEGERS and (
            scale is None or scale.shape not in {(), (1,), variable.shape[:1]}
        ):
            raise self._damaged(f"{theirs}_scale")
        rows = variable.shape[0] // count
        self._parts[ours] = _Part(variable, index * rows, (index + 1) * rows, scale)

    # The architecture ----------------------------------------------------------------------------

    def _layers(self, side: str) -> int:
        return sum(1 for _ in self._counted(side))

    def _counted(self, side: str) -> Iterator[int]:
        index = 0
        while f"{side}/layer_{index}/ffn/linear_0/weight" in self._variables:
            yield index
            index += 1

    def _scalar(self, name: str, default: int) -> int:
        """Returns a setting stored as a scalar, or what old files mean by leaving it out."""
        variable = self._variables.get(name)
        if variable is None or math.prod(variable.shape) != 1 or variable.label not in _INTEGERS:
            return default
        return int(self._numbers(variable).reshape(-1)[0])

    def _config(self) -> dict[str, Any]:
        """The architecture under Hugging Face's names, from shapes and scalars."""
        if self._scalar("decoder/activation", _GELU) != _GELU:
            raise ModelError("ctranslate2_not_whisper", path=self._path)
        sizes: dict[str, tuple[int, ...]] = {}
        for name, rank in _SIZED.items():
            sizes[name] = self.shape(name)
            if len(sizes[name]) != rank:
                raise self._damaged(f"{name}: {sizes[name]}")
        width, bands, _ = sizes["model.encoder.conv1.weight"]
        vocabulary = sizes["model.decoder.embed_tokens.weight"][0]
        heads = max(1, width // HEAD_WIDTH)
        return {
            "model_type": "whisper",
            "d_model": width,
            "num_mel_bins": bands,
            "vocab_size": vocabulary,
            "encoder_layers": self._layers("encoder"),
            "decoder_layers": self._layers("decoder"),
            "encoder_attention_heads": self._scalar("encoder/num_heads", heads),
            "decoder_attention_heads": self._scalar("decoder/num_heads", heads),
            "encoder_ffn_dim": sizes["model.encoder.layers.0.fc1.weight"][0],
            "decoder_ffn_dim": sizes["model.decoder.layers.0.fc1.weight"][0],
            "max_source_positions": sizes["model.encoder.embed_positions.weight"][0],
            "max_target_positions": sizes["model.decoder.embed_positions.weight"][0],
            "activation_function": "gelu",
            "scale_embedding": False,
        }


_POSITIONS = (("weight", "encodings"),)
_SIZED = {
    "model.encoder.conv1.weight": 3,
    "model.decoder.embed_tokens.weight": 2,
    "model.encoder.layers.0.fc1.weight": 2,
    "model.decoder.layers.0.fc1.weight": 2,
    "model.encoder.embed_positions.weight": 2,
    "model.decoder.embed_positions.weight": 2,
}
