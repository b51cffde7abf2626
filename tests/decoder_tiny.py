"""Small language models with seeded weights, for parity with `transformers` and other tests.

The weights are made from their names, so that the recorded outputs in `data/parity` are all that
the light suite needs.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vozmetro.engines.base import LoadRequest
from vozmetro.engines.language_model import ENGINE, OrtLanguageModel
from vozmetro.models.convert.builder import Scheme
from vozmetro.models.convert.decoder import DecoderShape, write_decoder

PARITY = Path(__file__).parent / "data" / "parity"
PROMPT, TOKENS = 7, 19
"""Tokens read at once, and all of them; the rest is decoded one by one."""

_SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 80,
    "vocab_size": 199,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-6,
    "hidden_act": "silu",
}
_LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
_MROPE = {
    "rope_type": "default",
    "rope_theta": 5e6,
    "mrope_interleaved": True,
    "mrope_section": [6, 5, 5],
}
CONFIGS: dict[str, dict[str, Any]] = {
    "qwen3": {
        "model_type": "qwen3",
        **_SIZES,
        "head_dim": 32,
        "rope_theta": 1e6,
        "tie_word_embeddings": True,
    },
    "qwen3_untied": {
        "model_type": "qwen3",
        **_SIZES,
        "head_dim": 32,
        "num_key_value_heads": 4,
        "attention_bias": True,
        "rope_theta": 1e6,
        "tie_word_embeddings": False,
    },
    "qwen3_vl": {
        "model_type": "qwen3_vl",
        "tie_word_embeddings": True,
        "text_config": {
            "model_type": "qwen3_vl_text",
            **_SIZES,
            "head_dim": 32,
            "rope_parameters": _MROPE,
        },
        "vision_config": {
            "depth": 1,
            "hidden_size": 32,
            "num_heads": 2,
            "intermediate_size": 32,
            "out_hidden_size": 64,
            "deepstack_visual_indexes": [0],
        },
    },
    "qwen2": {
        "model_type": "qwen2",
        **_SIZES,
        "rope_theta": 1e6,
        "tie_word_embeddings": True,
    },
    "smollm2": {
        "model_type": "llama",
        **_SIZES,
        "hidden_size": 48,
        "num_attention_heads": 3,
        "num_key_value_heads": 1,
        "rope_theta": 100000.0,
        "tie_word_embeddings": True,
    },
    "llama3": {
        "model_type": "llama",
        **_SIZES,
        "attention_bias": True,
        "mlp_bias": True,
        "rope_parameters": _LLAMA3,
        "tie_word_embeddings": False,
    },
}


def tensor(name: str, shape: Sequence[int]) -> NDArray[np.float32]:
    """Returns the seeded weights of a name: norms around one, the rest around zero."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    values = random.standard_normal(tuple(shape), np.float32) * np.float32(0.15)
    return values + np.float32(1) if "norm" in name else values


class TinySource:
    """A `WeightSource` of `tensor`s.

    Args:
        shapes: By name.
    """

    weights: Literal["real", "dummy"] = "dummy"

    def __init__(self, shapes: Mapping[str, Sequence[int]]) -> None:
        self._shapes = {name: tuple(shape) for name, shape in shapes.items()}

    def names(self) -> list[str]:
        return list(self._shapes)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._shapes[name]

    def read(self, name: str) -> NDArray[np.float32]:
        return tensor(name, self._shapes[name])


class RowsSource(TinySource):
    """The same, read by rows."""

    def read_rows(self, name: str, start: int, stop: int) -> NDArray[np.float32]:
        return self.read(name)[start:stop].copy()


def shapes(shape: DecoderShape) -> dict[str, tuple[int, ...]]:
    """Returns what weights a model of that shape has, as Hugging Face names them."""
    prefix, hidden = shape.prefix, shape.hidden
    found: dict[str, tuple[int, ...]] = {
        f"{prefix}embed_tokens.weight": (shape.vocabulary, hidden),
        f"{prefix}norm.weight": (hidden,),
    }
    if not shape.tied:
        found[shape.head] = (shape.vocabulary, hidden)
    for number in range(shape.layers):
        layer = f"{prefix}layers.{number}."
        for norm in ("input_layernorm", "post_attention_layernorm"):
            found[f"{layer}{norm}.weight"] = (hidden,)
        widths = {"q": shape.queries, "k": shape.keys, "v": shape.keys}
        for part, width in widths.items():
            found[f"{layer}self_attn.{part}_proj.weight"] = (width, hidden)
            if shape.qkv_bias:
                found[f"{layer}self_attn.{part}_proj.bias"] = (width,)
            if shape.qk_norm and part != "v":
                found[f"{layer}self_attn.{part}_norm.weight"] = (shape.head_dim,)
        outputs = {
            "self_attn.o": (hidden, shape.queries, shape.output_bias),
            "mlp.gate": (shape.intermediate, hidden, shape.mlp_bias),
            "mlp.up": (shape.intermediate, hidden, shape.mlp_bias),
            "mlp.down": (hidden, shape.intermediate, shape.mlp_bias),
        }
        for part, (rows, columns, bias) in outputs.items():
            found[f"{layer}{part}_proj.weight"] = (rows, columns)
            if bias:
                found[f"{layer}{part}_proj.bias"] = (rows,)
    return found


def write(path: Path, case: str = "qwen3", scheme: Scheme | None = None, **more: Any) -> Path:
    """Writes a tiny model."""
    shape = DecoderShape.from_config(CONFIGS[case])
    return write_decoder(TinySource(shapes(shape)), shape, path, scheme or Scheme(), {}, **more)


def load(path: Path, **options: str) -> OrtLanguageModel:
    """Loads a model with one thread."""
    model = ENGINE.load(LoadRequest(path, 1, options))
    assert isinstance(model, OrtLanguageModel)
    return model


def ids() -> NDArray[np.int64]:
    """Returns the tokens that parity is checked on."""
    return np.random.default_rng(7).integers(0, _SIZES["vocab_size"], TOKENS)


def said(model: OrtLanguageModel) -> NDArray[np.float32]:
    """Returns its logits after the prompt and after each further token."""
    tokens = ids()
    steps = [model.prefill(tokens[:PROMPT])]
    return np.stack([*steps, *(model.decode(int(token)) for token in tokens[PROMPT:])])
