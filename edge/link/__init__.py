"""What the link can carry: estimate, payload costs, concurrency, byte budget, traces."""
