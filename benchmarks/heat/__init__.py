"""The ladder on simulated devices that get hot: how long, how many frames, how often it changes."""
