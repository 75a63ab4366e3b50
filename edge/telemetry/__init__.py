"""What the daemon counts and reports: frame events, metrics, status."""
