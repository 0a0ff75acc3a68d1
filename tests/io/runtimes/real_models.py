"""Names of the public models that these tests read."""

CLASSIFIER = "mobilenet_v1_0.25_128_quant"
COMPILED = "mobilenet_v1_0.25_128_quant_edgetpu"  # the same for the Edge TPU
DETECTOR = "traffic_model"
