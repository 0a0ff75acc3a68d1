"""Pure logic: stdlib, numpy, msgspec (and OpenCV's pixel functions, in preprocess alone). No clock, file, socket,
thread or environment: whatever is needed comes in as an argument."""
