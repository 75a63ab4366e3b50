"""What leaves the device: picture variants, crops, features and tensors; redaction comes before each."""
