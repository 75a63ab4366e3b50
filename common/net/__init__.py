"""Network utilities: TLS key pairs, files that are reloaded when they change, addresses, one HTTP server."""
