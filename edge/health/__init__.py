"""How the device is and how it looks after itself: readings, where what is absent is None, and the ladder."""
