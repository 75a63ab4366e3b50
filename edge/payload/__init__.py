"""What leaves the device: picture variants, features and tensors; redaction comes before each."""
