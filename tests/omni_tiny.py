"""A Qwen3-Omni small enough for tests: its configuration, weights, inputs and graphs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from vozmetro.models.convert import audio_encoder, code2wav, omni
from vozmetro.models.convert.builder import Scheme
from vozmetro.models.convert.dummy_source import DummySource

PARITY = Path(__file__).parent / "data" / "parity"
SEED = 3
ROPE = {"rope_theta": 1e6, "rope_scaling": {"mrope_section": [6, 5, 5], "rope_type": "default"}}
CONFIG: dict[str, Any] = {
    "model_type": "qwen3_omni_moe",
    "thinker_config": {
        "audio_config": {
            "num_mel_bins": 32,
            "d_model": 48,
            "encoder_attention_heads": 3,
            "encoder_ffn_dim": 96,
            "encoder_layers": 2,
            "downsample_hidden_size": 8,
            "output_dim": 64,
            "n_window": 50,
            "n_window_infer": 200,
            "max_source_positions": 100,
            "activation_function": "gelu",
        },
        "text_config": {
            "num_hidden_layers": 2,
            "hidden_size": 64,
            "intermediate_size": 48,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 32,
            "moe_intermediate_size": 48,
            "num_experts": 8,
            "num_experts_per_tok": 3,
            "norm_topk_prob": True,
            "vocab_size": 200,
            "max_position_embeddings": 512,
            "rms_norm_eps": 1e-6,
            **ROPE,
        },
    },
    "talker_config": {
        "thinker_hidden_size": 64,
        "spatial_merge_size": 2,
        "num_code_groups": 4,
        "text_config": {
            "num_hidden_layers": 2,
            "hidden_size": 48,
            "intermediate_size": 96,
            "num_attention_heads": 4,
            "num_key_value_heads": 1,
            "head_dim": 32,
            "moe_intermediate_size": 32,
            "shared_expert_intermediate_size": 40,
            "num_local_experts": 8,
            "num_experts_per_tok": 2,
            "norm_topk_prob": True,
            "vocab_size": 90,
            "max_position_embeddings": 512,
            **ROPE,
        },
        "code_predictor_config": {
            "num_hidden_layers": 2,
            "hidden_size": 48,
            "head_dim": 32,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "intermediate_size": 80,
            "vocab_size": 60,
            "num_code_groups": 4,
            "rope_theta": 1000000,
            "rms_norm_eps": 1e-6,
            "max_position_embeddings": 512,
        },
    },
    "code2wav_config": {
        "codebook_size": 50,
        "decoder_dim": 64,
        "hidden_size": 64,
        "intermediate_size": 96,
        "max_position_embeddings": 256,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "num_hidden_layers": 2,
        "num_quantizers": 3,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000,
        "sliding_window": 6,
        "upsample_rates": [4, 3],
        "upsampling_ratios": [2, 2],
    },
}


def source(component: str) -> DummySource:
    """The component's weights, with those of its head."""
    parts = {"thinker": ("thinker", "thinker_head")}.get(component, (component,))
    return DummySource(CONFIG, *parts, seed=SEED)


def write(component: str, folder: Path, scheme: Scheme | None = None, **more: Any) -> Path:
    order = omni.Order(folder / f"{component}.onnx", scheme or Scheme(), {}, **more)
    return WRITERS[component](source(component), order)


WRITERS = {
    "thinker": lambda source, order: omni.write_thinker(source, CONFIG, order),
    "talker": lambda source, order: omni.write_talker(source, CONFIG, order),
    "talker_projection": omni.write_talker_projection,
    "code_predictor": lambda source, order: omni.write_code_predictor(source, CONFIG, order),
    "audio_encoder": lambda source, order: audio_encoder.write_audio_encoder(source, CONFIG, order),
    "code2wav": lambda source, order: code2wav.write_code2wav(source, CONFIG, order),
}


def feeds(component: str) -> list[dict[str, np.ndarray]]:
    """Inputs of different lengths, caches left out."""
    rng = np.random.default_rng(7)
    if component == "thinker":
        return [{"input_ids": rng.integers(0, 200, (1, n))} for n in (1, 11)]
    if component == "talker":
        return [{"inputs_embeds": _floats(rng, 1, n, 48)} for n in (1, 9)]
    if component == "talker_projection":
        return [{"hidden": _floats(rng, 1, 5, 64)}]
    if component == "code_predictor":
        return [
            {"inputs_embeds": _floats(rng, 1, n, 48), "step": np.array([n - 2])} for n in (2, 4)
        ]
    if component == "audio_encoder":  # less than a chunk, a chunk, parts of one, over a window
        return [{"input_features": _floats(rng, 1, 32, n)} for n in (57, 100, 199, 233, 401)]
    if component == "codec_embedding":
        return [{"codes": np.arange(90 + 3 * 60)[None]}]
    return [{"codes": rng.integers(0, 50, (1, 3, n))} for n in (1, 5, 20)]


def _floats(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape, np.float32)


def run(session: Any, given: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Runs a graph on empty caches; returns its outputs but for the caches."""
    full = dict(given)
    for port in session.get_inputs():
        if port.name == "attention_mask":
            tokens = next(v for v in given.values() if v.ndim > 1).shape[1]
            full["attention_mask"] = np.ones((1, tokens), np.int64)
        elif port.name.startswith("past"):
            _, heads, _, width = port.shape
            full[port.name] = np.zeros((1, heads, 0, width), np.float32)
    names = [o.name for o in session.get_outputs() if not o.name.startswith("present")]
    return session.run(names, full)
