"""Trains the example's model, converts it to int8, and writes model/conveyor.tflite and model/report.json.

    python examples/conveyor/train.py

Needs the packages of requirements.txt beside it (TensorFlow: 2.4 GB); running the model needs none of them. One seed
decides everything.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from bundle import feature_tensor, image_tensor, labelled_tensor, model_metadata, with_members, with_metadata
from dataset import Dataset, draw_dataset
from device import DeviceModel
from parts import CLASSES, SENSORS, TEMPERATURE_C, UNITS, VIBRATION_MM_S, WEIGHT_G

from edge_agent.core.card_schema import CARD_MEMBER, CARD_SCHEMA, GOLDEN_MEMBER, Card
from edge_agent.io.runtimes.litert import LiteRtRuntime

SEED = 2026
TRAIN_SET, TEST_SET, GOLDEN_SET = SEED, SEED + 1, SEED + 2  # seeds of the sets; evaluate.py has its own
TRAIN_COUNT, TEST_COUNT, GOLDEN_COUNT = 10_000, 2_000, 200
CALIBRATION_COUNT = 300
BATCH, EPOCHS, LEARNING_RATE = 64, 12, 3e-3
CLIP = 4.0
VALID_RANGE = {"weight": (0.0, 1000.0), "temperature": (-20.0, 150.0), "vibration": (0.0, 20.0)}
NAME, VERSION = "conveyor", "1.0.0"
DESCRIPTION = "Faults of parts on a conveyor, judged from one picture and three sensors"
LABELS = "labels.txt"

Arrays = dict[str, npt.NDArray[Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "model", help="folder to write to")
    arguments = parser.parse_args()
    print("drawing the sets")
    train, test = draw_dataset(TRAIN_SET, TRAIN_COUNT), draw_dataset(TEST_SET, TEST_COUNT)
    scaling = _scaling(train)
    exported, report = _train_all(train, test, scaling)
    converted = _convert(exported, _calibration(train, scaling))
    flatbuffer = with_metadata(converted, _metadata(converted))
    card = _card(train, scaling)
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "conveyor.tflite"
    path.write_bytes(with_members(flatbuffer, _members(card, None)))
    path.write_bytes(with_members(flatbuffer, _members(card, _golden(path))))
    report["bytes"] = {"flatbuffer": len(flatbuffer), "file": path.stat().st_size}
    report["accuracy"]["hybrid_int8"] = _device_accuracy(path)
    (arguments.out / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


def _scaling(train: Dataset) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean and standard deviation of each sensor, with the few digits that the card shows."""
    return train.readings.mean(axis=0).round(3), train.readings.std(axis=0).round(3)


def _inputs(data: Dataset, scaling: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]) -> Arrays:
    """What the float models take: pixels in 0..1 and clipped z-scores."""
    scores = np.clip((data.readings - scaling[0]) / scaling[1], -CLIP, CLIP)
    return {"image": data.images.astype(np.float32) / 255, "sensors": scores.astype(np.float32)}


def _targets(data: Dataset) -> Arrays:
    kinds = [list(VIBRATION_MM_S), list(WEIGHT_G), list(TEMPERATURE_C)]
    shape, size, finish = (
        np.array([names.index(kind) for kind in column]) for names, column in zip(kinds, data.kinds.T, strict=True)
    )
    scratched = (data.labels == CLASSES.index("scratched")).astype(np.int64)
    return {"fault": data.labels, "shape": shape, "size": size, "finish": finish, "scratched": scratched}


def _train_all(train: Dataset, test: Dataset, scaling: Any) -> tuple[Any, dict[str, Any]]:
    """The hybrid to export, and a report with the accuracy of the three float models on the test set."""
    # after the sets: their worker processes are forks, and TensorFlow's threads don't survive one
    import keras
    import tensorflow as tf
    from network import hybrid, image_only, sensors_only

    tf.config.experimental.enable_op_determinism()
    rows, targets, test_rows = _inputs(train, scaling), _targets(train), _inputs(test, scaling)
    accuracy = {"most_frequent_class": float(np.bincount(test.labels).max() / len(test.labels))}
    exported = None
    for name, build in (("hybrid_float", hybrid), ("sensors_only", sensors_only), ("image_only", image_only)):
        print(f"training {name}")
        keras.utils.set_random_seed(SEED)
        model = build()
        if isinstance(model, tuple):
            exported, model = model
        _fit(model, rows, targets)
        found = model.predict({key: test_rows[key] for key in model.input}, batch_size=250, verbose=0)["fault"]
        accuracy[name] = float(np.mean(found.argmax(axis=1) == test.labels))
        print(f"{name}: {accuracy[name]:.4f} on the test set")
    sets = {"train": {"seed": TRAIN_SET, "count": TRAIN_COUNT}, "test": {"seed": TEST_SET, "count": TEST_COUNT}}
    return exported, {"sets": sets, "parameters": exported.count_params(), "accuracy": accuracy}


def _fit(model: Any, rows: Arrays, targets: Arrays) -> None:
    import keras
    from network import AUXILIARY_WEIGHT

    heads = list(model.output)
    steps = -(-len(targets["fault"]) // BATCH) * EPOCHS
    model.compile(
        optimizer=keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(LEARNING_RATE, steps)),
        loss=dict.fromkeys(heads, "sparse_categorical_crossentropy"),
        loss_weights={head: 1.0 if head == "fault" else AUXILIARY_WEIGHT for head in heads},
        metrics={"fault": "accuracy"},
        jit_compile=False,
    )
    model.fit(
        {key: rows[key] for key in model.input},
        {head: targets[head] for head in heads},
        batch_size=BATCH,
        epochs=EPOCHS,
        verbose=2,
    )


