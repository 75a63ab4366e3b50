"""Models on disk and in memory: manifest, preprocessing, decoders, session. Both sides run the same code."""
