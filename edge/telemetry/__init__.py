"""What the daemon counts and says: frame events, metrics, status."""
