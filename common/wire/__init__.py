"""The wire format: conversions between protobuf messages and values, tensors, and the generated code."""
