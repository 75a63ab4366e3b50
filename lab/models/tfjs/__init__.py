"""TensorFlow.js graph models as ONNX: read without TensorFlow, converted operator by operator."""
