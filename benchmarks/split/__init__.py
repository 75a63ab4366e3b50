"""What split inference brings: bytes against accuracy, latency over links; beside JPEG and the edge alone."""
