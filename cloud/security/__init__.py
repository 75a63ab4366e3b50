"""Who may do what: transport security, identities from certificates or tokens, roles, and the private CA."""
