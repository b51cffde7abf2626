"""Ranges of the values that layers read, from real speech through the float model.

The histograms and the choice of a range by percentile are `onnxruntime.quantization`'s. Running the
model is not: its calibrator writes a second copy of the model, with every value as an output, and
holds all of them for all utterances. Here the weights stay where they are, and a few values are
looked at in each pass.

Of its methods, entropy is left out. Error of the output of Whisper base's encoder on four
utterances of the packaged corpus: quantized as they come 10.7 %, percentile 13.5 %, min/max 15.2 %,
entropy 51.9 % and five times slower to find: it cuts the few large values that this model needs.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from vozmetro.engines.onnx_graph import session_options
from vozmetro.errors import InputError
from vozmetro.measure.environment import available_ram, cores_allowed
from vozmetro.models import checks, slim, weights
from vozmetro.models.quantize.survey import survey
from vozmetro.models.resolve import resolve
from vozmetro.prepare.failures import as_one_error
from vozmetro.prepare.speech import spoken

if TYPE_CHECKING:
    from onnx import ModelProto

Method = Literal["percentile", "minmax"]
UTTERANCES = 16
"""Most utterances that the ranges rest on."""
_AT_ONCE = 8
"""Values looked at in one pass."""
_BINS, _LEVELS, _PERCENTILE = 2048, 128, 99.999


def calibrate(
    model: Path, corpus: str | None = None, method: Method = "percentile"
) -> dict[str, tuple[float, float]]:
    """Returns the lowest and highest value to expect of what each layer of the main graph reads.

    Args:
        model: The float `.onnx`.
        corpus: Real speech; None for the packaged one.
        method: `percentile`: all but 0.001 % at each end; `minmax`: all that was seen.

    Raises:
        InputError: `quantize_static_speech` where nothing that it reads is speech.
        ModelError: `does_not_fit`.
        MeasurementError: `model_failed`.
    """
    checks.check_fits(resolve(str(model)), available_ram())
    speech = spoken(model, corpus, UTTERANCES)
    if not speech.heard:
        raise InputError("quantize_static_speech", path=model)
    structure = slim.read(model, located=True)
    found = survey(structure, embeddings=False)
    names = dict.fromkeys(structure.graph.node[s.index].input[0] for s in found.sites if not s.path)
    given = {value.name for value in structure.graph.input}
    ranges: dict[str, tuple[float, float]] = {}
    inner = [name for name in names if name not in given]
    for start in range(0, len(inner), _AT_ONCE):
        some = inner[start : start + _AT_ONCE]
        ranges |= _ranges(_values(structure, model, some, speech.feeds), method)
    read = [name for name in names if name in given]
    ranges |= _ranges(({name: feeds[name] for name in read} for feeds in speech.feeds), method)
    return ranges


def _values(
    structure: ModelProto, path: Path, names: Sequence[str], feeds: Sequence[Mapping[str, Any]]
) -> Iterator[dict[str, NDArray[Any]]]:
    """Yields the values of these names for each utterance."""
    import onnxruntime as ort

    data = _showing(structure, path, names)
    settings = session_options(cores_allowed(), {})
    settings.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", str(path.parent)
    )
    with as_one_error():
        session = ort.InferenceSession(data, settings, providers=["CPUExecutionProvider"])
        for one in feeds:
            yield dict(zip(names, session.run(list(names), dict(one)), strict=True))


def _showing(structure: ModelProto, path: Path, names: Sequence[str]) -> bytes:
    """Returns the model with these values as outputs; its weights stay in the files that exist."""
    from onnx import ModelProto, TensorProto, helper

    model = ModelProto()
    model.CopyFrom(structure)
    for _, tensor in weights.tensors(model):
        entry = {item.key: item.value for item in tensor.external_data}
        if slim.HERE in entry:
            offset, length = entry[slim.HERE].split(":")
            tensor.ClearField("external_data")
            tensor.data_location = tensor.EXTERNAL
            place = {"location": path.name, "offset": offset, "length": length}
            for key, value in place.items():
                tensor.external_data.add(key=key, value=value)
    shown = {value.name for value in model.graph.output}
    for name in names:
        if name not in shown:
            port = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
            model.graph.output.append(port)
    return bytes(model.SerializeToString())


def _ranges(
    passes: Iterator[dict[str, NDArray[Any]]], method: Method
) -> dict[str, tuple[float, float]]:
    if method == "minmax":
        found: dict[str, tuple[float, float]] = {}
        for values in passes:
            for name, array in values.items():
                low, high = found.get(name, (0.0, 0.0))
                found[name] = (
                    min(low, float(array.min(initial=0))),
                    max(high, float(array.max(initial=0))),
                )
        return found
    from onnxruntime.quantization.calibrate import HistogramCollector

    collector = HistogramCollector(method, False, _BINS, _LEVELS, _PERCENTILE, "same")
    # It reports every call on standard output.
    with contextlib.redirect_stdout(io.StringIO()):
        empty = True
        for values in passes:
            if values:
                empty = False
                collector.collect({n: [np.asarray(a, np.float32)] for n, a in values.items()})
        limits = {} if empty else collector.compute_collection_result()
    return {name: (float(limit[0]), float(limit[1])) for name, limit in limits.items()}
