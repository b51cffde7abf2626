"""Latency benchmark under the name and with the output of the users' notes.

python scripts/benchmark_audio_latency.py --model M --iterations N
python scripts/benchmark_audio_latency.py --compare --model-a A --model-b B --iterations N
"""

from __future__ import annotations

import sys

from vozmetro.cli.guide import main

if __name__ == "__main__":
    sys.exit(main())
