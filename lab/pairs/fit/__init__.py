"""The policy's workbench: fit the expected gain, and show what it is worth on pictures it has not seen."""
