"""What a decoder-only language model looks like, read from a Hugging Face `config.json`."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vozmetro.errors import ModelError

FAMILIES: Mapping[str, str] = {
    "qwen3": "model.",
    "qwen3_vl": "model.language_model.",
    "qwen3_vl_text": "",
    "qwen2": "model.",
    "llama": "model.",
}
"""Model types that `DecoderShape.from_config` reads, and where their weights are named."""
_PREFIXES = ("model.language_model.", "model.", "language_model.model.", "language_model.", "")
_HEAD_STEP = 8  # ONNX Runtime's GroupQueryAttention takes no other widths
_MOST = 1 << 24  # of any size or count; no published model comes near
CONTEXT = 8192
"""Positions that a converted model knows, where its config allows more: each costs a row of two
tables (4 MB for 8192 positions and heads of 128)."""


@dataclass(frozen=True)
class Llama3Scaling:
    """Stretches the slow rotations of RoPE as Llama 3.1 does (Meta, `llama3` in `transformers`).

    Attributes:
        factor: What wavelengths beyond `original / low` are stretched by.
        low: `low_freq_factor`.
        high: `high_freq_factor`: wavelengths below `original / high` stay as they are.
        original: Positions the model was first trained on.
    """

    factor: float
    low: float
    high: float
    original: int

    def apply(self, frequencies: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns the frequencies, the slow ones divided, smoothly in between."""
        turns = self.original * frequencies / (2 * math.pi)
        smooth = np.clip((turns - self.low) / (self.high - self.low), 0, 1)
        scaled: NDArray[np.float64] = frequencies * (smooth + (1 - smooth) / self.factor)
        return scaled


