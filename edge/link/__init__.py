"""What the link can carry: estimate, payload costs, byte budget, traces."""
