"""Where a Piper voice's first audio goes, and what was tried on each part.

    python benchmarks/first_audio_parts.py [--rounds N] [--model NAME]

Time of one thread on the processor, in ms, median over the rounds; the variants of a part take
turns, so that ratios hold on a machine that others use. The last column is the largest difference
to the part as it was exported, or for INT8 the signal-to-noise ratio, on the same random input.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from vozmetro.engines.piper_parts import flat, probe
from vozmetro.engines.piper_split import split
from vozmetro.models.resolve import resolve

QUIET = (0.0, 1.0, 0.0)


def session(model: onnx.ModelProto) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    provider = ["CPUExecutionProvider"]
    return ort.InferenceSession(model.SerializeToString(), options, providers=provider)


def timed(what: str, variants: Mapping[str, Any], feeds: Mapping[str, Any], rounds: int) -> None:
    """Prints each variant's median and how far its first output is from the first variant's."""
    spent: dict[str, list[float]] = {name: [] for name in variants}
    said: dict[str, Any] = {}
    for _ in range(rounds + 1):
        for name, variant in variants.items():
            begun = time.thread_time()
            said[name] = variant.run(None, feeds)[0].reshape(-1)
            spent[name].append((time.thread_time() - begun) * 1e3)
    first = said[next(iter(variants))]
    for name, values in spent.items():
        error = said[name] - first
        far = f"{np.abs(error).max():.1e}"
        if name == "INT8":
            far = f"{10 * np.log10(np.square(first).mean() / np.square(error).mean()):.0f} dB"
        print(f"{what:24} {name:12} {statistics.median(values[1:]):7.1f}  {far}")


def int8(model: onnx.ModelProto) -> Any:
    """Weights and inputs of every convolution in 8 bits, as ONNX Runtime's own tool does it."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder) / "a.onnx", Path(folder) / "b.onnx"
        onnx.save(model, str(source))
        quantize_dynamic(
            str(source), str(made), op_types_to_quantize=["Conv"], weight_type=QuantType.QUInt8
        )
        return session(onnx.load(str(made)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--model", default="piper-joe", help="a voice with one speaker")
    given = parser.parse_args()
    parts = split(onnx.load(str(resolve(given.model).path)))
    random = np.random.default_rng(0)
    channels = 192
    print("part                     variant       median  difference")
    frontend = {"as exported": session(parts.frontend)}
    for count in (31, 100, 150, 350):
        numbers = [int(number) for number in random.integers(14, 100, count)]
        feeds = probe(numbers, False, QUIET)
        timed(f"frontend, {count} numbers", frontend, feeds, given.rounds)
    flow = {"as exported": session(parts.flow), "flat": session(flat(parts.flow, "frames"))}
    vocoder = {
        "as exported": session(parts.vocoder),
        "flat": session(flat(parts.vocoder, "")),
        "INT8": int8(parts.vocoder),
    }
    for count in (56, 200):
        latent = random.standard_normal((1, channels, count)).astype(np.float32)
        timed(f"flow, {count} frames", flow, {"latent": latent}, given.rounds)
    for count in (20, 24, 200):
        frames = random.standard_normal((1, channels, count)).astype(np.float32)
        timed(f"vocoder, {count} frames", vocoder, {"frames": frames}, given.rounds)


if __name__ == "__main__":
    main()
