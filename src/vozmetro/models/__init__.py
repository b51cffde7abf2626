"""Models: catalogue, sources, inspection and artifact checks."""
