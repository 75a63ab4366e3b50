"""Accuracy of a pair of models over the share of frames that are sent, under each policy."""
