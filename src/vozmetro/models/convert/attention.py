"""Layers of decoder transformers as ONNX Runtime's fused operators, for any model to build from.

A layer takes and returns a `Stream`: the residual sum is only made together with the next norm
(`SkipSimplifiedLayerNormalization`), so that it costs no pass of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from vozmetro.models.convert.builder import MICROSOFT, GraphBuilder
from vozmetro.models.convert.decoder_shape import DecoderShape
from vozmetro.models.convert.source import Rows, WeightSource

_END = np.iinfo(np.int64).max
_CACHE = ("past_key_values", "present")


@dataclass(frozen=True)
class Stream:
    """What flows between layers: `residual + update`.

    Attributes:
        residual: float32 [1, sequence, hidden].
        update: What the part before wants added; None at the start.
    """

    residual: str
    update: str | None = None


@dataclass(frozen=True)
class Positions:
    """What every attention of a graph shares.

    Attributes:
        last: int32 [1]: index of the last token (`seqlens_k` of GroupQueryAttention).
        total: int32 scalar: tokens including the cached ones.
        cosines: float32 [context, head_dim / 2].
        sines: Likewise.
    """

    last: str
    total: str
    cosines: str
    sines: str

    @classmethod
    def of(cls, builder: GraphBuilder, shape: DecoderShape, mask: str) -> Positions:
        """Derives them from the attention mask (int64 [1, total_sequence]), once for a graph.

        Text has one position per token, so that the interleaved three-dimensional M-RoPE of
        Qwen3-VL and Qwen3-Omni (time, height and width, all equal for text) is plain RoPE.
        """
        from onnx import TensorProto

        one, axis = builder.constant([1], np.int64, "one"), builder.constant([1], np.int64, "axis")
        count = builder.op("ReduceSum", mask, axis, name="mask.count", keepdims=0)
        last = builder.op("Cast", builder.op("Sub", count, one), to=TensorProto.INT32, name="last")
        length = builder.op("Shape", mask, name="mask.length", start=1, end=2)
        scalar = builder.op("Squeeze", length, name="mask.total")
        total = builder.op("Cast", scalar, to=TensorProto.INT32, name="total")
        cosines, sines = shape.rotations()
        return cls(last, total, builder.weight("cosines", cosines), builder.weight("sines", sines))


@dataclass(frozen=True)
class Tower:
    """Writes the layers of one decoder into a graph.

    Attributes:
        builder: The graph.
        source: Holds the weights, layer N's under `{shape.prefix}layers.N.`.
        shape: Of the model.
        where: Positions of the tokens, from `Positions.of`.
    """

    builder: GraphBuilder
    source: WeightSource
    shape: DecoderShape
    where: Positions

    def layer(
        self,
        number: int,
        stream: Stream,
        *,
        feed: Feed | None = None,
        window: int = -1,
        last_only: bool = False,
    ) -> Stream:
        """Adds one layer, norms before its parts, and returns the stream after it.

        Args:
            number: Number of the layer, of its weights and of its cache's ports.
            stream: What comes in.
            feed: The feed-forward part, e.g. a mixture of experts; SwiGLU by default.
            window: See `attention`.
            last_only: Goes on with the last token alone once the keys and values are cached:
                what the last layer says of earlier tokens, nobody reads.
        """
        name = f"{self.shape.prefix}layers.{number}"
        x, stream = self.normalize(stream, f"{name}.input_layernorm.weight")
        stream = Stream(stream.residual, self.attention(number, x, window=window))
        if last_only:
            stream = self.last_token(stream)
        x, stream = self.normalize(stream, f"{name}.post_attention_layernorm.weight")
        update = feed(self, number, x) if feed else self.feed_forward(number, x)
        return Stream(stream.residual, update)

    def attention(self, number: int, x: str, *, window: int = -1) -> str:
        """Adds grouped-query attention with RoPE and a cache, and returns its output.

        Ainslie et al. 2023, "GQA: Training Generalized Multi-Query Transformer Models". The
        cache's ports `past_key_values.N.key|value` and `present.N.key|value` are declared here;
        bound to one buffer, nothing is copied per token.

        Args:
            number: Number of the layer.
            x: Normalized input, float32 [1, sequence, hidden].
            window: Tokens that a token sees, itself included; -1 for all.
        """
        builder, shape, where = self.builder, self.shape, self.where
        name = f"{shape.prefix}layers.{number}.self_attn"
        mixed = self.linear(x, [f"{name}.{part}_proj" for part in "qkv"], bias=shape.qkv_bias)
        query, key, value = mixed, "", ""  # GroupQueryAttention takes them stacked
        if shape.qk_norm:
            sizes = builder.constant([shape.queries, shape.keys, shape.keys], np.int64, "sizes")
            query, key, value = builder.node(
                "Split", [mixed, sizes], name=f"{name}.split", outputs=3, axis=-1
            )
            query = self._normalize_heads(query, f"{name}.q_norm", shape.queries)
            key = self._normalize_heads(key, f"{name}.k_norm", shape.keys)
        past, present = (
            [f"{port}.{number}.{part}" for part in ("key", "value")] for port in _CACHE
        )
        for port in past:
            builder.input(port, np.float32, [1, shape.kv_heads, "past_sequence", shape.head_dim])
        for port in present:
            builder.output(port, np.float32, [1, shape.kv_heads, "total_sequence", shape.head_dim])
        seen = [where.last, where.total, where.cosines, where.sines]
        mixed = builder.node(
            "GroupQueryAttention",
            [query, key, value, *past, *seen],
            name=name,
            outputs=[builder.unique(f"{name}/0"), *present],
            domain=MICROSOFT,
            num_heads=shape.heads,
            kv_num_heads=shape.kv_heads,
            do_rotary=1,
            rotary_interleaved=0,
            local_window_size=window,
        )[0]
        return self.linear(mixed, [f"{name}.o_proj"], bias=shape.output_bias)

    def _normalize_heads(self, x: str, name: str, width: int) -> str:
        """RMS-normalizes each head (the fused attention offers that on CUDA and WebGPU only)."""
        builder, size = self.builder, self.shape.head_dim
        split = builder.constant([0, 0, width // size, size], np.int64, "heads")
        joined = builder.constant([0, 0, width], np.int64, "width")
        heads = builder.op("Reshape", x, split, name=f"{name}.split")
        normal, _ = self.normalize(Stream(heads), f"{name}.weight")
        return builder.op("Reshape", normal, joined, name=f"{name}.join")

    def feed_forward(self, number: int, x: str, part: str = "mlp") -> str:
        """Adds down(silu(gate(x)) * up(x)) and returns its output.

        Shazeer 2020, "GLU Variants Improve Transformer".

        Args:
            number: Number of the layer.
            x: Normalized input.
            part: Where its weights are, inside the layer's.
        """
        name = f"{self.shape.prefix}layers.{number}.{part}"
        bias = self.shape.mlp_bias
        gate = self.linear(x, [f"{name}.gate_proj"], bias=bias)
        up = self.linear(x, [f"{name}.up_proj"], bias=bias)
        # x * sigmoid(1.0 * x) in one pass.
        gate = self.builder.op("QuickGelu", gate, name=f"{name}.silu", domain=MICROSOFT, alpha=1.0)
        inside = self.builder.op("Mul", gate, up, name=f"{name}.gated")
        return self.linear(inside, [f"{name}.down_proj"], bias=bias)

    def normalize(self, stream: Stream, name: str) -> tuple[str, Stream]:
        """RMS-normalizes the stream's sum (Zhang and Sennrich 2019).

        Args:
            stream: What to normalize.
            name: Of the norm's weights.

        Returns:
            The normalized value, and the stream with its update added.
        """
        builder, epsilon = self.builder, self.shape.epsilon
        gamma = builder.weight(name, self.source.read(name))
        node = name.removesuffix(".weight")
        if stream.update is None:
            made = builder.op(
                "SimplifiedLayerNormalization", stream.residual, gamma, name=node, epsilon=epsilon
            )
            return made, stream
        outputs = [builder.unique(f"{node}/0"), "", "", builder.unique(f"{node}/sum")]
        builder.node(
            "SkipSimplifiedLayerNormalization",
            [stream.update, stream.residual, gamma],
            name=node,
            outputs=outputs,
            domain=MICROSOFT,
            epsilon=epsilon,
        )
        return outputs[0], Stream(outputs[3])

    def linear(self, x: str, names: Sequence[str], *, bias: bool = False) -> str:
        """Adds linear layers that read the same input as one, their outputs behind each other."""
        weights = Rows(self.source, *(f"{name}.weight" for name in names))
        added = [self.source.read(f"{name}.bias") for name in names] if bias else []
        label = "+".join([names[0], *(name.rpartition(".")[2] for name in names[1:])])
        return self.builder.linear(x, label, weights, np.concatenate(added) if added else None)

    def last_token(self, stream: Stream) -> Stream:
        """Returns the stream of the last token, [1, 1, hidden]."""
        start, end, axis = (
            self.builder.constant([value], np.int64, name)
            for name, value in (("minus_one", -1), ("end", _END), ("sequence_axis", 1))
        )

        def last(x: str) -> str:
            return self.builder.op("Slice", x, start, end, axis, name=f"{x}.last")

        return Stream(last(stream.residual), last(stream.update) if stream.update else None)


Feed = Callable[[Tower, int, str], str]
"""The feed-forward part of a layer: (tower, number of the layer, normalized x) -> its output."""
