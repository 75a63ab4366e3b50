"""Which frames go to the cloud: pure functions; clock readings and random numbers are arguments."""
