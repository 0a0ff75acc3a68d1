"""Trains the benchmark's Keras network, inside the environment of the framework: numpy and the framework only.

``python train_keras.py --arrays FOLDER --out FOLDER --keras 2|3``. The arrays are SPLIT-image.npy (uint8 RGB),
SPLIT-chemistry.npy (z-scores) and SPLIT-code.npy, mean.npy and std.npy of the readings. Keras 3 writes model.keras,
saved_model/ and raw_sensors.keras, Keras 2 model.keras and model.h5; both write training.json.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import time
from pathlib import Path
from typing import Any

SEED = 7
EPOCHS = 10
BATCH = 64
RATE = 4e-3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arrays", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--keras", type=int, choices=(2, 3), required=True)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    chosen = parser.parse_args()
    if chosen.keras == 2:
        os.environ["TF_USE_LEGACY_KERAS"] = "1"  # before TensorFlow is imported
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    keras = importlib.import_module("tf_keras" if chosen.keras == 2 else "keras")
    chosen.out.mkdir(parents=True, exist_ok=True)
    train(keras, chosen.arrays, chosen.out, chosen.keras, chosen.epochs)


def train(keras: Any, arrays: Path, out: Path, generation: int, epochs: int) -> None:
    import tensorflow as tf
    from networks_keras import hybrid

    started = time.monotonic()
    tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(SEED)
    model = hybrid(keras)
    inputs, codes = load(arrays, "train")
    steps = epochs * -(-len(codes) // BATCH)
    schedule = keras.optimizers.schedules.CosineDecay(RATE, steps)
    model.compile(keras.optimizers.Adam(schedule), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(inputs, codes, batch_size=BATCH, epochs=epochs, verbose=2)
    inputs, codes = load(arrays, "test")
    accuracy = float((model.predict(inputs, batch_size=256, verbose=0).argmax(axis=1) == codes).mean())
    model.save(out / "model.keras")
    if generation == 2:
        model.save(out / "model.h5")
    else:
        save_signature(keras, model, out / "saved_model")
        with_raw_sensors(keras, model, arrays).save(out / "raw_sensors.keras")
    seconds = time.monotonic() - started
    facts = {"accuracy": accuracy, "parameters": int(model.count_params()), "seconds": round(seconds, 1)}
    (out / "training.json").write_text(json.dumps(facts))
    print(json.dumps(facts))


def save_signature(keras: Any, model: Any, folder: Path) -> None:
    """A SavedModel whose one signature names its output: plain ``model.export`` would call it output_0."""
    import tensorflow as tf

    archive = keras.export.ExportArchive()
    archive.track(model)
    shapes = {name: tf.TensorSpec(tensor.shape, tf.float32, name=name) for name, tensor in model.input.items()}
    archive.add_endpoint("serving_default", lambda inputs: {"code": model(inputs)}, [shapes])
    archive.write_out(str(folder), verbose=False)


def with_raw_sensors(keras: Any, model: Any, arrays: Path) -> Any:
    """The same function on readings in their own units: it scales them itself. What not to convert to int8."""
    import numpy as np

    mean, std = np.load(arrays / "mean.npy"), np.load(arrays / "std.npy")
    image = keras.Input(model.input["image"].shape[1:], name="image")
    chemistry = keras.Input(model.input["chemistry"].shape[1:], name="chemistry")
    scaled = keras.layers.Normalization(mean=mean, variance=std**2)(chemistry)
    code = keras.layers.Identity(name="code")(model({"image": image, "chemistry": scaled}))
    return keras.Model({"image": image, "chemistry": chemistry}, code)


def load(arrays: Path, split: str) -> tuple[dict[str, Any], Any]:
    """Inputs by name as the model takes them, and the true codes."""
    import numpy as np

    image = np.load(arrays / f"{split}-image.npy").astype(np.float32) / 255
    chemistry = np.load(arrays / f"{split}-chemistry.npy").astype(np.float32)
    return {"image": image, "chemistry": chemistry}, np.load(arrays / f"{split}-code.npy")


if __name__ == "__main__":
    main()
