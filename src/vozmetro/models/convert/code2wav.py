"""The last part of Qwen3-Omni as a graph: codes of a codec in, sound out.

A transformer that sees the last 72 frames, two upsampling stages of ConvNeXt blocks (Liu et al.
2022), then a vocoder of transposed and dilated causal convolutions with SnakeBeta activations
(Lee et al. 2023, "BigVGAN"; Ziyin et al. 2020, "Neural Networks Fail to Learn Periodic Functions").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vozmetro.errors import ModelError
from vozmetro.models.convert.attention import Positions, Stream, Tower
from vozmetro.models.convert.builder import MICROSOFT, GraphBuilder
from vozmetro.models.convert.decoder_shape import DecoderShape
from vozmetro.models.convert.omni import Order, prefix_of
from vozmetro.models.convert.source import Rows, Weights, WeightSource

DILATIONS = (1, 3, 9)
NORM_EPSILON, SNAKE_EPSILON = 1e-6, 1e-9


@dataclass(frozen=True)
class Code2WavShape:
    """Sizes of the decoder.

    Attributes:
        transformer: Of the transformer at its beginning.
        window: Frames that a frame sees, itself included.
        books: Codebooks, each with `codes` codes, of every frame.
        codes: See `books`.
        stages: Upsampling factors before the vocoder.
        rates: Upsampling factors in the vocoder.
        prefix: What comes before `code_embedding.weight`.
    """

    transformer: DecoderShape
    window: int
    books: int
    codes: int
    stages: tuple[int, ...]
    rates: tuple[int, ...]
    prefix: str

    @classmethod
    def from_config(cls, config: Mapping[str, Any], prefix: str) -> Code2WavShape:
        """Reads `code2wav_config`.

        Raises:
            ModelError: `config_invalid`.
        """
        rope = config.get("rope_parameters") or {}
        try:
            heads, hidden = int(config["num_attention_heads"]), int(config["hidden_size"])
            transformer = DecoderShape(
                model_type="qwen3_omni_moe_code2wav",
                hidden=hidden,
                layers=int(config["num_hidden_layers"]),
                heads=heads,
                kv_heads=int(config["num_key_value_heads"]),
                head_dim=int(config.get("head_dim") or hidden // heads),
                intermediate=int(config["intermediate_size"]),
                vocabulary=int(config["codebook_size"]),
                epsilon=float(config.get("rms_norm_eps", 1e-5)),
                theta=float(rope.get("rope_theta") or config["rope_theta"]),
                context=int(config["max_position_embeddings"]),
                prefix=f"{prefix}pre_transformer.",
            )
            return cls(
                transformer,
                window=int(config["sliding_window"]),
                books=int(config["num_quantizers"]),
                codes=int(config["codebook_size"]),
                stages=tuple(config["upsampling_ratios"]),
                rates=tuple(config["upsample_rates"]),
                prefix=prefix,
            )
        except KeyError as error:
            raise ModelError("config_invalid", name=error.args[0], value=None) from error

    def samples(self, frames: int) -> int:
        """Returns how much sound `frames` make: 1920 each (80 ms), less 555 at the edges.

        Every vocoder stage drops what its transposed convolution has beyond the last step.
        """
        count = frames * int(np.prod(self.stages))
        for rate in self.rates:
            count = (count - 1) * rate
        return count


def write_code2wav(source: WeightSource, config: Mapping[str, Any], order: Order) -> Path:
    """Writes the decoder and returns its path.

    Ports: `codes` int64 [1, books, frames] -> `audio` float32 [1, 1, samples], in [-1, 1] at
    24 kHz. To decode a stream, give each piece 25 frames of what came before and drop their
    1920 samples each, as the model's authors do; the graph itself keeps no state.

    Args:
        source: The weights.
        config: The whole model's `config.json`.
        order: What to write; convolutions stay in float32 in every scheme, where integers were
            slower.
    """
    shape = Code2WavShape.from_config(
        config["code2wav_config"], prefix_of(source, "code_embedding.weight")
    )
    with GraphBuilder(order.path, order.scheme, "code2wav") as builder:
        codes = builder.input("codes", np.int64, [1, shape.books, "frames"])
        builder.output("audio", np.float32, [1, 1, "samples"])
        x = _embedded(builder, source, shape, codes)
        x = _transformer(builder, _ScaledSource(source), shape, x)
        x = builder.op("Transpose", x, perm=[0, 2, 1], name="channels.first")
        for stage, factor in enumerate(shape.stages):
            name = f"{shape.prefix}upsample.{stage}"
            x = _upsample(builder, source, f"{name}.0.conv", x, factor)
            x = _convnext(builder, source, f"{name}.1", x)
        x = _vocoder(builder, source, shape, x)
        low, high = (builder.constant(value, np.float32, "limit") for value in (-1, 1))
        builder.node("Clip", [x, low, high], name="audio", outputs=["audio"])
        order.mark(builder, "code2wav", **{"vozmetro.frame_samples": str(_frame_samples(shape))})
        return builder.save()


def _frame_samples(shape: Code2WavShape) -> int:
    return int(np.prod(shape.stages + shape.rates))


class _ScaledSource:
    """Weights whose output projections include the layer scale that comes after them.

    scale * (W x) is (scale * W) x, row by row, so that the scales cost nothing at run time, and
    quantization by rows or blocks is the same but for its scales.
    """

    def __init__(self, source: WeightSource) -> None:
        self._source = source
        self.weights: Literal["real", "dummy"] = source.weights

    def names(self) -> Sequence[str]:
        """See `WeightSource.names`."""
        return self._source.names()

    def shape(self, name: str) -> tuple[int, ...]:
        """See `WeightSource.shape`."""
        return self._source.shape(name)

    def read(self, name: str) -> Weights:
        """See `WeightSource.read`."""
        found = self._source.read(name)
        for part, last in (("self_attn", "o_proj"), ("mlp", "down_proj")):
            end = f"{part}.{last}.weight"
            if name.endswith(end):
                found *= self._source.read(f"{name.removesuffix(end)}{part}_layer_scale.scale")[
                    :, None
                ]
        return found


def _embedded(builder: GraphBuilder, source: WeightSource, shape: Code2WavShape, codes: str) -> str:
    """Looks every book's code up in its part of the table and averages: [1, frames, hidden]."""
    offsets = np.arange(shape.books, dtype=np.int64)[None, :, None] * shape.codes
    ids = builder.op("Add", codes, builder.weight("book_offsets", offsets), name="ids")
    table = Rows(source, f"{shape.prefix}code_embedding.weight")
    found = builder.embedding(ids, "code_embedding", table)
    axis = builder.constant([1], np.int64, "books")
    return builder.op("ReduceMean", found, axis, name="frames", keepdims=0)


