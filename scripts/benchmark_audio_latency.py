"""Latency benchmark under the name and with the output of the users' notes.

python scripts/benchmark_audio_latency.py --model M --iterations N
python scripts/benchmark_audio_latency.py --compare --model-a A --model-b B --iterations N
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from vozmetro import Options
from vozmetro.cli.guide import benchmark, benchmark_pair


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", help="model to measure: a path to an .onnx or a known name")
    parser.add_argument("--compare", action="store_true", help="measure two side by side")
    parser.add_argument("--model-a", help="first model to compare")
    parser.add_argument("--model-b", help="second model to compare")
    parser.add_argument("--iterations", type=int, default=20, help="runs of each length (20)")
    parser.add_argument("--corpus", help="folder of real speech instead of synthetic audio")
    parser.add_argument("--threads", type=int, help="threads; default: the cores allowed")
    parser.add_argument("--out", type=Path, help="folder for the report")
    parser.add_argument("--lang", choices=("es", "en"), default="es", help="language (es)")
    given = parser.parse_args()
    options = Options(
        given.iterations, given.corpus, threads=given.threads, command=["python", *sys.argv]
    )
    if given.compare:
        if not (given.model_a and given.model_b):
            parser.error("--compare needs --model-a and --model-b")
        return benchmark_pair(given.model_a, given.model_b, options, given.out, given.lang)
    if not given.model:
        parser.error("--model is needed, or --compare with --model-a and --model-b")
    return benchmark(given.model, options, given.out, given.lang)


if __name__ == "__main__":
    sys.exit(main())
