"""`spillover edge status`: what a running daemon says of itself, where it is asked, and how that is shown."""