def _transformer(builder: GraphBuilder, source: WeightSource, shape: Code2WavShape, x: str) -> str:
    """Adds the layers, which see a window of frames and keep no cache."""
    from onnx import TensorProto

    inner = shape.transformer
    one = builder.constant([1], np.int64, "one")
    count = builder.op("Shape", x, start=1, end=2, name="frame.count")
    last = builder.op("Cast", builder.op("Sub", count, one), to=TensorProto.INT32)
    total = builder.op("Cast", builder.op("Squeeze", count), to=TensorProto.INT32)
    cosines, sines = inner.rotations()
    where = Positions(
        last, total, builder.weight("cosines", cosines), builder.weight("sines", sines)
    )
    tower, stream = Tower(builder, source, inner, where), Stream(x)
    for number in range(inner.layers):
        name = f"{inner.prefix}layers.{number}"
        x, stream = tower.normalize(stream, f"{name}.input_layernorm.weight")
        stream = Stream(stream.residual, _attention(tower, f"{name}.self_attn", x, shape.window))
        x, stream = tower.normalize(stream, f"{name}.post_attention_layernorm.weight")
        stream = Stream(stream.residual, tower.feed_forward(number, x))
    return tower.normalize(stream, f"{inner.prefix}norm.weight")[0]


def _attention(tower: Tower, name: str, x: str, window: int) -> str:
    """Adds attention with RoPE inside a window of frames, without a cache."""
    where, shape = tower.where, tower.shape
    mixed = tower.builder.op(
        "GroupQueryAttention",
        *(tower.linear(x, [f"{name}.{part}_proj"]) for part in "qkv"),
        "",
        "",
        where.last,
        where.total,
        where.cosines,
        where.sines,
        name=name,
        domain=MICROSOFT,
        num_heads=shape.heads,
        kv_num_heads=shape.kv_heads,
        do_rotary=1,
        local_window_size=window,
    )
    return tower.linear(mixed, [f"{name}.o_proj"])


