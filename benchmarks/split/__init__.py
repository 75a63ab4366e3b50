"""Split inference beside JPEG and the edge alone: bytes against accuracy, latency over links."""
