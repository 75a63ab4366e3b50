"""What another policy, budget or link would have made of the frames of a log."""
