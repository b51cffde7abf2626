"""A tiny Whisper with seeded weights, in the formats that conversions start from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from onnx_zoo import ctranslate2_bytes

Tensors = dict[str, np.ndarray]

BANDS, WIDTH, INNER, LAYERS, HEADS = 80, 64, 96, 2, 2
VOCABULARY, SOURCE, TARGET = 120, 1500, 48
CONFIG: dict[str, Any] = {
    "architectures": ["WhisperForConditionalGeneration"],
    "model_type": "whisper",
    "d_model": WIDTH,
    "num_mel_bins": BANDS,
    "vocab_size": VOCABULARY,
    "encoder_layers": LAYERS,
    "decoder_layers": LAYERS,
    "encoder_attention_heads": HEADS,
    "decoder_attention_heads": HEADS,
    "encoder_ffn_dim": INNER,
    "decoder_ffn_dim": INNER,
    "max_source_positions": SOURCE,
    "max_target_positions": TARGET,
    "activation_function": "gelu",
    "scale_embedding": False,
    "dropout": 0.0,
    "pad_token_id": 100,
    "bos_token_id": 100,
    "eos_token_id": 100,
    "decoder_start_token_id": 101,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
}
GENERATION: dict[str, Any] = {
    "pad_token_id": 100,
    "eos_token_id": 100,
    "decoder_start_token_id": 101,
    "lang_to_id": {"<|en|>": 102, "<|es|>": 103},
    "task_to_id": {"translate": 104, "transcribe": 105},
    "no_timestamps_token_id": 107,
    "is_multilingual": True,
    "suppress_tokens": [1, 2, 101, 102, 103, 104, 105, 106],
    "begin_suppress_tokens": [3, 100],
    "max_length": TARGET,
}


def weights(seed: int = 7) -> Tensors:
    """Returns every tensor under Hugging Face's names; states vary enough to tell mistakes."""
    rng = np.random.default_rng(seed)
    made: Tensors = {}

    def add(name: str, *shape: int, scale: float = 1.0, around: float = 0.0) -> None:
        drawn = around + scale * rng.standard_normal(shape)
        made[f"model.{name}"] = drawn.astype(np.float32)

    def linear(name: str, rows: int, columns: int, *, bias: bool = True) -> None:
        add(f"{name}.weight", rows, columns, scale=1.2 / columns**0.5)
        if bias:
            add(f"{name}.bias", rows, scale=0.2)

    def norm(name: str) -> None:
        add(f"{name}.weight", WIDTH, scale=0.2, around=1)
        add(f"{name}.bias", WIDTH, scale=0.2)

    def attention(name: str) -> None:
        for letter in "qkv":
            linear(f"{name}.{letter}_proj", WIDTH, WIDTH, bias=letter != "k")
        linear(f"{name}.out_proj", WIDTH, WIDTH)
        norm(f"{name}_layer_norm")

    add("encoder.conv1.weight", WIDTH, BANDS, 3, scale=0.1)
    add("encoder.conv1.bias", WIDTH, scale=0.1)
    add("encoder.conv2.weight", WIDTH, WIDTH, 3, scale=0.1)
    add("encoder.conv2.bias", WIDTH, scale=0.1)
    add("encoder.embed_positions.weight", SOURCE, WIDTH, scale=0.5)
    # The head is this table too: with larger values each token would be followed by itself.
    add("decoder.embed_positions.weight", TARGET, WIDTH, scale=2)
    add("decoder.embed_tokens.weight", VOCABULARY, WIDTH, scale=0.1)
    for side in ("encoder", "decoder"):
        for index in range(LAYERS):
            layer = f"{side}.layers.{index}"
            attention(f"{layer}.self_attn")
            if side == "decoder":
                attention(f"{layer}.encoder_attn")
            linear(f"{layer}.fc1", INNER, WIDTH)
            linear(f"{layer}.fc2", WIDTH, INNER)
            norm(f"{layer}.final_layer_norm")
        norm(f"{side}.layer_norm")
    return made


def features(frames: int, seed: int = 3) -> np.ndarray:
    """Returns seeded log-mel frames [1, bands, frames] in Whisper's range."""
    drawn = np.random.default_rng(seed).standard_normal((1, BANDS, frames))
    return np.clip(0.4 * drawn, -1, 1.5).astype(np.float32)


