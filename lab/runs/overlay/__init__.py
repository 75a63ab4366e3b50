"""Pictures of what a run saw: boxes, labels, and who answered."""
