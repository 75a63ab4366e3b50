"""Pictures as a stream of H.264, for both sides. PyAV is imported here alone, and only where it is used."""
