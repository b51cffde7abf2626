"""A converted language model against its source in `transformers`, token by token."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from vozmetro.engines.base import LanguageModel, LoadRequest
from vozmetro.engines.language_model import ENGINE
from vozmetro.models.convert.torch_export import require_torch
from vozmetro.prepare.records import Parity, versions_of

PROMPT, STEPS = 24, 8
"""Tokens read at once, and then one by one, so that the cache is compared too."""
_SENTENCE = (
    "¿Qué tiempo hace mañana en Madrid? Pon una alarma a las siete y media de la mañana, "
    "y después dime cuánto falta para el próximo tren a Sevilla."
)


def decoder_parity(model: Path, folder: Path, layers: int, threads: int) -> Parity:
    """Compares logits with those of the source in float32.

    Args:
        model: The converted `.onnx`, of `layers` layers if that is not 0.
        folder: The Hugging Face folder it came from.
        layers: Layers to keep of the source; 0 for all.
        threads: For our engine.

    Raises:
        MissingExtraError: Without the `convert` extra.
    """
    require_torch()
    import torch

    ours = cast(LanguageModel, ENGINE.load(LoadRequest(model, threads, {})))
    ids, said = _tokens(folder, ours.vocabulary)
    logits = [ours.prefill(ids[:PROMPT]), *(ours.decode(int(token)) for token in ids[PROMPT:])]
    source = _source(folder, layers)
    with torch.no_grad():
        wanted = source(input_ids=torch.from_numpy(ids)[None]).logits[0, PROMPT - 1 :].numpy()
    return parity_of(
        np.stack(logits), wanted, reference="transformers float32", said=said, layers=layers
    )


def parity_of(
    found: NDArray[Any],
    wanted: NDArray[Any],
    *,
    reference: str,
    said: str,
    layers: int = 0,
    packages: Sequence[str] = ("torch", "transformers", "onnxruntime"),
) -> Parity:
    """Returns how far two arrays of one shape are apart."""
    difference = found.astype(np.float64) - wanted
    size = float(np.linalg.norm(wanted))
    return Parity(
        reference=reference,
        versions=versions_of(packages),
        input=said,
        max_error=float(np.abs(difference).max(initial=0.0)),
        relative_error=relative(float(np.linalg.norm(difference)), size),
        layers=layers,
    )


def relative(difference: float, size: float) -> float:
    """Returns a norm over that of the reference, infinite where only the reference is zero."""
    return difference / size if size else math.inf if difference else 0.0


def _tokens(folder: Path, vocabulary: int) -> tuple[NDArray[np.int64], str]:
    """Real words where the folder has a tokenizer, else seeded numbers."""
    count = PROMPT + STEPS
    if (folder / "tokenizer.json").is_file():
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        ids = tokenizer.encode(_SENTENCE).ids
        if len(ids) >= count and max(ids) < vocabulary:
            return np.array(ids[:count], np.int64), f"{count} tokens of a sentence in Spanish"
    rng = np.random.default_rng(0)
    return rng.integers(0, vocabulary, count), f"{count} seeded token ids"


def _source(folder: Path, layers: int) -> Any:
    """The source in PyTorch, with its first `layers` layers only."""
    import transformers

    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    text = config.get_text_config()
    if layers:
        text.num_hidden_layers = layers
        if getattr(text, "layer_types", None):
            text.layer_types = text.layer_types[:layers]
    name = json.loads((folder / "config.json").read_bytes())["architectures"][0]
    transformers.logging.set_verbosity_error()
    kind = getattr(transformers, str(name))
    model = kind.from_pretrained(
        folder, config=config, local_files_only=True, trust_remote_code=False,
        use_safetensors=True, dtype="float32",
    )  # fmt: skip
    return model.eval()
