"""What edge and cloud share: values, wire format, models, configuration, errors. Imports neither side."""