@dataclass(frozen=True)
class DecoderShape:
    """Sizes and choices of a decoder-only transformer with RMS norms, RoPE and SwiGLU.

    Attributes:
        model_type: As its config says, e.g. `qwen3`.
        hidden: Width between layers.
        layers: How many.
        heads: Query heads.
        kv_heads: Key and value heads; each serves `heads / kv_heads` query heads.
        head_dim: Width of a head.
        intermediate: Width inside the feed-forward part.
        vocabulary: Tokens.
        epsilon: Of the RMS norms.
        theta: Base of RoPE's wavelengths.
        scaling: How RoPE is stretched; None for plain RoPE.
        context: Positions the graph knows.
        tied: The head is the embedding table.
        qk_norm: Queries and keys are normalized per head (Qwen3).
        qkv_bias: Query, key and value projections have a bias.
        output_bias: The attention's output projection has one.
        mlp_bias: The feed-forward projections have one.
        prefix: What comes before `layers.0.` in the names of the weights.
        head: Name of the head's weights where not tied.
    """

    model_type: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int
    epsilon: float
    theta: float
    scaling: Llama3Scaling | None = None
    context: int = CONTEXT
    tied: bool = False
    qk_norm: bool = False
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    prefix: str = "model."
    head: str = "lm_head.weight"

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> DecoderShape:
        """Reads a `config.json`, of transformers 4 or 5.

        Raises:
            ModelError: `decoder_unsupported`: the family, the kind of RoPE or the activation is
                one that the graph writer does not know; `config_invalid`: a size is missing.
        """
        family = str(config.get("model_type"))
        if family not in FAMILIES:
            raise ModelError(
                "decoder_unsupported", what=f"model_type {family}", known=", ".join(FAMILIES)
            )
        text = {**config, **_table(config, "text_config")} if family == "qwen3_vl" else config
        tied = config.get("tie_word_embeddings", text.get("tie_word_embeddings", False))
        heads, hidden = _size(text, "num_attention_heads"), _size(text, "hidden_size")
        kv_heads = _size({"num_key_value_heads": heads, **text}, "num_key_value_heads")
        if heads % kv_heads:
            raise ModelError("config_invalid", name="num_key_value_heads", value=kv_heads)
        own_bias = bool(text.get("attention_bias", False))
        theta, scaling = _rope(text)
        width = _size(text, "head_dim") if text.get("head_dim") else hidden // heads
        _refuse(text, width)
        positions = _size({"max_position_embeddings": CONTEXT, **text}, "max_position_embeddings")
        return cls(
            model_type=family,
            hidden=hidden,
            layers=_size(text, "num_hidden_layers"),
            heads=heads,
            kv_heads=kv_heads,
            head_dim=width,
            intermediate=_size(text, "intermediate_size"),
            vocabulary=_size(text, "vocab_size"),
            epsilon=_number(text, "rms_norm_eps", 1e-6),
            theta=theta,
            scaling=scaling,
            context=min(positions, CONTEXT),
            tied=bool(tied),
            qk_norm=family.startswith("qwen3"),
            qkv_bias=own_bias or family == "qwen2",
            output_bias=own_bias,
            mlp_bias=bool(text.get("mlp_bias", False)),
            prefix=FAMILIES[family],
        )

    def located(self, names: Sequence[str]) -> DecoderShape:
        """Returns the shape with the prefix under which these names have the embedding table."""
        known = set(names)
        for prefix in (self.prefix, *_PREFIXES):
            if f"{prefix}embed_tokens.weight" in known:
                return replace(self, prefix=prefix)
        return self

    @property
    def queries(self) -> int:
        """Width of all query heads together."""
        return self.heads * self.head_dim

    @property
    def keys(self) -> int:
        """Width of all key heads together, and of all value heads."""
        return self.kv_heads * self.head_dim

    def rotations(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Returns RoPE's cosines and sines, float32 [context, head_dim / 2].

        Su et al. 2021, "RoFormer: Enhanced Transformer with Rotary Position Embedding", with the
        two halves of a head as pairs, as in `transformers`.
        """
        half = np.arange(0, self.head_dim, 2, dtype=np.float64) / self.head_dim
        frequencies = 1.0 / self.theta**half
        if self.scaling:
            frequencies = self.scaling.apply(frequencies)
        # float32 as transformers does it: far positions then round as in the source model.
        angles = np.outer(np.arange(self.context, dtype=np.float32), frequencies.astype(np.float32))
        return np.cos(angles), np.sin(angles)


def _size(config: Mapping[str, Any], key: str) -> int:
    value = config.get(key)
    if not isinstance(value, int) or not 1 <= value <= _MOST:
        raise ModelError("config_invalid", name=key, value=str(value)[:40])
    return value


def _number(config: Mapping[str, Any], key: str, default: float | None = None) -> float:
    value = config.get(key, default)
    # Compared, not converted: JSON's whole numbers may be longer than a float can hold.
    if isinstance(value, int | float) and 0 < value <= sys.float_info.max:
        return float(value)
    raise ModelError("config_invalid", name=key, value=str(value)[:40])


def _table(config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = config.get(key) or {}
    if not isinstance(value, dict):
        raise ModelError("config_invalid", name=key, value=str(value)[:40])
    return value


def _rope(config: Mapping[str, Any]) -> tuple[float, Llama3Scaling | None]:
    """Reads RoPE's base and stretching: `rope_parameters` of transformers 5, else 4's keys."""
    given = _table(config, "rope_parameters") or _table(config, "rope_scaling")
    kind = given.get("rope_type", given.get("type", "default"))
    # Only Llama's files leave it out, and mean RoFormer's base.
    default = 10000.0 if config.get("model_type") == "llama" else None
    theta = _number({"rope_theta": config.get("rope_theta", default), **given}, "rope_theta")
    if given.get("partial_rotary_factor", config.get("partial_rotary_factor")) not in (1, None):
        raise ModelError("decoder_unsupported", what="partial_rotary_factor", known="1.0")
    if kind in ("default", "mrope"):
        return theta, None
    if kind == "llama3":
        scaling = Llama3Scaling(
            factor=_number(given, "factor"),
            low=_number(given, "low_freq_factor"),
            high=_number(given, "high_freq_factor"),
            original=_size(given, "original_max_position_embeddings"),
        )
        return theta, scaling
    raise ModelError("decoder_unsupported", what=f"rope_type {kind}", known="default, llama3")


def _refuse(config: Mapping[str, Any], width: int) -> None:
    """Raises for what would make the graph compute something else than the model, or nothing."""
    if width % _HEAD_STEP:
        raise ModelError("decoder_unsupported", what=f"head_dim {width}", known="8, 16, 24...")
    activation = config.get("hidden_act", "silu")
    if activation not in ("silu", "swish"):
        raise ModelError("decoder_unsupported", what=f"hidden_act {activation}", known="silu")
    window = config.get("sliding_window")
    short = window is not None and _size(config, "sliding_window") < CONTEXT
    if config.get("use_sliding_window") and short:
        raise ModelError("decoder_unsupported", what="use_sliding_window", known="false")
