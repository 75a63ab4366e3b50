"""What runs a batch: networks on a device, and what their runs cost."""
