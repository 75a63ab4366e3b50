"""What the daemon counts and reports: frame events and metrics."""
