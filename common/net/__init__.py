"""The network's small parts: TLS key pairs, files that are read again when they change, addresses."""
