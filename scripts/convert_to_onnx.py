"""Conversion to ONNX under the name and with the options of the users' notes.

python scripts/convert_to_onnx.py --model DIR --output F.onnx --optimize
"""

from __future__ import annotations

import sys

from vozmetro.cli.convert import main

if __name__ == "__main__":
    sys.exit(main())
