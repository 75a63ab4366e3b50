"""Benchmarks: figures of things measured side by side in one run."""
