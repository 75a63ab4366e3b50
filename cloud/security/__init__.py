"""Security: TLS, identities from certificates or tokens, roles, the private CA, and the audit trail."""
