"""`lab prepare` and `lab import`: make model folders of published weights and networks."""
