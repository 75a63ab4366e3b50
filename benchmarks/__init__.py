"""Measurements of this project for its developers; run as `python -m benchmarks`."""
