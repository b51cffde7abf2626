"""Raises a model's opset where the operators of quantization need it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vozmetro.errors import ModelError

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto

NEEDED = 11
"""Opset that brought `DynamicQuantizeLinear`."""
TARGET = 13
MICROSOFT = "com.microsoft"


def opset(model: ModelProto) -> int:
    """Returns the version of ONNX's own operators that a model uses."""
    return next((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), 1)


def raised(model: ModelProto, path: Path) -> ModelProto:
    """Returns the model with an opset that has the operators of quantization.

    ONNX's converter rewrites what changed its meaning. It is given the structure with large
    weights as inputs, because it would lose where they lie.

    Args:
        model: Its structure; may be changed.
        path: For the error.

    Raises:
        ModelError: `quantize_opset` where the converter does not know the way.
    """
    from onnx import helper, version_converter

    if opset(model) >= NEEDED:
        return model
    stored = {tensor.name: _copy(tensor) for tensor in model.graph.initializer}
    declared = {value.name for value in model.graph.input}
    # What the message holds may decide the conversion (shapes, limits); the rest lies elsewhere.
    large = {name for name, tensor in stored.items() if tensor.external_data}
    ports = [
        helper.make_tensor_value_info(name, stored[name].data_type, stored[name].dims)
        for name in sorted(large - declared)
    ]
    kept = [tensor for name, tensor in stored.items() if name not in large]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    model.graph.input.extend(ports)
    try:
        found: ModelProto = version_converter.convert_version(model, TARGET)
    except Exception as error:  # the converter's own errors share no narrower base
        raise ModelError("quantize_opset", path=path, opset=opset(model)) from error
    added = {port.name for port in ports}
    for at in reversed(range(len(found.graph.input))):
        if found.graph.input[at].name in added:
            del found.graph.input[at]
    found.graph.initializer.extend(stored[name] for name in sorted(large))
    del found.metadata_props[:]
    found.metadata_props.extend(model.metadata_props)
    return found


def add_microsoft(model: ModelProto) -> None:
    """Declares ONNX Runtime's own operators."""
    if all(one.domain != MICROSOFT for one in model.opset_import):
        model.opset_import.add(domain=MICROSOFT, version=1)


def _copy(tensor: TensorProto) -> TensorProto:
    from onnx import TensorProto

    made = TensorProto()
    made.CopyFrom(tensor)
    return made
