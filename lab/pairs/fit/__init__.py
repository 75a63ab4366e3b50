"""Fits the expected gain, and shows how much of the gap it closes on other pictures."""
