"""Security: TLS, identities from certificates or tokens, roles, and the private CA."""
