"""From trained weights to ONNX graphs, written node by node; no PyTorch needed."""
