"""What leaves the device: picture variants, video, features and tensors; redaction comes before each."""
