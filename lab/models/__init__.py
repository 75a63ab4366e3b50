"""Makes models: prepare, import, quantize, profile."""
