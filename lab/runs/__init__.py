"""Looking at runs: check, overlay, demo."""
