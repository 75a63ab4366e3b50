"""Time heads, tails and whole networks on the device at hand. Needs only what the edge needs."""
