"""One first result a frame by its deadline, and the acknowledgement that a sink has stored it."""
