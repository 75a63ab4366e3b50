"""What the server keeps of streams: the newest pictures that callers code their next ones against."""
