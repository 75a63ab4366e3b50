"""What travels: protobuf messages to values and back, tensors, and the generated code."""
