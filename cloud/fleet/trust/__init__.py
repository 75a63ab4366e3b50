"""Signed models: The Update Framework (theupdateframework.io), with root and targets keys kept offline."""
