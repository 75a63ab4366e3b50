"""Models on disk and what stands around their networks: repository, loader, vision, tails."""
