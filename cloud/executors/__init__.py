"""What runs a batch: a Protocol, and its implementations."""
