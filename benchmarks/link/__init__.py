"""What the link rule makes of links, in simulation: share of the link used, share in time, recovery."""
