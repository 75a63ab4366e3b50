"""Counters of the server: Prometheus metrics and the protocol's statistics."""
