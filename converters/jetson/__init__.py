"""ONNX files for the ONNX Runtime back-end, and the folder from which a Jetson builds its TensorRT engine."""
