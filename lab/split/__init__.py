"""Splits a network where it pays: finds cuts, measures them, chooses codings, keeps the best."""
