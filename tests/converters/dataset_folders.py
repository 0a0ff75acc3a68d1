"""Small data sets as users have them, and cards for them."""

from __future__ import annotations

import struct

import cv2
import numpy as np

from edge_agent.core.card_schema import (
    AnomalyOutput,
    Budgets,
    ClassificationOutput,
    DetectionOutput,
    Feature,
    FeaturesInput,
    Golden,
    ImageInput,
    RegressionOutput,
)
from edge_agent.core.model_card import ResolvedCard

CLASSES = ("good", "hollow", "worn")
CLASSIFICATION = ClassificationOutput(tensor="fault", name="fault")
REGRESSION = RegressionOutput(tensor="wear", name="wear", unit="mm")
ANOMALY = AnomalyOutput(tensor="odd", name="odd", threshold=0.5)
DETECTION = DetectionOutput(boxes="b", classes="c", scores="s", count="n", name="objects")
FEATURES = (
    Feature(name="weight", unit="g", mean=100.0, std=10.0, clip=4.0),
    Feature(name="temperature", unit="degC", mean=50.0, std=5.0, clip=4.0, fill=20.0),
)


def card(outputs=(CLASSIFICATION,), images=("image",), features=FEATURES, classes=CLASSES):
    """A resolved card; every output that has classes has the same ones."""
    labelled = [output.name for output in outputs if isinstance(output, ClassificationOutput | DetectionOutput)]
    return ResolvedCard(
        name="test",
        version="1",
        image_inputs=tuple(ImageInput(tensor=tensor) for tensor in images),
        feature_inputs=(FeaturesInput(tensor="sensors", features=tuple(features)),) if features else (),
        state_inputs=(),
        outputs=tuple(outputs),
        labels={name: tuple(classes) for name in labelled} if classes else {},
        budgets=Budgets(),
        golden=Golden(),
        notes=(),
    )


def picture(number, height=6, width=8):
    """(height, width, 3) uint8 BGR, different for each number, its three channels different."""
    ramp = (np.arange(height * width).reshape(height, width) + 7 * number) % 200
    return np.stack([ramp, ramp + 20, ramp + 50], axis=-1).astype(np.uint8)


def write_pictures(folder, count, names="{}.png"):
    """PNG files, numbered; returns their names."""
    found = [names.format(number) for number in range(count)]
    for number, name in enumerate(found):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), picture(number))
    return found


def write_table(folder, header, rows, name="samples.csv", delimiter=",", **how):
    """A CSV from text cells, as a person writes it."""
    lines = [delimiter.join(header), *(delimiter.join(map(str, row)) for row in rows)]
    path = folder / name
    path.write_bytes((how.get("end", "\n").join(lines) + how.get("end", "\n")).encode(how.get("encoding", "utf-8")))
    return path


def bitwise_crc32c(content):
    """By the definition, one bit after the other: RFC 3720, appendix B.4."""
    register = 0xFFFFFFFF
    for byte in content:
        register ^= byte
        for _ in range(8):
            register = (register >> 1) ^ (0x82F63B78 if register & 1 else 0)
    return register ^ 0xFFFFFFFF


def masked(content):
    crc = bitwise_crc32c(content)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def record(content):
    """The frame of one record of a TFRecord file."""
    length = struct.pack("<Q", len(content))
    return length + struct.pack("<I", masked(length)) + content + struct.pack("<I", masked(content))


def example_message(**features):
    """A tf.train.Example written by hand from the wire format: bytes, text, floats or whole numbers, by key with "__"
    for "/"."""
    entries = b"".join(
        _field(1, _field(1, key.replace("__", "/").encode()) + _field(2, _feature(values)))
        for key, values in features.items()
    )
    return _field(1, entries)


def _feature(values):
    values = values if isinstance(values, list) else [values]
    if any(isinstance(value, bytes | str) for value in values):
        return _field(1, b"".join(_field(1, v.encode() if isinstance(v, str) else v) for v in values))
    if any(isinstance(value, float) for value in values):
        return _field(2, _field(1, struct.pack(f"<{len(values)}f", *values)))
    return _field(3, _field(1, b"".join(map(_varint, values))))


def _field(number, content):
    """A length-delimited field."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value):
    value &= 2**64 - 1
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def png(number):
    done, encoded = cv2.imencode(".png", picture(number))
    assert done
    return encoded.tobytes()
