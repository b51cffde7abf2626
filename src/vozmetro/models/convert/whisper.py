"""Whisper (Radford et al. 2022, "Robust Speech Recognition via Large-Scale Weak Supervision").

Two graphs. The encoder takes any even number of frames, not only the 3000 of a whole window, and
also makes the keys and values that the decoder's cross-attention needs: they depend on the audio
only, so that they are computed once and not for every token. The decoder takes one or more tokens
and the keys and values of those before.

Measured with ONNX Runtime 1.32 on 2 cores of a Zen 3, sizes of Whisper base: three products for q,
k and v take 4 to 10 % less than one stacked product that is split again, in the encoder; there
MultiHeadAttention takes up to 10 % less than MatMul, Softmax and MatMul, and writing
SkipLayerNormalization and BiasGelu out gains nothing over what the runtime fuses at load.

What stays in float32 or gets more bits than the scheme, measured on the real weights and speech
(error of the encoder's states, relative to float32's):

- The convolutions: a small part of the work, which integers made slower.
- The encoder's first layer, in `int8`. One scale for all inputs of a product does not suit what
  comes from the convolutions: 13 % error with it in INT8 and 7 % without (base), 5 % and 3 %
  (tiny.en); no other layer matters so much.
- The encoder in `int4` is INT8: 4 bits alone made 30 % of error there (24 % in blocks of 32), and
  its large products are slower at 4 bits than at 8.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vozmetro.errors import ModelError
from vozmetro.models.convert.builder import (
    MICROSOFT,
    GraphBuilder,
    Precision,
    Scheme,
    parts_of,
)
from vozmetro.models.convert.source import Rows, Weights, WeightSource
from vozmetro.models.convert.whisper_shape import WhisperShape

__all__ = ["DECODER", "ENCODER", "WhisperShape", "write_whisper"]

ENCODER, DECODER = "encoder.onnx", "decoder.onnx"
_HEAD = "proj_out.weight"
_EPSILON = 1e-5
_EXACT_LAYERS = 1
"""First layers of the encoder that are never quantized."""
_END = np.iinfo(np.int64).max


def write_whisper(
    source: WeightSource,
    config: Mapping[str, Any],
    folder: Path,
    scheme: Scheme,
    marks: Mapping[str, str] | None = None,
) -> tuple[Path, Path]:
    """Writes `encoder.onnx`, `decoder.onnx` and `config.json`; returns the graphs' paths.

    Encoder: `input_features` float32 [1, bands, frames] -> `encoder_hidden_states` float32
    [1, frames / 2, width] and, for each decoder layer, `cross.I.key|value` float32 [1, heads,
    frames / 2, head width]. Decoder: `input_ids` int64 [1, sequence], `past_key_values.I.key|value`
    float32 [1, heads, past, head width] and `cross.I.key|value` -> `logits` float32 [1, 1,
    vocabulary] after the last token, and `present.I.key|value`.

    Args:
        source: The weights. One that knows its architecture (CTranslate2) says it in `.config`.
        config: The source's `config.json`: of Hugging Face, with the architecture, or of
            CTranslate2, with the tokens to suppress.
        folder: Where to write.
        scheme: Precision of the linear layers; the module says which ones get more.
        marks: Metadata for both graphs.

    Raises:
        ModelError: `whisper_unsupported`, `config_invalid`, `weight_missing`, `weight_shape`, or
            the source is damaged.
    """
    config = {**config, **getattr(source, "config", {})}
    shape = WhisperShape.from_config(config)
    named = _Named(source)
    _check_head(source, named.rows("decoder.embed_tokens.weight", shape.vocabulary, shape.width))
    heard = Scheme("int8") if scheme.precision == "int4" else scheme
    with GraphBuilder(folder / ENCODER, heard, "whisper-encoder") as graph:
        _Encoder(graph, named, shape).write()
        graph.mark(_marks("whisper-encoder", heard) | dict(marks or {}))
        encoder = graph.save()
    with GraphBuilder(folder / DECODER, scheme, "whisper-decoder") as graph:
        _Decoder(graph, named, shape).write()
        graph.mark({"vozmetro.positions": str(shape.target_positions)})
        graph.mark(_marks("whisper-decoder", scheme) | dict(marks or {}))
        decoder = graph.save()
    temporary = folder / f".config.json.{os.getpid()}"
    temporary.write_text(json.dumps(config, indent=1), encoding="utf-8")
    temporary.replace(folder / "config.json")
    return encoder, decoder


def _check_head(source: WeightSource, table: Rows) -> None:
    """Refuses a head of its own: the graph's is the table of tokens. Some files hold it twice."""
    if _HEAD not in source.names():
        return
    if source.shape(_HEAD) == table.shape:
        both = zip(parts_of(Rows(source, _HEAD)), parts_of(table), strict=True)
        if all(np.array_equal(head, rows) for (_, head), (_, rows) in both):
            return
    raise ModelError("whisper_unsupported", what=f"{_HEAD}, decoder.embed_tokens.weight")


