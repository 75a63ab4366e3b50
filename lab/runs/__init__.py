"""Runs of the daemon: check, overlay, demo."""
