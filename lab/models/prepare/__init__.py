"""`spillover lab prepare` and `lab import`: published weights and networks become model folders."""
