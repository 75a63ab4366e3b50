"""`lab quantize`: quantises a float model to INT8, and measures both side by side."""
