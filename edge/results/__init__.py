"""Gives each frame one first result by its deadline, and acknowledges results that a sink has stored."""
