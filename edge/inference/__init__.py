"""From pixels to the edge's own prediction: the model, multi-view inference, temporal correction."""
