"""What policies are worth, on real pairs of models and simulated links."""