def _marks(task: str, scheme: Scheme) -> dict[str, str]:
    block = f"-b{scheme.block}" if scheme.precision == "int4" else ""
    return {
        "vozmetro.task": task,
        "vozmetro.architecture": "whisper",
        "vozmetro.precision": f"{scheme.precision}{block}",
    }


class _Named:
    """A source whose tensors must have the shapes that the config says.

    `WhisperForConditionalGeneration` names everything under `model.`, `WhisperModel` does not.
    """

    def __init__(self, source: WeightSource) -> None:
        self._source = source
        known = set(source.names())
        self._prefix = "" if "encoder.conv1.weight" in known else "model."

    def read(self, name: str, *shape: int) -> Weights:
        return self._source.read(self._checked(name, shape))

    def rows(self, name: str, *shape: int) -> Rows:
        return Rows(self._source, self._checked(name, shape))

    def _checked(self, name: str, shape: tuple[int, ...]) -> str:
        full = f"{self._prefix}{name}"
        found = self._source.shape(full)
        if found != shape:
            raise ModelError("weight_shape", name=full, found=found, expected=shape)
        return full


class _Part:
    """What encoder and decoder have in common: layers on `width` states, written into a graph."""

    def __init__(self, graph: GraphBuilder, source: _Named, shape: WhisperShape) -> None:
        self.graph = graph
        self.source = source
        self.shape = shape
        self.width = shape.width
        self.precision: Precision | None = None  # of the layer being written; None for the scheme's

    def linear(self, x: str, name: str, rows: int, columns: int, *, bias: bool = True) -> str:
        weights = self.source.read(f"{name}.weight", rows, columns)
        added = self.source.read(f"{name}.bias", rows) if bias else None
        return self.graph.linear(x, name, weights, added, precision=self.precision)

    def norm(self, x: str, name: str) -> str:
        scale = self.graph.weight(f"{name}.weight", self.source.read(f"{name}.weight", self.width))
        bias = self.graph.weight(f"{name}.bias", self.source.read(f"{name}.bias", self.width))
        return self.graph.op(
            "LayerNormalization", x, scale, bias, name=name, axis=-1, epsilon=_EPSILON
        )

    def projected(self, x: str, name: str, letters: str = "qkv") -> list[str]:
        """The projections of attention; Whisper's keys have no bias."""
        return [
            self.linear(x, f"{name}.{one}_proj", self.width, self.width, bias=one != "k")
            for one in letters
        ]

    def added(self, x: str, y: str, name: str) -> str:
        return self.graph.op("Add", x, y, name=f"{name}.residual")

    def feed_forward(self, x: str, layer: str, inner: int) -> str:
        """Adds fc2(gelu(fc1(norm(x))))."""
        hidden = self.norm(x, f"{layer}.final_layer_norm")
        hidden = self.linear(hidden, f"{layer}.fc1", inner, self.width)
        # approximate="none": the exact, erf form, as Whisper was trained.
        hidden = self.graph.op("Gelu", hidden, name=f"{layer}.gelu")
        hidden = self.linear(hidden, f"{layer}.fc2", self.width, inner)
        return self.added(x, hidden, f"{layer}.fc2")

    def integers(self, *values: int) -> str:
        return self.graph.constant(values, np.int64)


