"""What runs one network on one device: a Protocol, and one module for each library that does it."""
