"""The language models of Qwen3-Omni as graphs: thinker, talker and code predictor.

The thinker writes text; the talker turns its states into one code of a codec per 80 ms; the code
predictor adds the 15 finer codes of that frame, one step each; `code2wav` makes sound of them.
Xu et al. 2025, "Qwen3-Omni Technical Report".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vozmetro.errors import ModelError
from vozmetro.models.convert.attention import Feed, Positions, Stream, Tower
from vozmetro.models.convert.builder import MICROSOFT, GraphBuilder, Scheme
from vozmetro.models.convert.decoder_shape import CONTEXT, DecoderShape
from vozmetro.models.convert.moe import Experts, MoeFeed
from vozmetro.models.convert.source import Rows, WeightSource
from vozmetro.models.quantize.kernels import int8_rows

Config = Mapping[str, Any]


@dataclass(frozen=True)
class Order:
    """What is to be written, apart from weights and sizes.

    Attributes:
        path: The `.onnx`.
        scheme: How weights are stored.
        marks: Metadata to add.
        forced: Seed of forced expert choices, for dummy weights.
    """

    path: Path
    scheme: Scheme
    marks: Mapping[str, str]
    forced: int | None = None

    def mark(self, builder: GraphBuilder, task: str, **more: str) -> None:
        """Adds the metadata that every component has."""
        block = f"-b{self.scheme.block}" if self.scheme.precision == "int4" else ""
        builder.mark(
            {
                "vozmetro.task": task,
                "vozmetro.architecture": "qwen3_omni_moe",
                "vozmetro.precision": f"{self.scheme.precision}{block}",
                **({} if self.forced is None else {"vozmetro.routing": "forced"}),
                **more,
                **self.marks,
            }
        )


def prefix_of(source: WeightSource, suffix: str, within: str = "") -> str:
    """Returns what comes before `suffix` in the name of the one tensor that ends so.

    Checkpoints of one model differ in how deep its parts are nested.

    Raises:
        ModelError: `weight_missing`.
    """
    for name in source.names():
        if name.endswith(suffix) and within in name:
            return name.removesuffix(suffix)
    raise ModelError("weight_missing", path=within or ".", name=suffix)


def qwen3_shape(config: Config, prefix: str, head: str = "") -> DecoderShape:
    """Reads the configuration of a Qwen3 decoder inside Qwen3-Omni.

    Raises:
        ModelError: `config_invalid`.
    """
    rope = config.get("rope_parameters") or {}
    try:
        return DecoderShape(
            model_type="qwen3_omni_moe",
            hidden=int(config["hidden_size"]),
            layers=int(config["num_hidden_layers"]),
            heads=int(config["num_attention_heads"]),
            kv_heads=int(config["num_key_value_heads"]),
            head_dim=int(config["head_dim"]),
            intermediate=int(config["intermediate_size"]),
            vocabulary=int(config["vocab_size"]),
            epsilon=float(config.get("rms_norm_eps", 1e-6)),
            theta=float(rope.get("rope_theta") or config["rope_theta"]),
            context=min(int(config.get("max_position_embeddings", CONTEXT)), CONTEXT),
            qk_norm=True,
            prefix=prefix,
            head=head,
        )
    except KeyError as error:
        raise ModelError("config_invalid", name=error.args[0], value=None) from error


def write_thinker(source: WeightSource, config: Config, order: Order) -> Path:
    """Writes the thinker's text model with the ports of any language model; returns the path.

    It is exact for text and for audio, whose three-dimensional positions are equal too; audio
    takes as many tokens as `audio_encoder` makes, at the cost of any other token.

    Args:
        source: The weights.
        config: The whole model's `config.json`.
        order: What to write.
    """
    text = config["thinker_config"]["text_config"]
    prefix = prefix_of(source, "embed_tokens.weight", "thinker")
    head = f"{prefix_of(source, 'lm_head.weight', 'thinker')}lm_head.weight"
    shape = qwen3_shape(text, prefix, head)
    with GraphBuilder(order.path, order.scheme, "thinker") as builder:
        ids = builder.input("input_ids", np.int64, [1, "sequence"])
        mask = builder.input("attention_mask", np.int64, [1, "total_sequence"])
        builder.output("logits", np.float32, [1, 1, shape.vocabulary])
        x = builder.embedding(ids, "embed_tokens", Rows(source, f"{prefix}embed_tokens.weight"))
        feed = MoeFeed(Experts.from_config(text), mask, order.forced)
        where = Positions.of(builder, shape, mask)
        x = _stack(Tower(builder, source, shape, where), x, feed)
        builder.linear(x, "lm_head", Rows(source, shape.head), output="logits")
        order.mark(builder, "language-model", **{"vozmetro.context": str(shape.context)})
        return builder.save()


def write_talker(source: WeightSource, config: Config, order: Order) -> Path:
    """Writes the talker and returns its path.

    Ports: `inputs_embeds` float32 [1, sequence, hidden] (projected states of the thinker, or the
    sum of a frame's 16 code embeddings and of text), `attention_mask` and caches as in a language
    model, `logits` float32 [1, 1, codes] of the frame's first code and `hidden` float32
    [1, 1, hidden], with which the code predictor begins.
    """
    text = config["talker_config"]["text_config"]
    within = prefix_of(source, "codec_head.weight")
    prefix = prefix_of(source, "codec_embedding.weight", within)
    shape = qwen3_shape(text, prefix, f"{within}codec_head.weight")
    with GraphBuilder(order.path, order.scheme, "talker") as builder:
        x, mask = _embedded(builder, shape)
        builder.output("logits", np.float32, [1, 1, shape.vocabulary])
        builder.output("hidden", np.float32, [1, 1, shape.hidden])
        feed = MoeFeed(Experts.from_config(text), mask, order.forced)
        where = Positions.of(builder, shape, mask)
        x = _stack(Tower(builder, source, shape, where), x, feed)
        builder.node("Identity", [x], name="hidden", outputs=["hidden"])
        builder.linear(x, "codec_head", Rows(source, shape.head), output="logits")
        order.mark(builder, "talker", **{"vozmetro.context": str(shape.context)})
        return builder.save()


def write_talker_projection(source: WeightSource, order: Order) -> Path:
    """Writes what turns the thinker's embeddings and states into the talker's input.

    Ports: `hidden` float32 [1, sequence, thinker] -> `text` and `media` float32 [1, sequence,
    talker]: the projection for text embeddings, and the one for states of audio and images.
    """
    with GraphBuilder(order.path, order.scheme, "talker_projection") as builder:
        found = {"text": "text_projection", "media": "hidden_projection"}
        wide = source.shape(
            prefix_of(source, "text_projection.linear_fc1.weight")
            + "text_projection.linear_fc1.weight"
        )[1]
        hidden = builder.input("hidden", np.float32, [1, "sequence", wide])
        for port, part in found.items():
            name = f"{prefix_of(source, f'{part}.linear_fc1.weight')}{part}.linear_fc"
            width = source.shape(f"{name}2.weight")[0]
            builder.output(port, np.float32, [1, "sequence", width])
            x = builder.linear(
                hidden, f"{part}.1", source.read(f"{name}1.weight"), source.read(f"{name}1.bias")
            )
            x = builder.op("QuickGelu", x, name=f"{part}.silu", domain=MICROSOFT, alpha=1.0)
            bias = source.read(f"{name}2.bias")
            builder.linear(x, f"{part}.2", source.read(f"{name}2.weight"), bias, output=port)
        order.mark(builder, "talker-projection")
        return builder.save()


def write_code_predictor(source: WeightSource, config: Config, order: Order) -> Path:
    """Writes one step of the code predictor and returns its path.

    Ports: `inputs_embeds` float32 [1, sequence, hidden] (first the talker's `hidden` and the
    embedding of the frame's first code, then of one code at a time), `step` int64 [1] (0 to 14:
    which of the 15 heads), `attention_mask` and caches as in a language model; `logits` float32
    [1, 1, codes]. A frame takes 15 steps and starts with empty caches.
    """
    code = config["talker_config"]["code_predictor_config"]
    within = prefix_of(source, "lm_head.0.weight", "")
    shape = qwen3_shape(code, prefix_of(source, "codec_embedding.0.weight", ""))
    heads = [f"{within}lm_head.{group}.weight" for group in range(code["num_code_groups"] - 1)]
    with GraphBuilder(order.path, order.scheme, "code_predictor") as builder:
        x, mask = _embedded(builder, shape)
        step = builder.input("step", np.int64, [1])
        builder.output("logits", np.float32, [1, 1, shape.vocabulary])
        where = Positions.of(builder, shape, mask)
        x = _stack(Tower(builder, source, shape, where), x)
        _chosen_head(builder, source, heads, x, step)
        order.mark(builder, "code-predictor", **{"vozmetro.context": str(shape.context)})
        return builder.save()


def write_codec_embedding(source: WeightSource, config: Config, order: Order) -> Path:
    """Writes the lookup of codes that talker and code predictor share; returns its path.

    Ports: `codes` int64 [1, sequence] -> `embeddings` float32 [1, sequence, hidden]. The talker's
    own codes come first; code c of the finer group g (0 to 14) is number
    `vocabulary of the talker + g * vocabulary of a group + c`.
    """
    groups = config["talker_config"]["code_predictor_config"]["num_code_groups"] - 1
    finer = prefix_of(source, "codec_embedding.0.weight")
    first = next(n for n in source.names() if n.endswith("codec_embedding.weight"))
    names = [first, *(f"{finer}codec_embedding.{group}.weight" for group in range(groups))]
    with GraphBuilder(order.path, order.scheme, "codec_embedding") as builder:
        codes = builder.input("codes", np.int64, [1, "sequence"])
        table = Rows(source, *names)
        builder.output("embeddings", np.float32, [1, "sequence", table.shape[1]])
        found = builder.embedding(codes, "codec_embedding", table)
        builder.node("Identity", [found], name="embeddings", outputs=["embeddings"])
        order.mark(builder, "codec-embedding")
        return builder.save()


def _embedded(builder: GraphBuilder, shape: DecoderShape) -> tuple[str, str]:
    """Declares the ports of a model whose input is no text; returns input and mask."""
    x = builder.input("inputs_embeds", np.float32, [1, "sequence", shape.hidden])
    return x, builder.input("attention_mask", np.int64, [1, "total_sequence"])


def _stack(tower: Tower, x: str, feed: Feed | None = None) -> str:
    """Adds all layers and the last norm; returns the last token, float32 [1, 1, hidden]."""
    stream = Stream(x)
    for number in range(tower.shape.layers):
        last = number == tower.shape.layers - 1
        stream = tower.layer(number, stream, feed=feed, last_only=last)
    return tower.normalize(stream, f"{tower.shape.prefix}norm.weight")[0]


def _chosen_head(
    builder: GraphBuilder, source: WeightSource, names: list[str], x: str, step: str
) -> None:
    """Adds the one of several heads that `step` names.

    A head is copied out of the stack of all before it is used, some per cent of a step; reading
    all of them would cost more, and one graph per head more still. Heads stay at 8 bits in `int4`,
    for which no operator takes weights that are chosen while it runs.
    """
    scalar = builder.op("Squeeze", step, name="step.scalar")
    if builder.scheme.precision == "fp32":
        stacked = builder.weight("lm_head", np.stack([source.read(n).T for n in names]))
        head = builder.op("Gather", stacked, scalar, name="lm_head.chosen", axis=0)
        builder.node("MatMul", [x, head], name="lm_head", outputs=["logits"])
        return
    found = [int8_rows(source.read(name)) for name in names]
    values = builder.weight("lm_head.weight_q8", np.stack([rows.T for rows, _ in found]))
    scales = builder.weight("lm_head.weight_scale", np.stack([scale for _, scale in found]))
    head = builder.op("Gather", values, scalar, name="lm_head.chosen", axis=0)
    scale = builder.op("Gather", scales, scalar, name="lm_head.scale", axis=0)
    quantized, x_scale, zero = builder.node(
        "DynamicQuantizeLinear", [x], name="lm_head.input", outputs=3
    )
    builder.node(
        "MatMulIntegerToFloat",
        [quantized, head, x_scale, scale, zero],
        name="lm_head",
        outputs=["logits"],
        domain=MICROSOFT,
    )
