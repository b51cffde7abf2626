"""Names, shapes and counts of the architectures against `transformers` on the meta device."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import transformers
from transformers.models.qwen3_omni_moe import Qwen3OmniMoeConfig
from transformers.models.qwen3_omni_moe.modeling_qwen3_omni_moe import (
    Qwen3OmniMoeForConditionalGeneration,
)

from vozmetro.models.architectures import load, names

MADE: dict[str, Callable[[dict], torch.nn.Module]] = {
    "qwen3_vl": lambda config: transformers.Qwen3VLForConditionalGeneration(
        transformers.Qwen3VLConfig(**config)
    ),
    "qwen3_omni_moe": lambda config: Qwen3OmniMoeForConditionalGeneration(
        Qwen3OmniMoeConfig(**config)
    ),
    "whisper": lambda config: transformers.WhisperForConditionalGeneration(
        transformers.WhisperConfig(**config)
    ),
}


@pytest.mark.parametrize("name", names())
def test_names_and_shapes(name: str) -> None:
    architecture = load(name)
    with torch.device("meta"):
        model = MADE[architecture.config["model_type"]](dict(architecture.config))
    theirs = {key: tuple(value.shape) for key, value in model.named_parameters()}
    ours = {
        key: shape
        for component in architecture.components
        for key, shape in architecture.shapes(component).items()
    }
    assert ours == theirs
    assert architecture.parameters() == sum(p.numel() for p in model.parameters())