def _calibration(train: Dataset, scaling: Any) -> list[Arrays]:
    """Real samples, and a few that pin the inputs' ranges: pixels to 0..1, z-scores to +-CLIP.

    Pinned, the scales are exactly 1/255 and 8/255 whatever the samples were. One value at a time is moved to its end,
    so that what the layers see inside stays typical.
    """
    count = CALIBRATION_COUNT
    few = Dataset(train.images[:count], train.readings[:count], train.labels[:count], train.kinds[:count])
    rows = _inputs(few, scaling)
    samples = [{key: rows[key][i : i + 1].copy() for key in rows} for i in range(count)]
    samples[0]["image"][0, 0, 0], samples[1]["image"][0, 0, 0] = 0.0, 1.0
    samples[0]["sensors"][0, 0], samples[1]["sensors"][0, 0] = -CLIP, CLIP
    return samples


def _convert(model: Any, calibration: list[Arrays]) -> bytes:
    """Keras -> SavedModel -> full int8 flatbuffer with int8 inputs and outputs."""
    import tensorflow as tf
    from keras.export import ExportArchive

    def representative() -> Iterator[Arrays]:
        # by name: the converter orders inputs as it likes
        yield from calibration

    archive = ExportArchive()
    archive.track(model)
    archive.add_endpoint(
        "serve",
        lambda inputs: {"fault": model(inputs)},
        [{key: tf.TensorSpec((1, *model.input[key].shape[1:]), tf.float32, name=key) for key in model.input}],
    )
    with tempfile.TemporaryDirectory() as folder:
        archive.write_out(folder, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["serve"])
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = representative
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
        # a scale for each output of a Dense layer is silently wrong on some older interpreters
        converter._experimental_disable_per_channel_quantization_for_dense_layers = True
        return bytes(converter.convert())


def _metadata(model: bytes) -> bytes:
    """What standard tools read: content, normalisation, labels; inputs in the order that the converter chose."""
    inputs = {
        "image": image_tensor("image", "the part on the belt from above, 96x96", mean=0.0, std=255.0),
        "sensors": feature_tensor("sensors", f"z-scores of {', '.join(SENSORS)}: see {CARD_MEMBER}"),
    }
    fault = labelled_tensor("fault", "probability of each class", LABELS)
    order = [spec.name for spec in LiteRtRuntime(model).inputs]
    return model_metadata(NAME, DESCRIPTION, VERSION, [inputs[name] for name in order], [fault])


def _card(train: Dataset, scaling: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]) -> bytes:
    features = [
        {"name": name, "unit": unit, "mean": mean, "std": std, "clip": CLIP, "range": VALID_RANGE[name], "fill": mean}
        for name, unit, mean, std in zip(SENSORS, UNITS, *(column.tolist() for column in scaling), strict=True)
    ]
    packages = ("tensorflow", "keras", "numpy", "opencv-python-headless")
    card = {
        "schema": CARD_SCHEMA,
        "name": NAME,
        "version": VERSION,
        "inputs": [
            {"role": "image", "tensor": "image", "color": "rgb", "resize": "bilinear", "fit": "stretch"}
            | {"mean": [0.0], "std": [255.0]},
            {"role": "features", "tensor": "sensors", "features": features},
        ],
        "outputs": [{"task": "classification", "tensor": "fault", "name": "fault", "labels": LABELS}],
        "golden": {"tolerance_lsb": 40, "argmax": True},
        "provenance": {
            "description": DESCRIPTION,
            "source": "examples/conveyor/train.py",
            "license": "Apache-2.0",
            "seed": SEED,
            "training_samples": TRAIN_COUNT,
            "training_data_sha256": train.sha256(),
            "versions": {package: version(package) for package in packages},
        },
    }
    msgspec.convert(card, Card)
    return json.dumps(card, indent=1).encode()


def _members(card: bytes, golden: bytes | None) -> dict[str, bytes]:
    members = {LABELS: "".join(f"{label}\n" for label in CLASSES).encode(), CARD_MEMBER: card}
    return members if golden is None else {**members, GOLDEN_MEMBER: golden}


def _golden(path: Path) -> bytes:
    """One sample of each class as quantised tensors with what the device's interpreter makes of them: arrays
    "input/NAME" and "output/NAME", a row for each sample.

    Those with the widest margin between the best class and the next, on which both kinds of kernels agree.
    """
    usual, reference = DeviceModel(path), DeviceModel(path, default_delegates=False)
    drawn = usual.draw(GOLDEN_SET, GOLDEN_COUNT)
    outputs = np.stack([usual.run(*pair) for pair in zip(drawn.image, drawn.sensors, strict=True)])
    others = np.stack([reference.run(*pair) for pair in zip(drawn.image, drawn.sensors, strict=True)])
    ordered = np.sort(outputs.astype(np.int64), axis=1)
    margin = ordered[:, -1] - ordered[:, -2]
    usable = (outputs.argmax(axis=1) == drawn.labels) & (outputs == others).all(axis=1)
    chosen = []
    for label in range(len(CLASSES)):
        (rows,) = np.nonzero(usable & (drawn.labels == label))
        chosen.append(rows[margin[rows].argmax()])
    stream = io.BytesIO()
    arrays = {"input/image": drawn.image, "input/sensors": drawn.sensors, "output/fault": outputs[:, None]}
    np.savez_compressed(stream, **{name: array[chosen] for name, array in arrays.items()})
    return stream.getvalue()


def _device_accuracy(path: Path) -> float:
    model = DeviceModel(path)
    drawn = model.draw(TEST_SET, TEST_COUNT)
    return float(np.mean(model.classify(drawn.image, drawn.sensors) == drawn.labels))


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    main()
