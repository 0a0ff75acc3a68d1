"""Measures the shipped model as a device runs it, on samples that nobody has seen. Needs no TensorFlow.

    python examples/conveyor/evaluate.py [--count 2000] [--seed 31415] [--json]

What the model owes to each input shows when the other samples' pictures or readings are put in its place. The two
models that were trained without one of the inputs are not shipped: their accuracy is the one that training wrote down.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from device import MODEL, DeviceModel

FRESH_SEED = 31415  # none of train.py's sets
NAMES = {
    "both": "both inputs",
    "sensors_shuffled": "sensors of other parts",
    "image_shuffled": "picture of another part",
    "image_only": "trained on the picture alone *",
    "sensors_only": "trained on the sensors alone *",
    "most_frequent_class": "always the most frequent class",
}


def measure_model(model: DeviceModel, seed: int, count: int) -> dict[str, Any]:
    """``accuracy`` by condition and ``confusion`` (rows: truth, columns: answer) over the first ``count`` samples of
    the set ``seed``."""
    drawn = model.draw(seed, count)
    order = np.random.default_rng(seed).permutation(count)
    answers = model.classify(drawn.image, drawn.sensors)
    confusion = np.zeros((len(model.labels), len(model.labels)), np.int64)
    np.add.at(confusion, (drawn.labels, answers), 1)
    accuracy = {
        "both": np.mean(answers == drawn.labels),
        "sensors_shuffled": np.mean(model.classify(drawn.image, drawn.sensors[order]) == drawn.labels),
        "image_shuffled": np.mean(model.classify(drawn.image[order], drawn.sensors) == drawn.labels),
        "most_frequent_class": confusion.sum(axis=1).max() / count,
    }
    return {
        "seed": seed,
        "count": count,
        "accuracy": {name: round(float(value), 4) for name, value in accuracy.items()},
        "labels": list(model.labels),
        "confusion": confusion.tolist(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=MODEL, help="with report.json beside it")
    parser.add_argument("--seed", type=int, default=FRESH_SEED)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    trained = json.loads((arguments.model.parent / "report.json").read_text())["accuracy"]
    result = measure_model(DeviceModel(arguments.model), arguments.seed, arguments.count)
    result["accuracy"] |= {name: trained[name] for name in ("image_only", "sensors_only")}
    print(json.dumps(result, indent=2) if arguments.json else _as_text(result))


def _as_text(result: dict[str, Any]) -> str:
    width = max(map(len, NAMES.values())) + 2
    lines = [f"{result['count']} samples of seed {result['seed']}", "", f"{'':{width}}accuracy"]
    lines += [f"{text:{width}}{result['accuracy'][name]:8.1%}" for name, text in NAMES.items()]
    lines += ["", "* float models, as measured by train.py on its own test set", ""]
    short = max(map(len, result["labels"])) + 2
    lines.append("truth \\ answer".ljust(short + 2) + "".join(f"{label:>{short}}" for label in result["labels"]))
    for label, row in zip(result["labels"], result["confusion"], strict=True):
        lines.append(f"{label:{short + 2}}" + "".join(f"{number:{short}}" for number in row))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
