"""Fewer bits per weight: the arithmetic, and its use on whole ONNX files."""
