"""Quantization to INT8 under the name and with the options of the users' notes.

python scripts/quantize_int8.py --model F.onnx --output G.onnx
python scripts/quantize_int8.py --model F.onnx        (writes F-int8.onnx beside it)
"""

from __future__ import annotations

import sys

from vozmetro.cli.quantize import main

if __name__ == "__main__":
    sys.exit(main(8))
