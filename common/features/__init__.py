"""Features of a split network as bytes: quantised, packed, entropy-coded, checked on arrival."""
