"""Models on disk, and the adapters around their networks."""
