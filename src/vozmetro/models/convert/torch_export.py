"""Models that vozmetro does not write itself, through the exporter of `transformers`.

It traces the model with `torch.export`. Slower than writing the graph, in need of PyTorch (the
`convert` extra) and of the whole model in memory, but it knows hundreds of architectures.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vozmetro.audio import SPEECH_RATE, Waveform, log_mel
from vozmetro.errors import InputError, MissingExtraError, ModelError

EXTRA = "convert"


@dataclass(frozen=True)
class Exported:
    """What was exported, and what it was traced on.

    Attributes:
        path: The `.onnx`; weights are beside it.
        reference: Outputs of the PyTorch model by name, on `feeds`.
        feeds: The input by name.
    """

    path: Path
    reference: Mapping[str, NDArray[Any]]
    feeds: Mapping[str, NDArray[Any]]


def require_torch() -> None:
    """Checks that the `convert` extra is there.

    Raises:
        MissingExtraError: With the install command.
    """
    try:
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(EXTRA, "torch, transformers") from error


def export(folder: Path, path: Path, audio: Waveform) -> Exported:
    """Exports the model of a Hugging Face folder with dynamic lengths.

    Only safetensors are read, and code that a folder brings with it is never run.

    Args:
        folder: With `config.json` and safetensors.
        path: The `.onnx` to write.
        audio: Speech at 16 kHz on which a model that listens is traced and checked.

    Raises:
        MissingExtraError: Without the `convert` extra.
        ModelError: `export_unknown`, `export_input` or `export_failed`.
    """
    require_torch()
    import torch
    from transformers.exporters.exporter_onnx import OnnxConfig, OnnxExporter

    model = _load(folder)
    feeds = _feeds(folder, model, audio)
    tensors = {name: torch.from_numpy(array) for name, array in feeds.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            exported = OnnxExporter().export(model, dict(tensors), config=OnnxConfig(dynamic=True))
            with torch.no_grad():
                outputs = model(**tensors)
        except Exception as error:  # tracing fails in as many ways as there are models
            line = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            kind = type(model).__name__
            raise ModelError("export_failed", path=folder, kind=kind, detail=line) from error
        path.parent.mkdir(parents=True, exist_ok=True)
        OnnxExporter.save_program(exported.program, path)
    reference = {
        name: value.numpy() for name, value in outputs.items() if isinstance(value, torch.Tensor)
    }
    return Exported(path, reference, feeds)


def _load(folder: Path) -> Any:
    import transformers

    try:
        names = json.loads((folder / "config.json").read_bytes())["architectures"]
        kind: Any = getattr(transformers, str(names[0]))
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise ModelError("export_unknown", path=folder) from error
    known = isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel)
    if not known:
        raise ModelError("export_unknown", path=folder)
    try:
        return kind.from_pretrained(
            folder,
            dtype="float32",
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
        ).eval()
    except (OSError, ValueError, RuntimeError) as error:
        line = (str(error).strip().splitlines() or [""])[0][:200]
        raise ModelError("export_failed", path=folder, kind=kind.__name__, detail=line) from error


def _feeds(folder: Path, model: Any, audio: Waveform) -> dict[str, NDArray[Any]]:
    """A real input for the model's main input, by its name in `transformers`."""
    name = str(model.main_input_name)
    if audio.rate != SPEECH_RATE:
        raise InputError("not_audio", path=folder, detail=f"{audio.rate} Hz")
    if name == "input_values":
        samples = audio.samples
        # As the feature extractors of wav2vec2 and its kin do: zero mean, unit variance.
        return {name: ((samples - samples.mean()) / (samples.std() + 1e-7))[None]}
    if name == "input_features":
        return {name: log_mel(audio, int(getattr(model.config, "num_mel_bins", 80)))[None]}
    if name == "input_ids":
        rng = np.random.default_rng(0)
        most = max(2, int(getattr(model.config, "vocab_size", 100)))
        return {name: rng.integers(1, most, (1, 16)).astype(np.int64)}
    raise ModelError("export_input", path=folder, kind=type(model).__name__, name=name)
