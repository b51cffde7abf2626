import math

import pytest

from vozmetro.errors import InputError
from vozmetro.models import architectures
from vozmetro.models.architectures import canonical_sha256, load, names


def _rounded(published: float) -> float:
    """Half a unit of the last digit that is not zero, as a share of the number."""
    digits = len(f"{published:.0f}".rstrip("0"))
    return 0.5 * 10 ** -(digits - 1)


@pytest.mark.parametrize(
    ("name", "component"), [(name, part) for name in names() for part in load(name).published]
)
def test_counts_equal_the_published_ones_within_their_rounding(name: str, component: str) -> None:
    found, published = load(name).parameters(component), load(name).published[component]
    assert found == pytest.approx(published, rel=_rounded(published))


def test_totals() -> None:
    """As counted on the meta device by whoever collected the configurations (4437.8 M, 35.26 B)."""
    assert round(load("qwen3-vl-4b").parameters() / 1e6, 1) == 4437.8
    assert round(load("qwen3-omni-30b-a3b").parameters() / 1e9, 2) == 35.26


def test_a_shape_worked_out_by_hand() -> None:
    shapes = load("qwen3-omni-30b-a3b").shapes("thinker")
    prefix = "thinker.model.language_model.layers.47."
    # 128 experts, gate and up of 768 each, on 2048 inputs.
    assert shapes[f"{prefix}mlp.experts.gate_up_proj"] == (128, 1536, 2048)
    assert shapes[f"{prefix}self_attn.q_proj.weight"] == (32 * 128, 2048)
    layer = sum(math.prod(shape) for name, shape in shapes.items() if name.startswith(prefix))
    experts, attention = 128 * 3 * 768 * 2048, 2048 * 128 * (32 + 4 + 4 + 32)
    assert layer == experts + attention + 128 * 2048 + 2 * 2048 + 2 * 128


def test_the_hash_is_of_the_content() -> None:
    config = dict(load("whisper-tiny").config)
    turned = dict(reversed(config.items()))
    assert canonical_sha256(turned) == canonical_sha256(config)
    assert canonical_sha256({**config, "d_model": 385}) != canonical_sha256(config)
    # Changes only if the architecture does: files name it.
    assert load("qwen3-vl-4b").sha256[:12] == "797c430807e2"


def test_components() -> None:
    assert load("qwen3-vl-4b").graphs == ("text",)
    assert load("whisper-base").graphs == ("whisper",)
    assert set(load("qwen3-omni-30b-a3b").graphs) <= set(load("qwen3-omni-30b-a3b").components)
    assert all(load(name).source for name in names())


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(InputError, match="whisper-small"):
        load("qwen4")
    assert "qwen3-vl-4b" in architectures.names()
