"""From a float .tflite to an integer one: ranges, quantising, what each layer costs. Without TensorFlow."""
