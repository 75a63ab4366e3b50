"""A link in user space: delay, rate and outages between a client and a server that speak TCP."""