def _convnext(builder: GraphBuilder, source: WeightSource, name: str, x: str) -> str:
    """Adds a causal ConvNeXt block over [1, channels, time]."""
    inside = _causal(builder, source, f"{name}.dwconv.conv", x)
    inside = builder.op("Transpose", inside, perm=[0, 2, 1], name=f"{name}.time.first")
    scale, bias = (
        builder.weight(f"{name}.norm.{part}", source.read(f"{name}.norm.{part}"))
        for part in ("weight", "bias")
    )
    inside = builder.op(
        "LayerNormalization", inside, scale, bias, name=f"{name}.norm", epsilon=NORM_EPSILON
    )
    first, gamma = f"{name}.pwconv1", source.read(f"{name}.gamma")
    inside = builder.linear(
        inside, first, source.read(f"{first}.weight"), source.read(f"{first}.bias")
    )
    inside = builder.op("Gelu", inside, name=f"{name}.gelu")
    # The layer scale after it is part of the second matrix, as in `_ScaledSource`.
    second = f"{name}.pwconv2"
    weights = source.read(f"{second}.weight") * gamma[:, None]
    inside = builder.linear(inside, second, weights, source.read(f"{second}.bias") * gamma)
    inside = builder.op("Transpose", inside, perm=[0, 2, 1], name=f"{name}.channels.first")
    return builder.op("Add", x, inside, name=f"{name}.sum")


def _vocoder(builder: GraphBuilder, source: WeightSource, shape: Code2WavShape, x: str) -> str:
    """Adds the convolutions from features to samples."""
    name = f"{shape.prefix}decoder"
    x = _causal(builder, source, f"{name}.0.conv", x)
    for number, rate in enumerate(shape.rates, 1):
        block = f"{name}.{number}.block"
        x = _snake(builder, source, f"{block}.0", x)
        x = _upsample(builder, source, f"{block}.1.conv", x, rate)
        for unit, dilation in enumerate(DILATIONS, 2):
            inside = _snake(builder, source, f"{block}.{unit}.act1", x)
            inside = _causal(builder, source, f"{block}.{unit}.conv1.conv", inside, dilation)
            inside = _snake(builder, source, f"{block}.{unit}.act2", inside)
            inside = _causal(builder, source, f"{block}.{unit}.conv2.conv", inside)
            x = builder.op("Add", x, inside, name=f"{block}.{unit}.sum")
    last = len(shape.rates) + 1
    x = _snake(builder, source, f"{name}.{last}", x)
    return _causal(builder, source, f"{name}.{last + 1}.conv", x)


def _causal(
    builder: GraphBuilder, source: WeightSource, name: str, x: str, dilation: int = 1
) -> str:
    """Adds a convolution that sees nothing of later: filled up with zeros before, not after."""
    weights = source.read(f"{name}.weight")
    channels = source.shape(f"{name}.bias")[0]
    inputs = [x, builder.weight(f"{name}.weight", weights)]
    inputs.append(builder.weight(f"{name}.bias", source.read(f"{name}.bias")))
    kernel = weights.shape[2]
    depthwise = weights.shape[1] == 1 and channels > 1
    return builder.op(
        "Conv",
        *inputs,
        name=name,
        kernel_shape=[kernel],
        dilations=[dilation],
        pads=[(kernel - 1) * dilation, 0],
        group=channels if depthwise else 1,
    )


def _upsample(builder: GraphBuilder, source: WeightSource, name: str, x: str, factor: int) -> str:
    """Adds a transposed convolution, less what it makes beyond a step at both ends."""
    weights = source.read(f"{name}.weight")
    kernel = weights.shape[2]
    return builder.op(
        "ConvTranspose",
        x,
        builder.weight(f"{name}.weight", weights),
        builder.weight(f"{name}.bias", source.read(f"{name}.bias")),
        name=name,
        kernel_shape=[kernel],
        strides=[factor],
        pads=[kernel - factor] * 2,
    )


def _snake(builder: GraphBuilder, source: WeightSource, name: str, x: str) -> str:
    """Adds x + sin(x * exp(alpha))^2 / (exp(beta) + 1e-9), channel by channel."""
    alpha, beta = (np.exp(source.read(f"{name}.{part}")) for part in ("alpha", "beta"))
    rate = builder.weight(f"{name}.rate", alpha[None, :, None])
    height = 1 / (beta + np.float32(SNAKE_EPSILON))
    high = builder.weight(f"{name}.height", height[None, :, None])
    wave = builder.op("Sin", builder.op("Mul", x, rate), name=name)
    wave = builder.op("Mul", builder.op("Mul", wave, wave), high, name=f"{name}.wave")
    return builder.op("Add", x, wave, name=f"{name}.sum")
