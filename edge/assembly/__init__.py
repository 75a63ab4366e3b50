"""Builds the parts of a daemon from its configuration; nothing else constructs them."""
