"""A model of one operator, to ask a back-end whether it works at all when no model is at hand.

Written out, so that nothing but the back-end itself must be installed: whether it is, is what is asked.
"""

from __future__ import annotations

import base64
from typing import Final

from edge_agent.records import Form

SHAPE = (1, 64)

# ModelProto of onnx.proto, opset 17: output = Add(input, input), float32 of SHAPE
_ONNX: Final = (
    b'\x08\x08\x12\x05tests:Y\n\x1b\n\x05input\n\x05input\x12\x06output"\x03Add\x12\x07network'
    b"Z\x17\n\x05input\x12\x0e\n\x0c\x08\x01\x12\x08\n\x02\x08\x01\n\x02\x08@"
    b"b\x18\n\x06output\x12\x0e\n\x0c\x08\x01\x12\x08\n\x02\x08\x01\n\x02\x08@B\x02\x10\x11"
)
# Model of TFLite's schema.fbs, version 3: output = ADD(input, input), int8 of SHAPE, scales 1 and 2, zero points 0
_TFLITE: Final = (
    "HAAAAFRGTDMAAAAAAAAOABQAEAAMAAgAAAAEAA4AAAAQAAAAGAAAAFABAAADAAAAAQAAAAQAAAC4/v//AQAAABAAAAAMABQAEAAM"
    "AAgABAAMAAAAEAAAAFAAAABUAAAAWAAAAAEAAAAUAAAAAAAOABQAAAAQAAwACwAEAA4AAAAQAAAAAAAACwwAAAAQAAAAEP///wEA"
    "AAABAAAAAgAAAAAAAAAAAAAAAQAAAAEAAAABAAAAAAAAAAIAAABkAAAABAAAALL///8QAAAALAAAAAAAAAkwAAAApP///wgAAAAQ"
    "AAAAAQAAAAAAAAAAAAAAAQAAAAAAAEAGAAAAb3V0cHV0AAACAAAAAQAAAEAAAAAAAA4AFAAQAA8AAAAIAAQADgAAABwAAAA4AAAA"
    "AAAACTwAAAAMAAwAAAAAAAgABAAMAAAACAAAABAAAAABAAAAAAAAAAAAAAABAAAAAACAPwUAAABpbnB1dAAAAAIAAAABAAAAQAAA"
    "AAEAAAAIAAAABAAEAAQAAAA="
)


def self_test_model(form: Form = "tflite") -> bytes:
    """A model that adds its input to itself. As .tflite in int8: XNNPACK and every delegate for quantised models know
    ADD."""
    return _ONNX if form == "onnx" else base64.b64decode(_TFLITE)
