"""What leaves the device: picture variants, crops, features, tensors, with redaction before all of them."""
