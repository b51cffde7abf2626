"""Decoder-only language models (Qwen3, the Qwen3-VL text tower, Qwen2, Llama, SmolLM2) to ONNX."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from vozmetro.errors import ModelError
from vozmetro.models.convert.attention import Positions, Stream, Tower
from vozmetro.models.convert.builder import GraphBuilder, Scheme
from vozmetro.models.convert.decoder_shape import DecoderShape
from vozmetro.models.convert.source import Rows, WeightSource

__all__ = ["DecoderShape", "write_decoder"]


def write_decoder(
    source: WeightSource,
    shape: DecoderShape,
    path: Path,
    scheme: Scheme,
    marks: Mapping[str, str],
    *,
    layers: int | None = None,
) -> Path:
    """Writes a language model as one graph, weights quantized on the way, and returns its path.

    Ports: `input_ids` int64 [1, sequence], `attention_mask` int64 [1, total_sequence],
    `past_key_values.I.key|value` and `present.I.key|value` float32 [1, kv_heads, ..., head_dim],
    `logits` float32 [1, 1, vocabulary] of the last token.

    Of Qwen3-VL it is the text tower: for text the time, height and width positions of its
    interleaved M-RoPE are equal, which makes it plain RoPE, so that the graph is exact for text
    and takes no images.

    Args:
        source: The weights.
        shape: From `DecoderShape.from_config`.
        path: The `.onnx` to write.
        scheme: How weights are stored.
        marks: Metadata to add to `vozmetro.task`, `.architecture`, `.precision` and `.tied`.
        layers: Only so many layers, to study how time grows with depth.

    Raises:
        ModelError: `weight_missing`, or `weight_shape` where a weight is not of the config's size.
    """
    shape = shape.located(source.names())
    shape = replace(shape, layers=shape.layers if layers is None else layers)
    _check_sizes(source, shape)
    with GraphBuilder(path, scheme, shape.model_type) as builder:
        ids = builder.input("input_ids", np.int64, [1, "sequence"])
        mask = builder.input("attention_mask", np.int64, [1, "total_sequence"])
        builder.output("logits", np.float32, [1, 1, shape.vocabulary])
        table = f"{shape.prefix}embed_tokens.weight"
        stream = Stream(builder.embedding(ids, "embed_tokens", Rows(source, table)))
        tower = Tower(builder, source, shape, Positions.of(builder, shape, mask))
        for number in range(shape.layers):
            stream = tower.layer(number, stream, last_only=number == shape.layers - 1)
        x, _ = tower.normalize(stream, f"{shape.prefix}norm.weight")
        head = Rows(source, table if shape.tied else shape.head)
        builder.linear(x, "lm_head", head, output="logits")
        builder.mark(_marks(shape, scheme) | dict(marks))
        return builder.save()


def _check_sizes(source: WeightSource, shape: DecoderShape) -> None:
    """Refuses weights that another config belongs to, before anything is written."""
    table = (shape.vocabulary, shape.hidden)
    expected = {f"{shape.prefix}embed_tokens.weight": table}
    if not shape.tied:
        expected[shape.head] = table
    sizes = {
        "self_attn.q_proj": (shape.queries, shape.hidden),
        "self_attn.k_proj": (shape.keys, shape.hidden),
        "self_attn.v_proj": (shape.keys, shape.hidden),
        "self_attn.o_proj": (shape.hidden, shape.queries),
        "mlp.gate_proj": (shape.intermediate, shape.hidden),
        "mlp.up_proj": (shape.intermediate, shape.hidden),
        "mlp.down_proj": (shape.hidden, shape.intermediate),
    }
    for number in range(shape.layers):
        for part, size in sizes.items():
            expected[f"{shape.prefix}layers.{number}.{part}.weight"] = size
    for name, size in expected.items():
        found = tuple(source.shape(name))
        if found != size:
            raise ModelError("weight_shape", name=name, found=found, expected=size)


def _marks(shape: DecoderShape, scheme: Scheme) -> dict[str, str]:
    """Returns what every converted language model says of itself."""
    table = "embed_tokens.weight" + ("" if scheme.precision == "fp32" else "_q8")
    block = f"-b{scheme.block}" if scheme.precision == "int4" else ""
    found = {
        "vozmetro.task": "language-model",
        "vozmetro.architecture": shape.model_type,
        "vozmetro.precision": f"{scheme.precision}{block}",
        "vozmetro.context": str(shape.context),
    }
    if shape.tied:
        found["vozmetro.tied"] = table
    return found
