"""From configuration to parts: the one place that constructs."""
