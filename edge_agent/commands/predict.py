"""``edge-agent predict``: one sample through a model, with the daemon's own arithmetic and back-ends."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge_agent.assembly import LoadedModel, load_model, wanted_arguments
from edge_agent.commands.common import add_json, parser
from edge_agent.commands.model_argument import add_model, model_argument
from edge_agent.config.schema import AlignConfig
from edge_agent.core.align import Aligner
from edge_agent.core.wire import prediction_body, seal
from edge_agent.errors import ConfigError
from edge_agent.io.clock import SystemClock
from edge_agent.io.image_file import read_image
from edge_agent.outgoing import Schema
from edge_agent.records import Array, Crossing, Discard, Flag, Latency, Prediction, Reading, Sample


def main(argv: Sequence[str]) -> int:
    options = _arguments().parse_args(argv)
    model = load_model(model_argument(options))
    for back_end, reason in model.tried:
        print(f"edge-agent predict: {back_end} is not used: {reason}", file=sys.stderr)
    prediction = predict(model, options.image, _features(options.feature), options.threshold)
    clock = SystemClock()
    if options.json:
        body = prediction_body(prediction, None)
        print(seal(Schema.PREDICTION, body, clock.wall_ns(prediction.mono_ns), clock.synced(), buffered=False).decode())
    else:
        print(_text(model, prediction))
    return 0


def predict(
    model: LoadedModel, images: Sequence[str], features: dict[str, float | None], threshold: float | None
) -> Prediction:
    """One run. ``images``: "FILE" for every image input, or "TENSOR=FILE". Raises ConfigError, ModelError."""
    engine, clock = model.engine, SystemClock()
    started_ns = clock.monotonic_ns()
    files = _image_files(images, tuple(engine.images))
    pixels = {file: read_image(Path(file)) for file in set(files.values())}
    read_ns = clock.monotonic_ns()
    sample = _sample(model, features, read_ns)
    aligned_ns = clock.monotonic_ns()
    tensors: dict[str, Array] = engine.image_slot()
    crossing = Crossing()
    for tensor, file in files.items():
        crossing = engine.prepare(pixels[file], {tensor: tensors[tensor]})
    prepared_ns = clock.monotonic_ns()
    outputs = engine.invoke(tensors, sample.features)
    invoked_ns = clock.monotonic_ns()
    decoded = engine.decode(outputs, crossing, threshold)
    done_ns = clock.monotonic_ns()
    latency = Latency(
        capture=read_ns - started_ns,
        align=aligned_ns - read_ns,
        preprocess=prepared_ns - aligned_ns,
        invoke=invoked_ns - prepared_ns,
        decode=done_ns - invoked_ns,
        total=done_ns - started_ns,
    )
    return Prediction(
        pipeline="",
        frame_seq=0,
        mono_ns=read_ns,
        time_source="arrival",
        model=engine.identity,
        delegate=engine.runtime.info.delegate,
        latency=latency,
        outputs=decoded,
        readings=sample.readings,
        quality=sample.quality,
    )


def _arguments() -> argparse.ArgumentParser:
    arguments = parser("predict", "Run one sample through a model and print the prediction.")
    add_model(arguments)
    arguments.add_argument(
        "--image",
        action="append",
        default=[],
        metavar="FILE",
        help="picture; TENSOR=FILE where the model takes several",
    )
    arguments.add_argument(
        "--feature", action="append", default=[], metavar="NAME=VALUE", help="one sensor value, in the card's unit"
    )
    arguments.add_argument("--threshold", type=_score, help="least score, 0 to 1 (default: the card's)")
    add_json(arguments)
    return arguments


def _score(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number from 0 to 1")
    return value


def _features(arguments: Sequence[str]) -> dict[str, float | None]:
    """NAME=VALUE pairs; a value that is no finite number is kept as invalid (None), as from a sensor."""
    features: dict[str, float | None] = {}
    for argument in arguments:
        name, separator, text = argument.partition("=")
        if not separator or not name:
            raise ConfigError(f"--feature {argument!r}: expected NAME=VALUE, such as --feature weight=412.5")
        try:
            value = float(text)
        except ValueError:
            raise ConfigError(
                f"--feature {argument!r}: {text!r} is not a number; leave it out if it is not known"
            ) from None
        features[name] = value if math.isfinite(value) else None
    return features


def _image_files(images: Sequence[str], tensors: tuple[str, ...]) -> dict[str, str]:
    """Input tensor -> file."""
    files: dict[str, str] = {}
    for image in images:
        tensor, separator, file = image.partition("=")
        if separator and tensor in tensors:
            files[tensor] = file
        elif tensors:
            files.update(dict.fromkeys(tensors, image))
        else:
            raise ConfigError(f"--image {image}: this model takes no picture")
    missing = [tensor for tensor in tensors if tensor not in files]
    if missing:
        raise ConfigError(f"this model takes a picture ({', '.join(missing)}): add --image FILE")
    return files


def _sample(model: LoadedModel, features: dict[str, float | None], now_ns: int) -> Sample:
    """The daemon's own rules for missing, filled and out-of-range values, on readings of this very moment."""
    wanted = {want.name: want for want in wanted_arguments(model.engine)}
    for name in features.keys() - wanted.keys():
        known = ", ".join(wanted) or "none"
        raise ConfigError(f"--feature {name}: the model has no such feature; its features: {known}")
    aligner = Aligner(list(wanted.values()), AlignConfig())
    for name, value in features.items():
        flags = () if value is not None else (Flag.INVALID,)
        aligner.add(Reading(wanted[name].key, now_ns, value, wanted[name].unit, flags), now_ns)
    sample = aligner.align(now_ns)
    if isinstance(sample, Discard):
        raise ConfigError(sample.detail)
    return sample


