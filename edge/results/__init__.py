"""What happens to results: one first result a frame by its deadline, and whether a sink has stored it."""
