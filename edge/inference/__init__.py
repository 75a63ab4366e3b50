"""From pixels to the edge's own prediction: the model, several views of a picture, temporal correction."""
