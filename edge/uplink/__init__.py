"""The way to the cloud: one channel, one unary call a frame."""
