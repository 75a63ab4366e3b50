"""`spillover lab quantize`: a float model becomes INT8, and both are measured side by side."""
