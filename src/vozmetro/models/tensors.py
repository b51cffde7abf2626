"""Names and shapes of the tensors of known architectures, as in `transformers`' state dicts.

One table serves counting parameters and making dummy weights. A tied head is left out: it is the
embedding table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Config = Mapping[str, Any]
Shapes = dict[str, tuple[int, ...]]


def components(config: Config) -> tuple[str, ...]:
    """Returns the names of the parts of a model that `shapes` knows."""
    return tuple(_TABLES[str(config["model_type"])])


def shapes(config: Config, component: str) -> Shapes:
    """Returns the shape of every tensor of a component by its name."""
    return _TABLES[str(config["model_type"])][component](config)


def _decoder(prefix: str, text: Config, feed: Callable[[str], Shapes]) -> Shapes:
    """The layers and the last norm of a Qwen3 decoder."""
    hidden, head = text["hidden_size"], text["head_dim"]
    queries, keys = text["num_attention_heads"] * head, text["num_key_value_heads"] * head
    found: Shapes = {}
    for layer in range(text["num_hidden_layers"]):
        name = f"{prefix}layers.{layer}."
        found |= {
            f"{name}self_attn.q_proj.weight": (queries, hidden),
            f"{name}self_attn.k_proj.weight": (keys, hidden),
            f"{name}self_attn.v_proj.weight": (keys, hidden),
            f"{name}self_attn.o_proj.weight": (hidden, queries),
            f"{name}self_attn.q_norm.weight": (head,),
            f"{name}self_attn.k_norm.weight": (head,),
            f"{name}input_layernorm.weight": (hidden,),
            f"{name}post_attention_layernorm.weight": (hidden,),
            **feed(f"{name}mlp."),
        }
    return found | {f"{prefix}norm.weight": (hidden,)}


def _gated(prefix: str, hidden: int, inner: int) -> Shapes:
    return {
        f"{prefix}gate_proj.weight": (inner, hidden),
        f"{prefix}up_proj.weight": (inner, hidden),
        f"{prefix}down_proj.weight": (hidden, inner),
    }


def _experts(prefix: str, text: Config) -> Shapes:
    hidden, inner = text["hidden_size"], text["moe_intermediate_size"]
    count = text.get("num_experts") or text["num_local_experts"]
    found: Shapes = {
        f"{prefix}gate.weight": (count, hidden),
        f"{prefix}experts.gate_up_proj": (count, 2 * inner, hidden),
        f"{prefix}experts.down_proj": (count, hidden, inner),
    }
    shared = text.get("shared_expert_intermediate_size", 0)
    if shared:
        found |= _gated(f"{prefix}shared_expert.", hidden, shared)
        found[f"{prefix}shared_expert_gate.weight"] = (1, hidden)
    return found


def _layer(name: str, outputs: int, *inputs: int, bias: bool = True) -> Shapes:
    """A linear layer or a convolution, or (without inputs) a norm."""
    found: Shapes = {f"{name}.weight": (outputs, *inputs)}
    return found | ({f"{name}.bias": (outputs,)} if bias else {})


def _vl_text(config: Config) -> Shapes:
    text, prefix = config["text_config"], "model.language_model."
    hidden, inner = text["hidden_size"], text["intermediate_size"]
    found: Shapes = {f"{prefix}embed_tokens.weight": (text["vocab_size"], hidden)}
    found |= _decoder(prefix, text, lambda name: _gated(name, hidden, inner))
    if not config["tie_word_embeddings"]:
        found["lm_head.weight"] = (text["vocab_size"], hidden)
    return found


def _vision(prefix: str, config: Config, merger: Callable[[str, int], Shapes]) -> Shapes:
    """A vision tower; `merger` makes its last part (number -1) and those beside it."""
    width, inner = config["hidden_size"], config["intermediate_size"]
    patch = (config["in_channels"], config["temporal_patch_size"], *(config["patch_size"],) * 2)
    found = _layer(f"{prefix}patch_embed.proj", width, *patch)
    found[f"{prefix}pos_embed.weight"] = (config["num_position_embeddings"], width)
    for block in range(config["depth"]):
        name = f"{prefix}blocks.{block}."
        found |= _layer(f"{name}norm1", width) | _layer(f"{name}norm2", width)
        found |= _layer(f"{name}attn.qkv", 3 * width, width)
        found |= _layer(f"{name}attn.proj", width, width)
        found |= _layer(f"{name}mlp.linear_fc1", inner, width)
        found |= _layer(f"{name}mlp.linear_fc2", width, inner)
    for number in range(-1, len(config["deepstack_visual_indexes"])):
        found |= merger(prefix, number)
    return found


def _vl_vision(config: Config) -> Shapes:
    vision = config["vision_config"]
    wide = vision["hidden_size"] * vision["spatial_merge_size"] ** 2

    def merger(prefix: str, number: int) -> Shapes:
        name = f"{prefix}merger" if number < 0 else f"{prefix}deepstack_merger_list.{number}"
        found = _layer(f"{name}.norm", vision["hidden_size"] if number < 0 else wide)
        found |= _layer(f"{name}.linear_fc1", wide, wide)
        return found | _layer(f"{name}.linear_fc2", vision["out_hidden_size"], wide)

    return _vision("model.visual.", vision, merger)


def _omni_vision(config: Config) -> Shapes:
    vision = config["thinker_config"]["vision_config"]
    wide = vision["hidden_size"] * vision["spatial_merge_size"] ** 2

    def merger(prefix: str, number: int) -> Shapes:
        name = f"{prefix}merger" if number < 0 else f"{prefix}merger_list.{number}"
        found = _layer(f"{name}.ln_q", vision["hidden_size"] if number < 0 else wide)
        found |= _layer(f"{name}.mlp.0", wide, wide)
        return found | _layer(f"{name}.mlp.2", vision["out_hidden_size"], wide)

    return _vision("thinker.model.visual.", vision, merger)


def _audio_encoder(config: Config) -> Shapes:
    audio, prefix = config["thinker_config"]["audio_config"], "thinker.model.audio_tower."
    width, inner, maps = audio["d_model"], audio["encoder_ffn_dim"], audio["downsample_hidden_size"]
    found: Shapes = {}
    for layer in range(audio["encoder_layers"]):
        name = f"{prefix}layers.{layer}."
        for part in ("k_proj", "v_proj", "q_proj", "out_proj"):
            found |= _layer(f"{name}self_attn.{part}", width, width)
        found |= _layer(f"{name}self_attn_layer_norm", width)
        found |= _layer(f"{name}fc1", inner, width) | _layer(f"{name}fc2", width, inner)
        found |= _layer(f"{name}final_layer_norm", width)
    found |= _layer(f"{prefix}ln_post", width)
    for number, channels in enumerate((1, maps, maps), 1):
        found |= _layer(f"{prefix}conv2d{number}", maps, channels, 3, 3)
    bands = -(-audio["num_mel_bins"] // 8)  # three strides of 2, each rounded up
    found |= _layer(f"{prefix}conv_out", width, maps * bands, bias=False)
    found |= _layer(f"{prefix}proj1", width, width)
    return found | _layer(f"{prefix}proj2", audio["output_dim"], width)


def _thinker(config: Config) -> Shapes:
    text, prefix = config["thinker_config"]["text_config"], "thinker.model.language_model."
    found: Shapes = {f"{prefix}embed_tokens.weight": (text["vocab_size"], text["hidden_size"])}
    return found | _decoder(prefix, text, lambda name: _experts(name, text))


def _thinker_head(config: Config) -> Shapes:
    text = config["thinker_config"]["text_config"]
    return {"thinker.lm_head.weight": (text["vocab_size"], text["hidden_size"])}


def _talker(config: Config) -> Shapes:
    text = config["talker_config"]["text_config"]
    hidden = text["hidden_size"]
    found = _decoder("talker.model.", text, lambda name: _experts(name, text))
    found["talker.model.codec_embedding.weight"] = (text["vocab_size"], hidden)
    found["talker.codec_head.weight"] = (text["vocab_size"], hidden)
    return found


def _talker_projection(config: Config) -> Shapes:
    talker = config["talker_config"]
    text = talker["text_config"]
    found: Shapes = {}
    for part in ("text", "hidden"):
        name, inner = f"talker.{part}_projection.linear_fc", text["intermediate_size"]
        found |= _layer(f"{name}1", inner, talker["thinker_hidden_size"])
        found |= _layer(f"{name}2", text["hidden_size"], inner)
    return found


def _code_predictor(config: Config) -> Shapes:
    code, prefix = config["talker_config"]["code_predictor_config"], "talker.code_predictor."
    hidden, inner = code["hidden_size"], code["intermediate_size"]
    found = _decoder(f"{prefix}model.", code, lambda name: _gated(name, hidden, inner))
    for group in range(code["num_code_groups"] - 1):
        table = (code["vocab_size"], hidden)
        found[f"{prefix}model.codec_embedding.{group}.weight"] = table
        found[f"{prefix}lm_head.{group}.weight"] = table
    return found


def _code2wav(config: Config) -> Shapes:
    code, prefix = config["code2wav_config"], "code2wav."
    width, inner = code["hidden_size"], code["intermediate_size"]
    found: Shapes = {
        f"{prefix}code_embedding.weight": (code["codebook_size"] * code["num_quantizers"], width)
    }
    for layer in range(code["num_hidden_layers"]):
        name = f"{prefix}pre_transformer.layers.{layer}."
        for part in ("q_proj", "k_proj", "v_proj", "o_proj"):
            found[f"{name}self_attn.{part}.weight"] = (width, width)
        found |= _gated(f"{name}mlp.", width, inner)
        for part in ("input_layernorm.weight", "post_attention_layernorm.weight"):
            found[f"{name}{part}"] = (width,)
        for part in ("self_attn_layer_scale.scale", "mlp_layer_scale.scale"):
            found[f"{name}{part}"] = (width,)
    found[f"{prefix}pre_transformer.norm.weight"] = (width,)
    for stage, factor in enumerate(code["upsampling_ratios"]):
        name = f"{prefix}upsample.{stage}."
        found |= _layer(f"{name}0.conv", width, width, factor)
        found |= {f"{name}1.gamma": (width,)} | _layer(f"{name}1.dwconv.conv", width, 1, 7)
        found |= _layer(f"{name}1.norm", width) | _layer(f"{name}1.pwconv1", 4 * width, width)
        found |= _layer(f"{name}1.pwconv2", width, 4 * width)
    return found | _vocoder(f"{prefix}decoder.", code)


def _vocoder(prefix: str, code: Config) -> Shapes:
    """The convolutions from features to samples."""
    width, rates = code["decoder_dim"], code["upsample_rates"]
    found = _layer(f"{prefix}0.conv", width, code["hidden_size"], 7)
    for number, rate in enumerate(rates, 1):
        name, half = f"{prefix}{number}.block.", width // 2
        found |= _snake(f"{name}0", width)
        # A transposed convolution's weights are [inputs, outputs, kernel].
        found |= {f"{name}1.conv.weight": (width, half, 2 * rate), f"{name}1.conv.bias": (half,)}
        for unit in (2, 3, 4):
            found |= _snake(f"{name}{unit}.act1", half) | _snake(f"{name}{unit}.act2", half)
            found |= _layer(f"{name}{unit}.conv1.conv", half, half, 7)
            found |= _layer(f"{name}{unit}.conv2.conv", half, half, 1)
        width = half
    last = len(rates) + 1
    return (
        found | _snake(f"{prefix}{last}", width) | _layer(f"{prefix}{last + 1}.conv", 1, width, 7)
    )


def _snake(name: str, width: int) -> Shapes:
    return {f"{name}.alpha": (width,), f"{name}.beta": (width,)}


def _whisper(config: Config) -> Shapes:
    width = config["d_model"]
    found = _layer("model.encoder.conv1", width, config["num_mel_bins"], 3)
    found |= _layer("model.encoder.conv2", width, width, 3)
    found["model.encoder.embed_positions.weight"] = (config["max_source_positions"], width)
    found["model.decoder.embed_tokens.weight"] = (config["vocab_size"], width)
    found["model.decoder.embed_positions.weight"] = (config["max_target_positions"], width)
    for side, attentions in (
        ("encoder", ("self_attn",)),
        ("decoder", ("self_attn", "encoder_attn")),
    ):
        inner = config[f"{side}_ffn_dim"]
        for layer in range(config[f"{side}_layers"]):
            name = f"model.{side}.layers.{layer}."
            for attention in attentions:
                found |= _layer(f"{name}{attention}.k_proj", width, width, bias=False)
                for part in ("v_proj", "q_proj", "out_proj"):
                    found |= _layer(f"{name}{attention}.{part}", width, width)
                found |= _layer(f"{name}{attention}_layer_norm", width)
            found |= _layer(f"{name}fc1", inner, width) | _layer(f"{name}fc2", width, inner)
            found |= _layer(f"{name}final_layer_norm", width)
        found |= _layer(f"model.{side}.layer_norm", width)
    return found


_TABLES: Mapping[str, Mapping[str, Callable[[Config], Shapes]]] = {
    "qwen3_vl": {"text": _vl_text, "vision": _vl_vision},
    "qwen3_omni_moe": {
        "audio_encoder": _audio_encoder,
        "vision": _omni_vision,
        "thinker": _thinker,
        "thinker_head": _thinker_head,
        "talker": _talker,
        "talker_projection": _talker_projection,
        "code_predictor": _code_predictor,
        "code2wav": _code2wav,
    },
    "whisper": {"whisper": _whisper},
}
