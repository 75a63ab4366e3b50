"""The uplink to the cloud: one channel, one unary call per frame."""
