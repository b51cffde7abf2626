"""What ONNX Runtime's offline optimization really gains, measured; kept only where it gains."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vozmetro import api
from vozmetro.models import checks
from vozmetro.planning import Options
from vozmetro.prepare.failures import as_one_error

ROUNDS = 20
"""Rounds of the comparison: as many runs of each input as the users' guide asks for."""
_MOST_S = 60.0
POSITIONS = 1500
"""Positions that a full window of a Whisper is encoded to."""


def optimize_offline(graphs: Sequence[Path]) -> dict[str, Any]:
    """Optimizes each graph offline, compares it with what it was, and keeps the faster one.

    ONNX Runtime optimizes every graph when it loads it; doing so ahead can save load time, and
    inference time only where the result differs. The level is `extended`: what the last level does
    fits the layout to the processor, and such a file is slower or refused on another one.

    Args:
        graphs: `.onnx` files; one is replaced where the optimized one is measurably faster. They
            must not be in use yet: between its two files an interruption leaves a broken pair.

    Returns:
        By file name: `ratio` (optimized / plain, median of pairs) with its 95 % interval `low` and
        `high`, `load_ratio`, and `kept` (whether the file was replaced).

    Raises:
        MeasurementError: `model_failed` where ONNX Runtime cannot optimize the graph.
    """
    return {graph.name: _one(graph) for graph in graphs}


def _one(graph: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=graph.parent, prefix=".optimize-") as scratch:
        optimized = Path(scratch) / graph.name
        _write(graph, optimized)
        options = Options(
            iterations=ROUNDS, until="iterations", max_time_s=_MOST_S, shapes=_shapes(graph)
        )
        found = api.compare(str(optimized), str(graph), options)
        ratio, record = found.ratio, found.record
        loads = [run.sessions[-1].load_ms for run in (record.a, record.b)]
        gains = ratio.high is not None and ratio.high < 1
        if gains:
            for name in (f"{graph.name}.data", graph.name):
                graph.with_name(name).unlink(missing_ok=True)
                if (Path(scratch) / name).is_file():
                    (Path(scratch) / name).replace(graph.with_name(name))
    return {
        "ratio": ratio.value,
        "low": ratio.low,
        "high": ratio.high,
        "load_ratio": loads[0] / loads[1],
        "kept": gains,
    }


def _shapes(graph: Path) -> dict[str, list[int]]:
    """Shapes that the rules for graphs would guess wrong: a decoder reads what was encoded.

    With its one free size guessed as 1, the cross-attention would cost nothing.
    """
    ports = checks.check_onnx(graph).inspection.inputs
    return {
        port.name: [
            size if isinstance(size, int) else POSITIONS if axis == 2 else 1
            for axis, size in enumerate(port.shape)
        ]
        for port in ports
        if port.name.startswith("cross.") and port.shape is not None
    }


def _write(graph: Path, target: Path) -> None:
    """Lets ONNX Runtime write the graph as it would run it."""
    import onnxruntime as ort

    settings = ort.SessionOptions()
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    settings.optimized_model_filepath = str(target)
    settings.log_severity_level = 4
    entries = {
        "session.optimized_model_external_initializers_file_name": f"{target.name}.data",
        "session.optimized_model_external_initializers_min_size_in_bytes": "1024",
    }
    for key, value in entries.items():
        settings.add_session_config_entry(key, value)
    with as_one_error():
        ort.InferenceSession(str(graph), settings, providers=["CPUExecutionProvider"])
