"""A pair of detectors on a clip: what the edge shows at each instant, over the bytes that it sends."""
