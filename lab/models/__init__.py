"""Making models: prepare, import, quantize, profile."""
