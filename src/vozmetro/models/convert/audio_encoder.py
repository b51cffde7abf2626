"""The audio encoder of Qwen3-Omni as a graph: log-mel frames in, what the thinker reads out.

Three 2-D convolutions see chunks of 1 s (100 frames, which become 13 tokens), attention sees
windows of 8 s; neither looks over an edge (Xu et al. 2025, "Qwen3-Omni Technical Report").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vozmetro.errors import ModelError
from vozmetro.models.convert.builder import MICROSOFT, GraphBuilder
from vozmetro.models.convert.omni import Order, prefix_of
from vozmetro.models.convert.source import Rows, WeightSource

EPSILON = 1e-5
"""PyTorch's default for LayerNorm, which the model leaves as it is."""


@dataclass(frozen=True)
class EncoderShape:
    """Sizes of the encoder.

    Attributes:
        bands: Mel bands.
        width: Between layers.
        heads: Of the attention.
        layers: How many.
        chunk: Frames that the convolutions see at once.
        chunks: Chunks that attention sees at once.
        outputs: Width of what the thinker reads.
        prefix: What comes before `layers.0.` in the names of the weights.
    """

    bands: int
    width: int
    heads: int
    layers: int
    chunk: int
    chunks: int
    outputs: int
    prefix: str

    @classmethod
    def from_config(cls, config: Mapping[str, Any], prefix: str) -> EncoderShape:
        """Reads `thinker_config.audio_config`.

        Raises:
            ModelError: `config_invalid`, or `decoder_unsupported` for another activation.
        """
        activation = config.get("activation_function", "gelu")
        if activation != "gelu":
            raise ModelError("decoder_unsupported", what=activation, known="gelu")
        try:
            chunk = 2 * int(config["n_window"])
            return cls(
                bands=int(config["num_mel_bins"]),
                width=int(config["d_model"]),
                heads=int(config["encoder_attention_heads"]),
                layers=int(config["encoder_layers"]),
                chunk=chunk,
                chunks=int(config["n_window_infer"]) // chunk,
                outputs=int(config["output_dim"]),
                prefix=prefix,
            )
        except KeyError as error:
            raise ModelError("config_invalid", name=error.args[0], value=None) from error

    @property
    def tokens(self) -> int:
        """Tokens that a whole chunk becomes: three strides of 2, each rounded up."""
        return -(-self.chunk // 8)

    def places(self) -> NDArray[np.float32]:
        """Returns the sinusoids (Vaswani et al. 2017) of a chunk's tokens [tokens, width]."""
        half = self.width // 2
        rates = np.exp(-np.log(10000.0) / (half - 1) * np.arange(half, dtype=np.float32))
        angles = np.outer(np.arange(self.tokens, dtype=np.float32), rates.astype(np.float32))
        return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)


def write_audio_encoder(source: WeightSource, config: Mapping[str, Any], order: Order) -> Path:
    """Writes the encoder and returns its path.

    Ports: `input_features` float32 [1, bands, frames] (100 frames per second) -> `audio_features`
    float32 [1, tokens, outputs] (13 per second).

    Args:
        source: The weights.
        config: The whole model's `config.json`.
        order: What to write.
    """
    audio = config["thinker_config"]["audio_config"]
    shape = EncoderShape.from_config(audio, prefix_of(source, "conv2d1.weight"))
    with GraphBuilder(order.path, order.scheme, "audio_encoder") as builder:
        frames = builder.input("input_features", np.float32, [1, shape.bands, "frames"])
        builder.output("audio_features", np.float32, [1, "tokens", shape.outputs])
        encoder = _Encoder(builder, source, shape)
        x = encoder.stem(frames)
        for layer in range(shape.layers):
            x = encoder.layer(layer, x)
        x = encoder.norm("ln_post", x)
        x = builder.op("Gelu", encoder.linear("proj1", x), name="proj.gelu")
        encoder.linear("proj2", x, output="audio_features")
        order.mark(builder, "audio-encoder")
        return builder.save()


