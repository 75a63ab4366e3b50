"""`make bench-policy`: the figures that a policy is chosen by, from real pairs and simulated links."""
