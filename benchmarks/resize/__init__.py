"""The resize that is alike on every processor beside the faster one that is not."""