class _Encoder(_Part):
    """Log-mel frames to states, and to the keys and values of the decoder's cross-attention."""

    def write(self) -> None:
        graph, shape = self.graph, self.shape
        x = graph.input("input_features", np.float32, [1, shape.bands, "frames"])
        x = self._convolved(x, "encoder.conv1", shape.bands, stride=1)
        x = self._convolved(x, "encoder.conv2", self.width, stride=2)
        x = graph.op("Transpose", x, perm=[0, 2, 1])
        first = graph.optional("kept_from", np.array([0]), [1])
        last = graph.optional("kept_to", np.array([_END]), [1])
        x = graph.op("Slice", x, first, last, self.integers(1), name="encoder.kept")
        table = self.source.read(
            "encoder.embed_positions.weight", shape.source_positions, self.width
        )
        start = graph.optional("offset", np.array([0]), [1])
        positions = graph.op(
            "Slice",
            graph.weight("encoder.embed_positions.weight", table),
            start,
            graph.op("Add", start, graph.op("Shape", x, start=1, end=2)),
            self.integers(0),
        )
        x = graph.op("Add", x, positions, name="encoder.positions")
        for index in range(shape.encoder_layers):
            self.precision = "fp32" if index < _EXACT_LAYERS else None
            x = self._layer(x, index)
        self.precision = None
        x = self.norm(x, "encoder.layer_norm")
        graph.node("Identity", [x], outputs=["encoder_hidden_states"])
        graph.output("encoder_hidden_states", np.float32, [1, "positions", self.width])
        for index in range(shape.decoder_layers):
            self._cross(x, index)

    def _convolved(self, x: str, name: str, inputs: int, stride: int) -> str:
        weights = self.source.read(f"{name}.weight", self.width, inputs, 3)
        bias = self.source.read(f"{name}.bias", self.width)
        stored = [self.graph.weight(f"{name}.weight", weights)]
        stored += [self.graph.weight(f"{name}.bias", bias)]
        x = self.graph.op(
            "Conv", x, *stored, name=name, kernel_shape=[3], pads=[1, 1], strides=[stride]
        )
        return self.graph.op("Gelu", x, name=f"{name}.gelu")

    def _layer(self, x: str, index: int) -> str:
        layer = f"encoder.layers.{index}"
        hidden = self.norm(x, f"{layer}.self_attn_layer_norm")
        query, *own = self.projected(hidden, f"{layer}.self_attn")
        hidden = self.graph.node(
            "MultiHeadAttention",
            [query, *self._remembered(own, index)],
            name=f"{layer}.self_attn",
            domain=MICROSOFT,
            num_heads=self.shape.encoder_heads,
        )[0]
        out = f"{layer}.self_attn.out_proj"
        x = self.added(x, self.linear(hidden, out, self.width, self.width), out)
        return self.feed_forward(x, layer, self.shape.encoder_inner)

    def _remembered(self, own: list[str], index: int) -> list[str]:
        """The layer's keys and values of other positions before its own, which it gives out."""
        graph, found = self.graph, []
        for made, kind in zip(own, ("key", "value"), strict=True):
            shape: list[int | str] = [1, "remembered", self.width]
            none = np.zeros((1, 0, self.width), np.float32)
            past = graph.optional(f"remembered.{index}.{kind}", none, shape)
            given = f"own.{index}.{kind}"
            graph.node("Identity", [made], outputs=[given])
            graph.output(given, np.float32, [1, "positions", self.width])
            name = f"encoder.layers.{index}.{kind}"
            found.append(graph.op("Concat", past, made, name=name, axis=1))
        return found

    def _cross(self, x: str, index: int) -> None:
        """Keys and values of one decoder layer, a head at a time as its attention reads them."""
        graph, heads, head = self.graph, self.shape.decoder_heads, self.shape.decoder_head
        made = self.projected(x, f"decoder.layers.{index}.encoder_attn", "kv")
        for value, kind in zip(made, ("key", "value"), strict=True):
            name = f"cross.{index}.{kind}"
            split = graph.op("Reshape", value, self.integers(0, 0, heads, head))
            graph.node(
                "Transpose", [split], name=f"{name}.turned", outputs=[name], perm=[0, 2, 1, 3]
            )
            graph.output(name, np.float32, [1, heads, "positions", head])


