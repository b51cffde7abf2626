"""Records where they lie: found, read once, and asked with SQL."""
