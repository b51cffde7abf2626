"""Mixture-of-experts feed-forward blocks (Qwen3-MoE) as ONNX Runtime's fused operators.

`com.microsoft` `MoE` (float32) and `QMoE` (4 and 8 bits) take the router's logits [tokens,
experts], choose the `k` largest and mix those experts' outputs by the softmax over the chosen:
what "softmax over all, the k largest, divided by their sum" (`norm_topk_prob`) gives. Their CPU
kernels want gate and up rows interleaved in one matrix (`swiglu_fusion` 1), and in `QMoE` 8-bit
values around 128, 4-bit values around 8 with even inputs in the low half, and one scale per block
of inputs. SwiGLU there is G * sigmoid(alpha * G) * (L + beta): alpha is 1 and beta 0 for SiLU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vozmetro.errors import ModelError
from vozmetro.models.convert.attention import Tower
from vozmetro.models.convert.builder import MICROSOFT, GraphBuilder
from vozmetro.models.convert.source import RowSource, WeightSource
from vozmetro.models.quantize.kernels import int4_blocks, int8_blocks, usable

FORCED_STRIDE = 61
"""Positions by which a layer's forced choices are ahead of the layer's before."""
FORCED_BONUS = 1000.0
"""Added to the logits of forced experts: far above any logit, and logits keep four decimals."""
MIN_BLOCK = 16


@dataclass(frozen=True)
class Experts:
    """A mixture-of-experts block.

    Attributes:
        count: Experts to choose from.
        per_token: Experts that each token goes through.
        width: Width inside an expert.
        shared: Width inside the expert that every token goes through; 0 without one.
        normalize: The mixing weights of the chosen experts add up to one.
    """

    count: int
    per_token: int
    width: int
    shared: int = 0
    normalize: bool = True

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Experts:
        """Reads the `text_config` of a Qwen3-MoE model.

        Raises:
            ModelError: `config_invalid`, or `decoder_unsupported` where some layers are dense.
        """
        if config.get("mlp_only_layers") or config.get("decoder_sparse_step", 1) != 1:
            raise ModelError("decoder_unsupported", what="mlp_only_layers", known="[]")
        try:
            count = config.get("num_experts") or config["num_local_experts"]
            return cls(
                count=int(count),
                per_token=int(config["num_experts_per_tok"]),
                width=int(config["moe_intermediate_size"]),
                shared=int(config.get("shared_expert_intermediate_size", 0)),
                normalize=bool(config.get("norm_topk_prob", False)),
            )
        except KeyError as error:
            raise ModelError("config_invalid", name=error.args[0], value=None) from error


@dataclass
class MoeFeed:
    """The feed-forward part of every layer of one graph; a `Feed` for `Tower.layer`.

    Random weights make poor routers: in a deep stack all tokens come to look alike, choose the
    same few experts, and reading so few makes a graph of dummy weights look 2 to 4 times too fast.
    With `forced`, each token of each layer is given `per_token` experts drawn at random, as evenly
    as a well-trained router chooses; the real router still runs, and its logits still mix them.

    Attributes:
        experts: Sizes of the block.
        mask: The graph's attention mask, int64 [1, total], from which positions are known.
        forced: Seed of the forced choices; None where the router decides.
    """

    experts: Experts
    mask: str
    forced: int | None = None
    _table: str | None = field(default=None, repr=False)

    def __call__(self, tower: Tower, number: int, x: str) -> str:
        """Adds the block; see `Feed`."""
        builder, name = tower.builder, f"{tower.shape.prefix}layers.{number}.mlp"
        # A choice is a step: the router stays in float32 in every scheme.
        gate = tower.source.read(f"{name}.gate.weight")
        logits = builder.linear(x, f"{name}.gate", gate, precision="fp32")
        flat = builder.constant([-1, self.experts.count], np.int64, "flat")
        logits = builder.op("Reshape", logits, flat, name=f"{name}.logits")
        if self.forced is not None:
            choices = self._choices(tower, number, x)
            logits = builder.op("Add", logits, choices, name=f"{name}.forced")
        mixed = _mixture(tower, self.experts, name, x, logits)
        if not self.experts.shared:
            return mixed
        return builder.op("Add", mixed, _shared(tower, number, x), name=f"{name}.sum")

    def _choices(self, tower: Tower, number: int, x: str) -> str:
        """Returns what to add to the logits [tokens, experts] of the tokens of `x`."""
        builder = tower.builder
        if self._table is None:
            rows = tower.shape.context + tower.shape.layers * FORCED_STRIDE
            table = forced_choices(self.experts, rows, self.forced or 0)
            self._table = builder.weight("forced_experts", table)
        tokens = builder.op("Shape", x, start=1, end=2)
        seen = builder.op("Shape", self.mask, start=1, end=2)
        end = builder.op("Add", seen, builder.constant([number * FORCED_STRIDE], np.int64))
        axis = builder.constant([0], np.int64)
        return builder.op("Slice", self._table, builder.op("Sub", end, tokens), end, axis)


def forced_choices(experts: Experts, rows: int, seed: int) -> NDArray[np.float32]:
    """Returns rows [rows, experts] with a bonus for `per_token` experts each, drawn at random."""
    rng = np.random.default_rng([seed, experts.count, experts.per_token])
    order = rng.random((rows, experts.count), np.float32).argsort(axis=1)[:, : experts.per_token]
    table = np.zeros((rows, experts.count), np.float32)
    np.put_along_axis(table, order, np.float32(FORCED_BONUS), axis=1)
    return table


def _mixture(tower: Tower, experts: Experts, name: str, x: str, logits: str) -> str:
    """Adds the experts and returns the mix of those with the largest logits."""
    builder, precision = tower.builder, tower.builder.scheme.precision
    read = _ExpertReader(tower.source, f"{name}.experts", experts)
    common: dict[str, Any] = {
        "k": experts.per_token,
        "activation_type": "swiglu",
        "activation_alpha": 1.0,
        "activation_beta": 0.0,
        "swiglu_fusion": 1,
        "normalize_routing_weights": int(experts.normalize),
    }
    if precision == "fp32":
        first, second = (
            builder.weight(f"{name}.experts.{part}", np.stack([read(part, e) for e in read.all]))
            for part in _PARTS
        )
        inputs = [x, logits, first, "", second]
        return builder.node("MoE", inputs, name=name, domain=MICROSOFT, **common)[0]
    block = _block(read, builder.scheme.block)
    stored = [_quantized(builder, read, part, name, block) for part in _PARTS]
    inputs = [x, logits, *stored[0], "", *stored[1]]
    if not experts.normalize:
        # Choosing by logits, but mixing by the softmax over all of them.
        inputs += [""] * 7 + [builder.op("Softmax", logits, name=f"{name}.probabilities", axis=-1)]
    return builder.node(
        "QMoE",
        inputs,
        name=name,
        domain=MICROSOFT,
        expert_weight_bits=4 if precision == "int4" else 8,
        block_size=block,
        # As in MatMulNBits; 8 bits have no other kernel.
        accuracy_level=4 if precision == "int4" else None,
        **common,
    )[0]


_PARTS = ("gate_up_proj", "down_proj")


class _ExpertReader:
    """The matrices of one block's experts, one at a time.

    `transformers` 5 keeps them stacked, [experts, outputs, inputs]; files on hubs keep each expert
    and projection on its own. Gate and up rows come out interleaved.
    """

    def __init__(self, source: WeightSource, name: str, experts: Experts) -> None:
        self._source = source
        self._name = name
        self._experts = experts
        self._stacked = f"{name}.gate_up_proj" in set(source.names())
        self._kept: tuple[str, NDArray[np.float32]] | None = None
        self.all = range(experts.count)

    def shape(self, part: str) -> tuple[int, int]:
        """Returns outputs and inputs of a part of an expert."""
        down = self._source.shape(
            f"{self._name}.down_proj" if self._stacked else f"{self._name}.0.down_proj.weight"
        )
        hidden, inner = down[-2:]
        return (hidden, inner) if part == "down_proj" else (2 * inner, hidden)

    def __call__(self, part: str, expert: int) -> NDArray[np.float32]:
        """Returns a matrix of an expert, float32 [outputs, inputs]."""
        if self._stacked:
            found = self._stack(f"{self._name}.{part}", expert)
        else:
            names = ["gate_proj", "up_proj"] if part == "gate_up_proj" else [part]
            found = np.concatenate(
                [self._source.read(f"{self._name}.{expert}.{one}.weight") for one in names]
            )
        if part == "down_proj":
            return found
        gate_up = found.reshape(2, len(found) // 2, -1)
        woven: NDArray[np.float32] = gate_up.transpose(1, 0, 2).reshape(found.shape)
        return woven

    def _stack(self, name: str, expert: int) -> NDArray[np.float32]:
        if isinstance(self._source, RowSource):
            rows = self._source.read_rows(name, expert, expert + 1)
            return rows.reshape(rows.shape[1:])
        if self._kept is None or self._kept[0] != name:
            self._kept = None
            self._kept = (name, self._source.read(name))
        one: NDArray[np.float32] = self._kept[1][expert]
        return one


def _block(read: _ExpertReader, wished: int) -> int:
    """Returns the largest block size up to `wished` that divides all inputs.

    Raises:
        ModelError: `decoder_unsupported`: the operator takes none that does.
    """
    block, sizes = wished, [read.shape(part)[1] for part in _PARTS]
    while any(size % block for size in sizes):
        block //= 2
    if block < MIN_BLOCK:
        raise ModelError(
            "decoder_unsupported", what=f"moe_intermediate_size {sizes[1]}", known="16 n"
        )
    return block


def _quantized(
    builder: GraphBuilder, read: _ExpertReader, part: str, name: str, block: int
) -> list[str]:
    """Stores one part of all experts as `QMoE` reads it: values and scales."""
    bits = 4 if builder.scheme.precision == "int4" else 8
    quantize = int4_blocks if bits == 4 else int8_blocks
    outputs, inputs = read.shape(part)
    values = np.empty((len(read.all), outputs, inputs * bits // 8), np.uint8)
    scales = np.empty((len(read.all), outputs, inputs // block), np.float32)
    for expert in read.all:
        found, scales[expert] = quantize(usable(read(part, expert), name), block)
        values[expert] = found.reshape(outputs, -1)
    label = f"{name}.experts.{part}"
    return [
        builder.weight(f"{label}_q{bits}", values),
        builder.weight(f"{label}_scales", scales),
    ]


def _shared(tower: Tower, number: int, x: str) -> str:
    """Adds the expert that every token goes through, scaled by a sigmoid gate of its own."""
    builder, name = tower.builder, f"{tower.shape.prefix}layers.{number}.mlp"
    found = tower.feed_forward(number, x, "mlp.shared_expert")
    weights = tower.source.read(f"{name}.shared_expert_gate.weight")
    gate = builder.linear(x, f"{name}.shared_expert_gate", weights, precision="fp32")
    share = builder.op("Sigmoid", gate, name=f"{name}.share")
    return builder.op("Mul", found, share, name=f"{name}.shared")
