"""The wheel and the aarch64 wheels that it needs, run on this machine by an emulator."""
