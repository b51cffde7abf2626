"""The weights that one token of a known language model passes through, without any file."""

from __future__ import annotations

import math

from vozmetro.errors import InputError
from vozmetro.models.architectures import Architecture

_HEADS = {"text": "", "thinker": "thinker_head"}
"""Component that makes text -> the component with its head; empty for a tied one."""


def token_weights(architecture: Architecture) -> int:
    """Returns how many weights one token reads: of each layer's experts only those it takes.

    The embedding table is looked up, one row; where it is the head too, it is read whole.

    Raises:
        InputError: `roofline_architecture` for one that is no language model.
    """
    main = next((name for name in _HEADS if name in architecture.components), None)
    if main is None:
        raise InputError("roofline_architecture", name=architecture.name)
    config = architecture.config
    text = config.get("thinker_config", config)["text_config"]
    share = text.get("num_experts_per_tok", 1) / (text.get("num_experts") or 1)
    parts = [main, *([_HEADS[main]] if _HEADS[main] in architecture.components else [])]
    tied = bool(config.get("tie_word_embeddings", False)) and len(parts) == 1
    total = 0.0
    for part in parts:
        for name, shape in architecture.shapes(part).items():
            if len(shape) < 2 or ("embed" in name and not tied):
                continue
            total += math.prod(shape) * (share if ".experts." in name else 1.0)
    return round(total)
