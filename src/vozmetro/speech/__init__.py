"""Speech: corpora and their manifests."""