class _Encoder:
    """Adds the encoder's parts to a graph; sizes that depend on the audio are computed in it."""

    def __init__(self, builder: GraphBuilder, source: WeightSource, shape: EncoderShape) -> None:
        self._b = builder
        self._source = source
        self._shape = shape
        self._one = builder.constant([1], np.int64, "one")
        self._two = builder.constant([2], np.int64, "two")
        self._zero = builder.constant([0], np.int64, "zero")

    def linear(self, name: str, x: str, output: str | None = None) -> str:
        full = f"{self._shape.prefix}{name}"
        bias = self._source.read(f"{full}.bias")
        return self._b.linear(x, name, self._source.read(f"{full}.weight"), bias, output=output)

    def norm(self, name: str, x: str) -> str:
        full = f"{self._shape.prefix}{name}"
        scale, bias = (
            self._b.weight(f"{name}.{part}", self._source.read(f"{full}.{part}"))
            for part in ("weight", "bias")
        )
        return self._b.op("LayerNormalization", x, scale, bias, name=name, epsilon=EPSILON)

    # Frames to tokens ----------------------------------------------------------------------------

    def stem(self, frames: str) -> str:
        """Cuts frames into chunks, runs the convolutions, and lays the tokens end to end."""
        builder, shape = self._b, self._shape
        count = builder.op("Shape", frames, start=2, end=3, name="frames")
        # A sound shorter than a chunk is not filled up to one.
        wide = builder.op("Min", count, builder.constant([shape.chunk], np.int64))
        chunks = self._parts(count, wide)
        x = self._filled(frames, count, builder.op("Mul", chunks, wide), axis=2)
        sizes = [builder.constant([shape.bands], np.int64), chunks, wide]
        x = builder.op("Reshape", x, builder.op("Concat", *sizes, axis=0), name="chunks")
        x = builder.op("Transpose", x, perm=[1, 0, 2], name="chunks.first")
        x = builder.op("Unsqueeze", x, self._one, name="chunks.channel")
        for number in (1, 2, 3):
            x = self._convolution(f"conv2d{number}", x)
        tokens = builder.op("Shape", x, start=3, end=4, name="chunk.tokens")
        x = builder.op("Transpose", x, perm=[0, 3, 1, 2], name="tokens.first")
        joined = builder.constant([0, 0, -1], np.int64, "joined")
        x = builder.op("Reshape", x, joined, name="tokens.flat")
        name = f"{shape.prefix}conv_out.weight"
        x = builder.linear(x, "conv_out", Rows(self._source, name))
        places = builder.weight("positions", shape.places())
        places = builder.op("Slice", places, self._zero, tokens, self._zero, name="places")
        x = builder.op("Add", x, places, name="placed")
        flat = builder.constant([1, -1, shape.width], np.int64, "flat")
        x = builder.op("Reshape", x, flat, name="tokens")
        self._lay_out(count, wide, chunks, tokens)
        return builder.op("Slice", x, self._zero, self._count, self._one, name="heard")

    def _convolution(self, name: str, x: str) -> str:
        full = f"{self._shape.prefix}{name}"
        weights = self._b.weight(f"{name}.weight", self._source.read(f"{full}.weight"))
        bias = self._b.weight(f"{name}.bias", self._source.read(f"{full}.bias"))
        x = self._b.op(
            "Conv", x, weights, bias, name=name, strides=[2, 2], pads=[1, 1, 1, 1],
            kernel_shape=[3, 3],
        )  # fmt: skip
        return self._b.op("Gelu", x, name=f"{name}.gelu")

    def _lay_out(self, frames: str, wide: str, chunks: str, tokens: str) -> None:
        """Computes how many tokens there are and how they fall into windows of attention."""
        builder = self._b
        before = builder.op("Sub", chunks, self._one)
        last = builder.op("Sub", frames, builder.op("Mul", before, wide))
        for _ in range(3):  # each convolution halves, rounding up
            last = builder.op("Div", builder.op("Add", last, self._one), self._two)
        self._count = builder.op("Add", builder.op("Mul", before, tokens), last, name="count")
        most = builder.op("Mul", tokens, builder.constant([self._shape.chunks], np.int64))
        self._window = builder.op("Min", self._count, most, name="window")
        windows = self._parts(self._count, self._window)
        self._filled_count = builder.op("Mul", windows, self._window, name="filled")
        scalars = [
            builder.op("Squeeze", value) for value in (self._zero, self._filled_count, self._one)
        ]
        from onnx import TensorProto

        heard = builder.op("Less", builder.op("Range", *scalars), self._count)
        heard = builder.op("Cast", heard, to=TensorProto.INT32)
        shape = builder.op("Concat", windows, self._window, axis=0)
        self._heard = builder.op("Reshape", heard, shape, name="heard.windows")
        self._rows = builder.op(
            "Concat", windows, self._window, builder.constant([-1], np.int64), axis=0
        )

    def _parts(self, count: str, size: str) -> str:
        """Returns how many parts of `size` it takes to hold `count`."""
        more = self._b.op("Sub", self._b.op("Add", count, size), self._one)
        return self._b.op("Div", more, size)

    def _filled(self, x: str, count: str, wanted: str, axis: int) -> str:
        """Appends zeros along an axis of a tensor of three."""
        missing = self._b.op("Sub", wanted, count)
        none = [self._zero] * 5
        none.insert(3 + axis, missing)
        pads = self._b.op("Concat", *none, axis=0)
        return self._b.op("Pad", x, pads)

    # Layers --------------------------------------------------------------------------------------

    def layer(self, number: int, x: str) -> str:
        """Adds one pre-norm layer."""
        builder, name = self._b, f"layers.{number}"
        mixed = self._attention(name, self.norm(f"{name}.self_attn_layer_norm", x))
        x = builder.op("Add", x, mixed, name=f"{name}.heard")
        inside = self.linear(f"{name}.fc1", self.norm(f"{name}.final_layer_norm", x))
        inside = builder.op("Gelu", inside, name=f"{name}.gelu")
        return builder.op("Add", x, self.linear(f"{name}.fc2", inside), name=f"{name}.sum")

    def _attention(self, name: str, x: str) -> str:
        """Adds attention inside windows; the last one is filled up, and what fills it, ignored."""
        builder, width = self._b, self._shape.width
        names = [f"{self._shape.prefix}{name}.self_attn.{part}_proj" for part in "qkv"]
        weights = Rows(self._source, *(f"{one}.weight" for one in names))
        bias = np.concatenate([self._source.read(f"{one}.bias") for one in names])
        mixed = builder.linear(x, f"{name}.self_attn.qkv_proj", weights, bias)
        mixed = self._filled(mixed, self._count, self._filled_count, axis=1)
        mixed = builder.op("Reshape", mixed, self._rows, name=f"{name}.self_attn.windows")
        sizes = builder.constant([width] * 3, np.int64, "qkv_sizes")
        parts = builder.node(
            "Split", [mixed, sizes], name=f"{name}.self_attn.split", outputs=3, axis=-1
        )
        mixed = builder.op(
            "MultiHeadAttention",
            *parts,
            "",
            self._heard,
            name=f"{name}.self_attn",
            domain=MICROSOFT,
            num_heads=self._shape.heads,
        )
        flat = builder.constant([1, -1, width], np.int64, "flat")
        mixed = builder.op("Reshape", mixed, flat, name=f"{name}.self_attn.flat")
        mixed = builder.op("Slice", mixed, self._zero, self._count, self._one)
        return self.linear(f"{name}.self_attn.out_proj", mixed)