def safetensors_bytes(tensors: Mapping[str, np.ndarray], **metadata: str) -> bytes:
    """Returns a safetensors file; uint16 stands for bfloat16's bits."""
    dtypes = {"float32": "F32", "float16": "F16", "uint16": "BF16", "int64": "I64", "int8": "I8"}
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    offset = 0
    for name, array in tensors.items():
        header[name] = {
            "dtype": dtypes[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [offset, offset + array.nbytes],
        }
        offset += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    data = b"".join(np.ascontiguousarray(array).tobytes() for array in tensors.values())
    return len(text).to_bytes(8, "little") + text + data


def hugging_face(folder: Path, tensors: Tensors | None = None) -> Path:
    """Writes a Hugging Face folder and returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "generation_config.json").write_text(json.dumps(GENERATION))
    content = safetensors_bytes(weights() if tensors is None else tensors, format="pt")
    (folder / "model.safetensors").write_bytes(content)
    return folder


def ctranslate2_variables(kind: str = "float32") -> list[tuple[str, np.ndarray]]:
    """Returns the same weights as CTranslate2 lays them out.

    Args:
        kind: `float32`, `float16`, or `int8` or `int16` for the linear layers and the embedding.
    """
    ours = {name.removeprefix("model."): array for name, array in weights().items()}
    made: Tensors = {}

    def put(name: str, array: np.ndarray, *, quantized: bool = False) -> None:
        if not quantized or kind in {"float32", "float16"}:
            made[name] = array.astype("float16" if kind == "float16" else "float32")
        elif kind == "int8":  # CTranslate2's model_spec.py: one scale a row, also of convolutions
            rows = np.abs(array.reshape(len(array), -1)).max(axis=1)
            scale = (127 / rows).astype(np.float32)
            wide = scale.reshape(-1, *[1] * (array.ndim - 1))
            made[name] = np.rint(array * wide).astype(np.int8)
            made[f"{name}_scale"] = scale
        else:
            scale = np.float32(1024 / np.abs(array).max())
            made[name] = np.rint(array * scale).astype(np.int16)
            made[f"{name}_scale"] = np.asarray(scale)

    def linear(name: str, *parts: str) -> None:
        put(f"{name}/weight", np.concatenate([ours[f"{p}.weight"] for p in parts]), quantized=True)
        biases = [ours.get(f"{p}.bias", np.zeros(WIDTH, np.float32)) for p in parts]
        put(f"{name}/bias", np.concatenate(biases))

    def norm(name: str, part: str) -> None:
        put(f"{name}/gamma", ours[f"{part}.weight"])
        put(f"{name}/beta", ours[f"{part}.bias"])

    for side in ("encoder", "decoder"):
        made[f"{side}/num_heads"] = np.asarray(HEADS, np.int16)
        put(f"{side}/position_encodings/encodings", ours[f"{side}.embed_positions.weight"])
        norm(f"{side}/layer_norm", f"{side}.layer_norm")
        for index in range(LAYERS):
            there, here = f"{side}/layer_{index}", f"{side}.layers.{index}"
            linear(
                f"{there}/self_attention/linear_0",
                *(f"{here}.self_attn.{letter}_proj" for letter in "qkv"),
            )
            linear(f"{there}/self_attention/linear_1", f"{here}.self_attn.out_proj")
            norm(f"{there}/self_attention/layer_norm", f"{here}.self_attn_layer_norm")
            if side == "decoder":
                cross = f"{here}.encoder_attn"
                linear(f"{there}/attention/linear_0", f"{cross}.q_proj")
                linear(f"{there}/attention/linear_1", f"{cross}.k_proj", f"{cross}.v_proj")
                linear(f"{there}/attention/linear_2", f"{cross}.out_proj")
                norm(f"{there}/attention/layer_norm", f"{cross}_layer_norm")
            linear(f"{there}/ffn/linear_0", f"{here}.fc1")
            linear(f"{there}/ffn/linear_1", f"{here}.fc2")
            norm(f"{there}/ffn/layer_norm", f"{here}.final_layer_norm")
    for name in ("conv1", "conv2"):
        put(f"encoder/{name}/weight", ours[f"encoder.{name}.weight"], quantized=True)
        put(f"encoder/{name}/bias", ours[f"encoder.{name}.bias"])
    put("decoder/embeddings/weight", ours["decoder.embed_tokens.weight"], quantized=True)
    for name, value in _SETTINGS.items():
        made[f"decoder/{name}"] = np.asarray(value, np.int8)
    made["decoder/alignment_heads"] = np.asarray(1, np.int16)
    made["decoder/alignment_layer"] = np.asarray(-1, np.int16)
    return sorted(made.items())


_SETTINGS = {
    "activation": 3,
    "alibi": 0,
    "alibi_use_positive_positions": 0,
    "pre_norm": 1,
    "scale_alibi": 0,
    "scale_embeddings": 0,
    "start_from_zero_embedding": 0,
}


def ctranslate2(folder: Path, kind: str = "float32") -> Path:
    """Writes a CTranslate2 folder and returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    variables = ctranslate2_variables(kind)
    # The head is the embedding, under another name: aliases come last.
    shared = [name for name, _ in variables if name.startswith("decoder/embeddings/weight")]
    content = ctranslate2_bytes(variables)[:-4] + len(shared).to_bytes(4, "little")
    for name in shared:
        for text in (name.replace("embeddings", "projection"), name):
            content += (len(text) + 1).to_bytes(2, "little") + text.encode() + b"\0"
    (folder / "model.bin").write_bytes(content)
    config = {
        "suppress_ids": GENERATION["suppress_tokens"],
        "suppress_ids_begin": GENERATION["begin_suppress_tokens"],
        "lang_ids": [102, 103],
        "alignment_heads": [[1, 0]],
    }
    (folder / "config.json").write_text(json.dumps(config))
    words = [f"w{index}" for index in range(100)] + ["<|endoftext|>", "<|startoftranscript|>"]
    words += ["<|en|>", "<|es|>", "<|translate|>", "<|transcribe|>", "<|nospeech|>"]
    words += ["<|notimestamps|>"]
    words += [f"<|{index}|>" for index in range(VOCABULARY - len(words))]
    (folder / "vocabulary.json").write_text(json.dumps(words))
    return folder
