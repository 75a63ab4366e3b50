"""Models on disk, and the steps before and after their networks: repository, loader, vision, tails."""
