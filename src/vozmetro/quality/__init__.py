"""How good what was heard and said is; never how fast."""
