"""What decoding costs the server, who waits for whom, and what a scaled decode does to answers."""
