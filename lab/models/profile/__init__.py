"""Times heads, tails and whole networks on this device; needs only the packages of the edge."""
