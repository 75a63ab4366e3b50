"""Bundles: a model folder as one file, as it is signed, shipped and installed."""
