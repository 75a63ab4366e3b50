"""Pictures and clips of what happened, kept on the device's disk within bounds."""
