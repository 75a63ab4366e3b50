"""Connections of the server: who holds one, which are closed so that others find room, and by what rule."""
