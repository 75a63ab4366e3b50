"""Models over the air: what a device has, how the next one comes, proves itself, and goes again."""
