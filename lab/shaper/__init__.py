"""Shaped links between a TCP client and server: delay, rate and outages."""
