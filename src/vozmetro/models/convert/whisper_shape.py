"""What a Whisper looks like, from `config.json` as Hugging Face writes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vozmetro.errors import ModelError

_MOST = 1 << 20
"""No size of a Whisper is near this; a config that says so is damaged or hostile."""


@dataclass(frozen=True)
class WhisperShape:
    """Sizes of a Whisper, tiny to large-v3.

    Attributes:
        bands: Mel bands: 80, or 128 in large-v3.
        width: Of the states between layers.
        vocabulary: Tokens.
        encoder_layers: How many.
        decoder_layers: How many.
        encoder_heads: Of the encoder's attention.
        decoder_heads: Of the decoder's.
        encoder_inner: Width inside the encoder's feed-forward layers.
        decoder_inner: Width inside the decoder's.
        source_positions: Positions of the encoder, half the frames of a window: 1500.
        target_positions: Positions of the decoder: 448.
    """

    bands: int
    width: int
    vocabulary: int
    encoder_layers: int
    decoder_layers: int
    encoder_heads: int
    decoder_heads: int
    encoder_inner: int
    decoder_inner: int
    source_positions: int = 1500
    target_positions: int = 448

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> WhisperShape:
        """Reads a `config.json`.

        Raises:
            ModelError: `whisper_unsupported`: another activation or scaled embeddings;
                `config_invalid`: a size is missing, or not one.
        """
        kind = config.get("model_type", "whisper")
        if kind != "whisper":
            raise ModelError("whisper_unsupported", what=f"model_type {kind}")
        activation = config.get("activation_function", "gelu")
        if activation != "gelu":
            raise ModelError("whisper_unsupported", what=f"activation_function {activation}")
        if config.get("scale_embedding"):
            raise ModelError("whisper_unsupported", what="scale_embedding")
        # The graph's head is the table of tokens, as of every published Whisper.
        if config.get("tie_word_embeddings", True) is False:
            raise ModelError("whisper_unsupported", what="tie_word_embeddings: false")
        found = cls(**{ours: _size(config, theirs) for ours, theirs in _KEYS.items()})
        for heads in (found.encoder_heads, found.decoder_heads):
            if found.width % heads:
                raise ModelError("config_invalid", name="d_model", value=found.width)
        return found

    @property
    def decoder_head(self) -> int:
        """Width of one of the decoder's heads."""
        return self.width // self.decoder_heads


_KEYS = {
    "bands": "num_mel_bins",
    "width": "d_model",
    "vocabulary": "vocab_size",
    "encoder_layers": "encoder_layers",
    "decoder_layers": "decoder_layers",
    "encoder_heads": "encoder_attention_heads",
    "decoder_heads": "decoder_attention_heads",
    "encoder_inner": "encoder_ffn_dim",
    "decoder_inner": "decoder_ffn_dim",
    "source_positions": "max_source_positions",
    "target_positions": "max_target_positions",
}
_DEFAULTS = {"max_source_positions": 1500, "max_target_positions": 448}


def _size(config: Mapping[str, Any], key: str) -> int:
    value = config.get(key, _DEFAULTS.get(key))
    if type(value) is not int or not 1 <= value <= _MOST:
        raise ModelError("config_invalid", name=key, value=str(value)[:40])
    return value
