"""`lab loadtest`: modes side by side over the same frames and links, against a real server, in one report."""
