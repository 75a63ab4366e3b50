"""What the server counts and writes of calls: Prometheus metrics, the protocol's statistics, access log."""
