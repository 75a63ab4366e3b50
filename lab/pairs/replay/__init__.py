"""`lab replay`: plays the frames of a log under another policy, budget or link."""
