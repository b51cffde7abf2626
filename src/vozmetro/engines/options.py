"""Engine options that users write behind a model's name, checked before anything is loaded."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from vozmetro.engines import registry
from vozmetro.engines.onnx_graph import CPU, providers
from vozmetro.errors import InputError
from vozmetro.models.resolve import ModelRef


def on_device(model: ModelRef, device: Literal["cpu", "cuda"]) -> ModelRef:
    """Returns the model with its device among its options, which the engine must all know.

    Raises:
        InputError: `option_unknown`, `device_engine`, `cuda_missing` or `provider_unknown`.
    """
    engine = registry.find(model.engine)
    known = [name for name in engine.defaults if name not in engine.fixed]
    for option in model.options:
        if option not in known and not option.startswith("session."):
            fields = {"engine": model.engine, "known": ", ".join(known) or "–"}
            raise InputError("option_unknown", name=option, **fields)
    if "provider" not in known:
        if device != CPU:
            raise InputError("device_engine", engine=model.engine, device=device)
        return model
    options = {"provider": device, **model.options}
    # Said here, before anything is measured.
    providers(options)
    return replace(model, options=options)