class _Decoder(_Part):
    """Tokens to the logits of the next one."""

    def write(self) -> None:
        graph, shape = self.graph, self.shape
        heads, head = shape.decoder_heads, shape.decoder_head
        ids = graph.input("input_ids", np.int64, [1, "sequence"])
        past = []
        for index in range(shape.decoder_layers):
            sizes: list[int | str] = [1, heads, "past_sequence", head]
            names = [f"past_key_values.{index}.{kind}" for kind in ("key", "value")]
            past.append([graph.input(name, np.float32, sizes) for name in names])
        cross = []
        for index in range(shape.decoder_layers):
            names = [f"cross.{index}.{kind}" for kind in ("key", "value")]
            sizes = [1, heads, "positions", head]
            cross.append([graph.input(name, np.float32, sizes) for name in names])
        first = graph.optional("logits_from", np.array([-1]), [1])
        graph.output("logits", np.float32, [1, "asked", shape.vocabulary])
        x = self._embedded(ids)
        x = graph.op("Add", x, self._positions(ids, past[0][0]), name="decoder.positions")
        for index in range(shape.decoder_layers):
            x = self._layer(x, index, past[index], cross[index])
        # Unless asked for more, the last token's logits: the head is a third of a step's work.
        asked = [first, self.integers(_END), self.integers(1)]
        x = self.norm(graph.op("Slice", x, *asked, name="decoder.last"), "decoder.layer_norm")
        self._head(x)

    def _embedded(self, ids: str) -> str:
        """Rows of the table of tokens, which is also the head."""
        graph, name = self.graph, "decoder.embed_tokens"
        table = self.source.rows(f"{name}.weight", self.shape.vocabulary, self.width)
        if graph.scheme.precision != "fp32":
            graph.mark({"vozmetro.tied": f"{name}.weight_q8"})
            return graph.embedding(ids, name, table)
        stored = graph.weight(f"{name}.weight", table.read(0, self.shape.vocabulary))
        return graph.op("Gather", stored, ids, name=name)

    def _head(self, x: str) -> None:
        """Logits of states [1, asked, width]."""
        graph, name, vocabulary = self.graph, "decoder.embed_tokens", self.shape.vocabulary
        if graph.scheme.precision != "fp32":
            table = self.source.rows(f"{name}.weight", vocabulary, self.width)
            graph.linear(x, "proj_out", table, output="logits")
            return
        # Gemm reads the table as it is stored for Gather: MatMul would need a second copy.
        flat = graph.op("Reshape", x, self.integers(-1, self.width))
        flat = graph.op("Gemm", flat, f"{name}.weight", name="proj_out", transB=1)
        graph.node("Reshape", [flat, self.integers(1, -1, vocabulary)], outputs=["logits"])

    def _positions(self, ids: str, past: str) -> str:
        """Rows of the table of positions, from the number of tokens before on."""
        graph = self.graph
        before = graph.op("Shape", past, start=2, end=3)
        after = graph.op("Add", before, graph.op("Shape", ids, start=1, end=2))
        table = self.source.read(
            "decoder.embed_positions.weight", self.shape.target_positions, self.width
        )
        stored = graph.weight("decoder.embed_positions.weight", table)
        return graph.op("Slice", stored, before, after, self.integers(0))

    def _layer(self, x: str, index: int, past: list[str], cross: list[str]) -> str:
        graph, layer = self.graph, f"decoder.layers.{index}"
        hidden = self.norm(x, f"{layer}.self_attn_layer_norm")
        attended = graph.unique(f"{layer}.self_attn/0")
        present = [f"present.{index}.{kind}" for kind in ("key", "value")]
        graph.node(
            "MultiHeadAttention",
            [*self.projected(hidden, f"{layer}.self_attn"), "", "", "", *past],
            name=f"{layer}.self_attn",
            outputs=[attended, *present],
            domain=MICROSOFT,
            num_heads=self.shape.decoder_heads,
            unidirectional=1,
        )
        for name in present:
            heads, head = self.shape.decoder_heads, self.shape.decoder_head
            graph.output(name, np.float32, [1, heads, "total_sequence", head])
        out = f"{layer}.self_attn.out_proj"
        x = self.added(x, self.linear(attended, out, self.width, self.width), out)
        hidden = self.norm(x, f"{layer}.encoder_attn_layer_norm")
        attended = graph.node(
            "MultiHeadAttention",
            [*self.projected(hidden, f"{layer}.encoder_attn", "q"), *cross],
            name=f"{layer}.encoder_attn",
            domain=MICROSOFT,
            num_heads=self.shape.decoder_heads,
        )[0]
        out = f"{layer}.encoder_attn.out_proj"
        x = self.added(x, self.linear(attended, out, self.width, self.width), out)
        return self.feed_forward(x, layer, self.shape.decoder_inner)
