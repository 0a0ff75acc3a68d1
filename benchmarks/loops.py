"""The loops people write by hand, each in its own process: ``python -m benchmarks.loops KIND VIDEO MODEL PORT N``.

Prints one JSON object: seconds for N frames and seconds spent in invoke. KIND: raw, preprocess, numpy,
pil, mediapipe.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np


def frames(video: str, count: int) -> Iterator[Any]:
    import cv2

    capture = cv2.VideoCapture(video)
    for _ in range(count):
        more, frame = capture.read()
        if not more:  # the video is shorter than the run
            capture.release()
            capture = cv2.VideoCapture(video)
            more, frame = capture.read()
        yield frame


def publisher(port: int) -> Callable[[dict[str, Any]], None]:
    import paho.mqtt.client as paho
    from paho.mqtt.enums import CallbackAPIVersion

    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", port)
    client.loop_start()
    return lambda message: client.publish("loop/prediction", json.dumps(message), qos=1) and None


def raw(model: str, count: int) -> tuple[float, float]:
    """Nothing but invoke: the limit."""
    interpreter = _interpreter(model)
    interpreter.invoke()
    started = time.perf_counter()
    for _ in range(count):
        interpreter.invoke()
    seconds = time.perf_counter() - started
    return seconds, seconds


def preprocess(video: str, model: str, count: int) -> tuple[float, float]:
    """The daemon's own way from a frame of the video to the ready tensor, and nothing else."""
    from pathlib import Path

    from edge_agent.assembly import load_model
    from edge_agent.config.schema import ModelConfig
    from edge_agent.loading import ModelRequest

    config = ModelConfig(path=model)
    engine = load_model(ModelRequest("m", config, Path(), (), 1, {}, "benchmark")).engine
    tensors, frame = engine.image_slot(), next(frames(video, 1))
    engine.prepare(frame, tensors)
    started = time.perf_counter()
    for _ in range(count):
        engine.prepare(frame, tensors)
    return time.perf_counter() - started, 0.0


def by_hand(kind: str, video: str, model: str, port: int, count: int) -> tuple[float, float]:
    """VideoCapture, PIL or numpy, set_tensor, invoke, publish, one after the other."""
    import cv2
    from PIL import Image

    interpreter = _interpreter(model)
    details, output = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    size, (scale, zero_point) = int(details["shape"][1]), details["quantization"]
    publish, spent = publisher(port), 0.0
    interpreter.invoke()
    started = time.perf_counter()
    for number, frame in enumerate(frames(video, count)):
        colored = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        if kind == "pil":
            real = np.asarray(Image.fromarray(colored).resize((size, size)), np.float32) / 127.5 - 1
        else:
            real = cv2.resize(colored, (size, size)) / 127.5 - 1
        tensor = np.clip(np.round(real / scale + zero_point), 0, 255).astype(np.uint8)[None]
        interpreter.set_tensor(details["index"], tensor)
        before = time.perf_counter()
        interpreter.invoke()
        spent += time.perf_counter() - before
        scores = interpreter.get_tensor(output["index"])[0] * output["quantization"][0]
        best = np.argsort(scores)[::-1][:5]
        publish({"frame": number, "time": time.time(), "classes": [[int(i), float(scores[i])] for i in best]})
    return time.perf_counter() - started, spent


def mediapipe(video: str, model: str, port: int, count: int) -> tuple[float, float]:
    """MediaPipe Tasks' image classifier on the same frames."""
    import cv2
    import mediapipe as mp
    from mediapipe.tasks.python import BaseOptions, vision

    options = vision.ImageClassifierOptions(base_options=BaseOptions(model_asset_path=model), max_results=5)
    publish = publisher(port)
    spent = 0.0
    with vision.ImageClassifier.create_from_options(options) as classifier:
        started = time.perf_counter()
        for number, frame in enumerate(frames(video, count)):
            image = mp.Image(image_format=mp.ImageFormat.SRGB, data=cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
            before = time.perf_counter()
            result = classifier.classify(image)
            spent += time.perf_counter() - before
            classes = [[item.index, item.score] for item in result.classifications[0].categories]
            publish({"frame": number, "time": time.time(), "classes": classes})
        return time.perf_counter() - started, spent


def _interpreter(model: str) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model, num_threads=1)
    interpreter.allocate_tensors()
    return interpreter


def main() -> None:
    kind, video, model, port, count = sys.argv[1:6]
    if kind == "raw":
        seconds, invoke = raw(model, int(count))
    elif kind == "preprocess":
        seconds, invoke = preprocess(video, model, int(count))
    elif kind == "mediapipe":
        seconds, invoke = mediapipe(video, model, int(port), int(count))
    else:
        seconds, invoke = by_hand(kind, video, model, int(port), int(count))
    print(json.dumps({"seconds": seconds, "invoke_s": invoke}))


if __name__ == "__main__":
    main()
