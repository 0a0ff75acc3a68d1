"""The .tflite file as bytes: reading its graph, adding metadata, appending files."""