def _text(model: LoadedModel, prediction: Prediction) -> str:
    info = model.engine.runtime.info
    identity = prediction.model
    lines = [f"model     {identity.name} {identity.version}  sha256 {identity.sha256[:12]}"]
    lines.append(f"ran on    {info.delegate} ({info.runtime}, {info.threads} threads)")
    for note in model.engine.card.notes:
        lines.append(f"note      {note}")
    for name, output in prediction.outputs.items():
        lines += _output_lines(name, output)
    for name, reading in prediction.readings.items():
        value = "missing" if reading.value is None else f"{reading.value:g} {reading.unit}"
        flags = f"  [{', '.join(flag.value for flag in reading.flags)}]" if reading.flags else ""
        lines.append(f"reading   {name} = {value}{flags}")
    filled = [name for name, reading in prediction.readings.items() if Flag.FILLED in reading.flags]
    if filled:
        lines.append(f"note      the answer rests on the card's fill values for {', '.join(filled)}")
    latency = prediction.latency
    lines.append(f"latency   invoke {latency.invoke / 1e6:.2f} ms, total {latency.total / 1e6:.2f} ms")
    return "\n".join(lines)


def _output_lines(name: str, output: dict[str, Any]) -> list[str]:
    task = output["task"]
    if task == "classification":
        rows = [f"{item['score']:8.4f}  {item['label']}" for item in output["classes"]]
    elif task == "detection":
        boxes = ("  ".join(f"{edge:.3f}" for edge in item["box"]) for item in output["boxes"])
        rows = [
            f"{item['score']:8.4f}  {item['label']:<12} {box}" for item, box in zip(output["boxes"], boxes, strict=True)
        ]
    elif task == "regression":
        rows = [f"{output['value']:g} {output['unit']}"]
    else:
        rows = [f"score {output['score']:g}, {'anomalous' if output['anomalous'] else 'normal'}"]
    return [f"output    {name} ({task})", *(f"          {row}" for row in rows or ["nothing over the threshold"])]
