"""From pixels to the edge's own prediction: the model, guarded, looked at again, corrected over time."""
