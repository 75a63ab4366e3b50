"""What edge and cloud agree on: values, wire, models, configuration, errors. Imports neither side."""
