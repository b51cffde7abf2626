"""Graphs of Qwen3-Omni's parts against `transformers`, on small models with random weights.

`python tests/convert/test_omni_parity.py` records what the light suite checks against.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from transformers.models.qwen3_omni_moe import configuration_qwen3_omni_moe as configurations
from transformers.models.qwen3_omni_moe import modeling_qwen3_omni_moe as modeling

sys.path.insert(0, str(Path(__file__).parents[1]))
import omni_tiny

CLOSE = 1e-4


def torch_outputs(component: str, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    """What `transformers` makes of the weights and inputs that the graphs get."""
    with torch.no_grad():
        model = RUN[component][0]()
        names = omni_tiny.source(component).names()
        prefix = RUN[component][1]
        state = {
            name.removeprefix(prefix): torch.from_numpy(omni_tiny.source(component).read(name))
            for name in names
            if name.startswith(prefix)
        }
        # A talker also has parts that are graphs of their own.
        unexpected = model.load_state_dict(state, strict=False).unexpected_keys
        assert not unexpected
        model.eval()
        return [t.numpy() for t in RUN[component][2](model, feeds)]


def _config(kind, config, **more):
    return kind(**config, **more)


def _thinker():
    text = omni_tiny.CONFIG["thinker_config"]["text_config"]
    found = configurations.Qwen3OmniMoeTextConfig(**text)
    return torch.nn.ModuleDict(
        {
            "model": torch.nn.ModuleDict(
                {"language_model": modeling.Qwen3OmniMoeThinkerTextModel(found)}
            ),
            "lm_head": torch.nn.Linear(text["hidden_size"], text["vocab_size"], bias=False),
        }
    )


def _run_thinker(model, feeds):
    ids = torch.from_numpy(feeds["input_ids"])
    hidden = model["model"]["language_model"](input_ids=ids).last_hidden_state
    return [model["lm_head"](hidden[:, -1:])]


def _talker():
    return modeling.Qwen3OmniMoeTalkerForConditionalGeneration(
        configurations.Qwen3OmniMoeTalkerConfig(**omni_tiny.CONFIG["talker_config"])
    )


def _run_talker(model, feeds):
    hidden = model.model(inputs_embeds=torch.from_numpy(feeds["inputs_embeds"])).last_hidden_state
    return [model.codec_head(hidden[:, -1:]), hidden[:, -1:]]


def _run_projection(model, feeds):
    hidden = torch.from_numpy(feeds["hidden"])
    return [model.text_projection(hidden), model.hidden_projection(hidden)]


def _code_predictor():
    return modeling.Qwen3OmniMoeTalkerCodePredictorModelForConditionalGeneration(
        configurations.Qwen3OmniMoeTalkerCodePredictorConfig(
            **omni_tiny.CONFIG["talker_config"]["code_predictor_config"]
        )
    )


def _run_code_predictor(model, feeds):
    hidden = model.model(inputs_embeds=torch.from_numpy(feeds["inputs_embeds"])).last_hidden_state
    return [model.lm_head[int(feeds["step"][0])](hidden[:, -1:])]


def _audio_encoder():
    return modeling.Qwen3OmniMoeAudioEncoder(
        configurations.Qwen3OmniMoeAudioEncoderConfig(
            **omni_tiny.CONFIG["thinker_config"]["audio_config"]
        )
    )


def _run_audio_encoder(model, feeds):
    features = torch.from_numpy(feeds["input_features"][0])
    found = model(features, torch.tensor([features.shape[1]])).last_hidden_state
    return [found[None]]


def _code2wav():
    return modeling.Qwen3OmniMoeCode2Wav(
        configurations.Qwen3OmniMoeCode2WavConfig(**omni_tiny.CONFIG["code2wav_config"])
    )


def _run_code2wav(model, feeds):
    return [model(torch.from_numpy(feeds["codes"]))]


RUN = {
    "thinker": (_thinker, "thinker.", _run_thinker),
    "talker": (_talker, "talker.", _run_talker),
    "talker_projection": (_talker, "talker.", _run_projection),
    "code_predictor": (_code_predictor, "talker.code_predictor.", _run_code_predictor),
    "audio_encoder": (_audio_encoder, "thinker.model.audio_tower.", _run_audio_encoder),
    "code2wav": (_code2wav, "code2wav.", _run_code2wav),
}


@pytest.mark.parametrize("component", RUN)
def test_parity(component: str, tmp_path: Path) -> None:
    path = omni_tiny.write(component, tmp_path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for feeds in omni_tiny.feeds(component):
        found = omni_tiny.run(session, feeds)
        for ours, theirs in zip(found, torch_outputs(component, feeds), strict=True):
            assert ours.shape == theirs.shape
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=CLOSE * np.abs(theirs).max())


if __name__ == "__main__":
    for component in RUN:
        feeds = omni_tiny.feeds(component)
        recorded = {
            f"{number}.{index}": output
            for number, given in enumerate(feeds)
            for index, output in enumerate(torch_outputs(component, given))
        }
        np.savez_compressed(omni_tiny.PARITY / f"omni_{component}.npz", **recorded)
