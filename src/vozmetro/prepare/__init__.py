"""Convert and quantize with proof: what a file became, measured beside what it was."""
