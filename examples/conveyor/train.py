"""Trains the example's model in float and writes conveyor.keras, card.toml and report.json to a folder.

    python examples/conveyor/train.py --out build

Needs the packages of requirements.txt beside it. One seed decides everything. ``edge-convert convert`` makes the int8
model of it (REPORT.md).
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from dataset import TEST_COUNT, TEST_SET, TRAIN_COUNT, TRAIN_SET, Dataset, draw_dataset
from parts import CLASSES, SENSORS, TEMPERATURE_C, UNITS, VIBRATION_MM_S, WEIGHT_G

SEED = 2026
BATCH, EPOCHS, LEARNING_RATE = 64, 12, 3e-3
CLIP = 4.0
VALID_RANGE = {"weight": (0.0, 1000.0), "temperature": (-20.0, 150.0), "vibration": (0.0, 20.0)}

Arrays = dict[str, npt.NDArray[Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "build", help="folder to write to")
    arguments = parser.parse_args()
    print("drawing the sets")
    train, test = draw_dataset(TRAIN_SET, TRAIN_COUNT), draw_dataset(TEST_SET, TEST_COUNT)
    scaling = _scaling(train)
    exported, report = _train_all(train, test, scaling)
    arguments.out.mkdir(parents=True, exist_ok=True)
    exported.save(arguments.out / "conveyor.keras")
    (arguments.out / "card.toml").write_text(_card(train, scaling))
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


def _card(train: Dataset, scaling: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]) -> str:
    """What edge-convert is told of the model: roles, labels, and the scaling that stays outside the graph."""
    features = "".join(
        f"    {{ name = {_text(name)}, unit = {_text(unit)}, mean = {mean}, std = {std}, clip = {CLIP}, "
        f"range = {list(VALID_RANGE[name])} }},\n"
        for name, unit, mean, std in zip(SENSORS, UNITS, *(column.tolist() for column in scaling), strict=True)
    )
    return f"""name = "conveyor"
version = "1.1.0"

[[inputs]]
role = "image"
tensor = "image"
color = "rgb"
resize = "bilinear"
fit = "stretch"
mean = [0.0]
std = [255.0]

[[inputs]]
role = "features"
tensor = "sensors"
features = [
{features}]

[[outputs]]
task = "classification"
tensor = "fault"
name = "fault"
labels = [{", ".join(map(_text, CLASSES))}]

[provenance]
description = "Faults of parts on a conveyor, judged from one picture and three sensors"
source = "examples/conveyor/train.py"
license = "Apache-2.0"
seed = {SEED}
training_samples = {TRAIN_COUNT}
training_data_sha256 = "{train.sha256()}"
"""


def _text(value: str) -> str:
    return json.dumps(value)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    main()
