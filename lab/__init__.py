"""The workbench: prepare, quantise, evaluate, benchmark. Never needed on a Pi."""
