"""Who may use a listener of this project: what its configuration must say, and callers known by a token."""
