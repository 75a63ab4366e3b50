"""Judges a pair of edge and cloud model: evaluate, fit, replay."""
